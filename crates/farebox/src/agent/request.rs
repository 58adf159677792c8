//! From the command line to a request.

use std::io::{self, IsTerminal, Read};

use clap::Args;
use farebox_proto::v1::{self, llm_request::Body, part};
use farebox_types::{Clock, Money, RequestId, Span};
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// The longest prompt that is read from standard input; what a server takes in one message is less.
const PROMPT_MAX: u64 = 64 * 1024 * 1024;

/// How long a call that says nothing may take, and how long the answer of a job is waited for.
const DEADLINE: Span = Span::from_secs(600);

/// What is asked, of whom, and on whose behalf.
#[derive(Args, Clone, Debug)]
pub(crate) struct RequestArgs {
    /// What to ask; `-`, or nothing with a pipe, reads standard input
    prompt: Option<String>,
    /// Model to ask; without it, --task, --role or the config's default chooses
    #[arg(long, conflicts_with_all = ["task", "role"])]
    model: Option<String>,
    /// Task type that chooses the model: simple, code, … (routing.tasks)
    #[arg(long, value_name = "TYPE", conflicts_with = "role")]
    task: Option<String>,
    /// Agent role that chooses the model: writer, critic, … (routing.agents)
    #[arg(long)]
    role: Option<String>,
    /// Task that the call belongs to; per-task budgets count by it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    task_id: String,
    /// Who acts
    #[arg(long, default_value = "", hide_default_value = true)]
    actor: String,
    /// Session that the call belongs to
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,
    /// Tag of the call; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Instructions before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_tokens: Option<u64>,
    /// Randomness of the answer
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f64>,
    /// The most that this call may cost, such as 0.05
    #[arg(long, value_name = "USD")]
    max_cost: Option<Money>,
    /// The answer must be there within this time [default: 10m; of a job: as configured]
    #[arg(long, value_name = "SPAN", value_parser = deadline)]
    deadline: Option<Span>,
    /// Id of the request: the same one again attaches to it or fetches its answer
    #[arg(long, value_name = "ID", value_parser = RequestId::parse)]
    request_id: Option<RequestId>,
}

fn temperature(given: &str) -> Result<f64, String> {
    let value: f64 = given.parse().map_err(|_| format!("`{given}` is not a number"))?;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err("a temperature is 0 or more".to_owned()) }
}

fn deadline(given: &str) -> Result<Span, String> {
    let span: Span = given.parse().map_err(|error: farebox_types::UnitError| error.to_string())?;
    if span.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(span) }
}

/// A request that has a name to cancel it by.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) id: RequestId,
    pub(crate) request: v1::LlmRequest,
    /// How long the answer is waited for.
    pub(crate) within: Span,
    /// What the person who waits is told to be waiting for.
    pub(crate) target: String,
}

/// By which road a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    Whole,
    Stream,
    Job,
}

/// In which form the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Typed,
    /// OpenAI's JSON, byte for byte as it was served.
    OpenAi,
}

impl RequestArgs {
    pub(crate) fn prepare(self, form: Form, road: Road, clock: &dyn Clock) -> Result<Prepared, Failure> {
        let stream = road == Road::Stream;
        let prompt = read_prompt(self.prompt.as_deref())?;
        let id = self.request_id.clone().unwrap_or_else(RequestId::generate);
        let body = match form {
            Form::Typed => Body::Conversation(self.conversation(&prompt)),
            Form::OpenAi => Body::Raw(v1::RawBody {
                dialect: v1::Dialect::OpenaiChat.into(),
                bytes: self.openai(&prompt, stream).to_string().into_bytes().into(),
            }),
        };
        let target = match (&self.model, &self.task, &self.role) {
            (Some(model), _, _) => format!("`{model}`"),
            (_, Some(task), _) => format!("the model for `{task}` tasks"),
            (_, _, Some(role)) => format!("the model of `{role}`"),
            _ => "the default model".to_owned(),
        };
        let within = self.deadline.unwrap_or(DEADLINE);
        // A job that is stored again must be the same message, so that nothing in it may depend on the time.
        let deadline_unix_ms = match (road, self.deadline) {
            (Road::Job, None) => 0,
            _ => clock.now().after(within.get()).millis(),
        };
        let request = v1::LlmRequest {
            request_id: id.as_str().to_owned(),
            model: self.model.unwrap_or_default(),
            task_type: self.task.unwrap_or_default(),
            agent_role: self.role.unwrap_or_default(),
            labels: Some(v1::Labels {
                actor: self.actor,
                task_id: self.task_id,
                session_id: self.session,
                end_user: String::new(),
                tags: self.tags,
            }),
            stream,
            deadline_unix_ms,
            max_cost: self.max_cost.map(v1::Money::from),
            body: Some(body),
            ..v1::LlmRequest::default()
        };
        Ok(Prepared { id, request, within, target })
    }

