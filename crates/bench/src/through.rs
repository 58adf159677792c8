//! The call through farebox, as an agent without generated code makes it: OpenAI's JSON on `llm.request`.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use farebox_bus::{Bus, Delivery, Headers, Login, Options};
use farebox_proto::{headers, subjects::agent};

use crate::{
    config::KEY,
    target::{Reading, Streamed, is_answer},
};

/// Longer than the bound that every call has anyway.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Through(Bus);

impl Through {
    pub(crate) async fn connect(nats: &str) -> anyhow::Result<Through> {
        let options = Options { url: nats.to_owned(), name: "farebox-bench".to_owned(), ..Options::default() };
        let bus = Bus::connect_as(&options, Login::Token(KEY.1.to_owned())).await;
        Ok(Through(bus.with_context(|| format!("cannot connect to NATS at {nats}"))?))
    }

    pub(crate) async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let answer = self.0.request(agent::REQUEST, json(), body, WITHIN).await?;
        check(&answer)
    }

    pub(crate) async fn stream(&self, body: Bytes) -> anyhow::Result<Streamed> {
        let mut inbox = self.0.inbox();
        self.0.publish_with_reply(agent::REQUEST, &inbox.subject(), json(), body).await?;
        let mut reading = Reading::default();
        loop {
            let Some(delivery) = inbox.next().await else {
                bail!("the inbox ended (overflowed: {})", inbox.overflowed());
            };
            ensure!(!delivery.is_no_responders(), "nobody listens on {}", agent::REQUEST);
            match delivery.headers.get(headers::TYPE) {
                Some("chunk") => reading.chunk(&delivery.payload)?,
                Some("final") => {
                    check(&delivery)?;
                    return reading.end();
                }
                // A heartbeat, which only asks whether somebody is here.
                _ => {}
            }
        }
    }
}

fn json() -> Headers {
    Headers::new().with(headers::CONTENT_TYPE, headers::JSON)
}

/// A final answer must be one, and hold the emulator's text.
fn check(answer: &Delivery) -> anyhow::Result<()> {
    let is_final = answer.headers.get(headers::TYPE) == Some("final");
    let is_error = answer.headers.get(headers::ERROR).is_some();
    let ok = is_final && !is_error && is_answer(&answer.payload);
    ensure!(ok, "not the answer: {}", String::from_utf8_lossy(&answer.payload));
    Ok(())
}
