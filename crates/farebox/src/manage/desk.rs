//! Where commands meet the API: one connection, one output, one way to show an answer.

use std::process::ExitCode;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Status;

use super::{
    connect::{AdminArgs, Road},
    refusal::failure_of,
};
use crate::agent::{Align, Failure, Output, failure, render};

/// A command's connection and output.
pub(crate) struct Desk {
    pub(crate) road: Road,
    json: bool,
    output: Output,
}

impl Desk {
    /// Connects, runs `work`, and says how it ended.
    pub(crate) async fn with(
        args: AdminArgs,
        work: impl AsyncFnOnce(&mut Desk) -> Result<(), Failure>,
    ) -> anyhow::Result<ExitCode> {
        let mut output = Output::standard();
        let road = match args.access.connect().await {
            Ok(road) => road,
            Err(failure) => return failure::finish(Err(failure), &mut output),
        };
        let mut desk = Desk { road, json: args.json, output };
        let ended = work(&mut desk).await;
        failure::finish(ended, &mut desk.output)
    }

    /// An answer, in JSON or for people. `name`: of the message, in `farebox.admin.v1`.
    pub(crate) fn show<M: Message>(
        &mut self,
        name: &str,
        message: &M,
        human: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            self.output.line(&to_json(name, message, false))?;
        } else {
            self.output.write(human(message))?;
        }
        Ok(())
    }

    /// Everything about one thing: people read JSON well enough here.
    pub(crate) fn detail<M: Message>(&mut self, name: &str, message: &M) -> Result<(), Failure> {
        let pretty = !self.json;
        Ok(self.output.line(&to_json(name, message, pretty))?)
    }

    /// Many answers: a table, or a line of JSON each.
    pub(crate) fn list<M: Message>(
        &mut self,
        name: &str,
        messages: &[M],
        columns: &[(&str, Align)],
        row: impl Fn(&M) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.json {
            for message in messages {
                self.output.line(&to_json(name, message, false))?;
            }
        } else if messages.is_empty() {
            self.output.note("none");
        } else {
            let rows: Vec<Vec<String>> = messages.iter().map(row).collect();
            self.output.write(render(columns, &rows))?;
        }
        Ok(())
    }

    /// Said about an answer, not part of it.
    pub(crate) fn note(&mut self, text: &str) {
        self.output.note(text);
    }
}

/// Protobuf's JSON form: <https://protobuf.dev/programming-guides/json/>.
fn to_json<M: Message>(name: &str, message: &M, pretty: bool) -> String {
    let pool = DescriptorPool::decode(farebox_admin::DESCRIPTOR).expect("the build wrote it");
    let described = pool.get_message_by_name(&format!("farebox.admin.v1.{name}")).expect("a message of the API");
    let message = DynamicMessage::decode(described, message.encode_to_vec().as_slice()).expect("it was just encoded");
    let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
    text.expect("texts and numbers are JSON")
}

/// All pages of a list.
pub(crate) async fn all<T, F>(mut page: impl FnMut(String) -> F) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(token).await.map_err(failure_of)?;
        items.extend(more);
        if next.is_empty() {
            return Ok(items);
        }
        token = next;
    }
}