    fn conversation(&self, prompt: &str) -> v1::Conversation {
        let message = |role: v1::Role, text: &str| v1::Message {
            role: role.into(),
            parts: vec![v1::Part { kind: Some(part::Kind::Text(text.to_owned())), ..Default::default() }],
        };
        let system = self.system.iter().map(|text| message(v1::Role::System, text));
        v1::Conversation {
            messages: system.chain([message(v1::Role::User, prompt)]).collect(),
            max_output_tokens: self.max_tokens,
            temperature: self.temperature,
            ..v1::Conversation::default()
        }
    }

    fn openai(&self, prompt: &str, stream: bool) -> Value {
        let mut body = Map::new();
        if let Some(model) = &self.model {
            body.insert("model".into(), model.clone().into());
        }
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        body.insert("messages".into(), system.chain([json!({ "role": "user", "content": prompt })]).collect());
        if let Some(most) = self.max_tokens {
            body.insert("max_completion_tokens".into(), most.into());
        }
        if let Some(temperature) = self.temperature {
            body.insert("temperature".into(), temperature.into());
        }
        if stream {
            body.insert("stream".into(), true.into());
        }
        Value::Object(body)
    }
}

fn read_prompt(given: Option<&str>) -> Result<String, Failure> {
    let text = match given {
        Some("-") => from_stdin()?,
        Some(text) => text.to_owned(),
        None if io::stdin().is_terminal() => {
            return Err(Failure::Usage("there is no prompt: write `farebox call \"…\"`, or pipe one in".into()));
        }
        None => from_stdin()?,
    };
    if text.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty: write `farebox call \"…\"`, or pipe one in".into()));
    }
    Ok(text)
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(PROMPT_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > PROMPT_MAX => {
            Err(Failure::Usage(format!("the prompt on standard input is longer than {PROMPT_MAX} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Usage(format!("the prompt on standard input cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use farebox_types::Timestamp;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RequestArgs,
    }

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp(1_000)
        }
    }

    fn parse(line: &[&str]) -> Result<RequestArgs, String> {
        let words = std::iter::once("call").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_becomes_a_typed_request() {
        let line = [
            "hi",
            "--task",
            "code",
            "--task-id",
            "t1",
            "--actor",
            "me",
            "--tag",
            "a",
            "--tag",
            "b",
            "--system",
            "be brief",
            "--max-tokens",
            "9",
            "--max-cost",
            "0.05",
            "--deadline",
            "2s",
            "--request-id",
            "r-1",
        ];
        let prepared = parse(&line).unwrap().prepare(Form::Typed, Road::Whole, &Noon).unwrap();
        assert_eq!(prepared.target, "the model for `code` tasks");
        insta::assert_debug_snapshot!(prepared.request);
    }

    #[test]
    fn json_is_asked_for_in_openais_words() {
        let args = parse(&["hi", "--model", "gpt-4", "--temperature", "0.5", "--max-tokens", "9"]).unwrap();
        let request = args.prepare(Form::OpenAi, Road::Stream, &Noon).unwrap().request;
        let Some(Body::Raw(raw)) = request.body else { panic!("{request:?}") };
        let text = String::from_utf8(raw.bytes.to_vec()).unwrap();
        assert_eq!(
            text,
            r#"{"model":"gpt-4","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":9,"temperature":0.5,"stream":true}"#
        );
    }

    #[test]
    fn an_id_is_made_where_none_is_given() {
        let make = || parse(&["hi"]).unwrap().prepare(Form::Typed, Road::Whole, &Noon).unwrap();
        let (one, other) = (make(), make());
        assert_eq!(one.id.as_str(), one.request.request_id);
        assert_ne!(one.id, other.id);
        assert_eq!(one.request.deadline_unix_ms, 601_000);
    }

    #[test]
    fn the_same_job_is_the_same_message_at_any_time() {
        let args = parse(&["hi", "--request-id", "j1"]).unwrap();
        let at = |road, clock: &dyn Clock| args.clone().prepare(Form::Typed, road, clock).unwrap().request;
        assert_eq!(at(Road::Job, &Noon), at(Road::Job, &farebox_types::SystemClock));
        assert_eq!(at(Road::Whole, &Noon).deadline_unix_ms, 601_000);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for (line, word) in [
            (&["hi", "--model", "a", "--task", "b"][..], "--task"),
            (&["hi", "--task", "a", "--role", "b"], "--role"),
            (&["hi", "--deadline", "soon"], "not a span of time"),
            (&["hi", "--deadline", "0s"], "longer than nothing"),
            (&["hi", "--max-cost", "cheap"], "not an amount"),
            (&["hi", "--request-id", "a.b"], "request id"),
            (&["hi", "--max-tokens", "0"], "--max-tokens"),
            (&["hi", "--temperature", "NaN"], "temperature is 0 or more"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line:?}: {error}");
        }
        let error = parse(&[" "]).unwrap().prepare(Form::Typed, Road::Whole, &Noon).unwrap_err();
        assert!(matches!(&error, Failure::Usage(text) if text.starts_with("the prompt is empty")), "{error:?}");
    }
}
