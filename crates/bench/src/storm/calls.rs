//! Who calls, with what, and what each of them got.

use std::time::Duration;

use farebox_bus::{Bus, Headers, Inbox};
use farebox_proto::{headers, subjects::agent, v1};
use farebox_testkit::Dice;
use farebox_types::{Clock as _, Fault, RequestId, SystemClock};
use prost::Message as _;
use tokio::{task::JoinSet, time::timeout};

use super::provider::MODELS;

/// When the final answer must be there.
const DEADLINE: Duration = Duration::from_secs(45);
/// What a caller may wait beyond it on a busy machine before it counts as forgotten.
const SLACK: Duration = Duration::from_secs(15);
/// So many of the calls come one after the other while the faults happen; all others at once.
const LATE: usize = 5;
const FAULTS_LAST: u64 = 9_000;

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    model: &'static str,
    actor: String,
    task: String,
    max_tokens: u64,
    stream: bool,
    cancel_after: Option<Duration>,
    start_after: Duration,
}

/// What a caller got.
pub(crate) struct Ended {
    pub(crate) call: Call,
    pub(crate) first: Option<v1::LlmResponse>,
    pub(crate) inbox: Inbox,
}

/// Calls under way.
pub(crate) struct Callers(JoinSet<anyhow::Result<Ended>>);

/// Draws calls. Some actors and tasks are asked for far more than others, so that every level has its turn.
pub(crate) fn plan(dice: &mut Dice, count: usize) -> Vec<Call> {
    let call = |number: usize| {
        let stream = dice.once_in(3);
        Call {
            model: dice.of(&MODELS),
            actor: format!("actor-{}", dice.of(&[0, 0, 0, 1, 1, 2, 3])),
            task: format!("task-{}", dice.of(&[0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
            max_tokens: dice.of(&[60, 150, 300, 600]),
            stream,
            // What a cancelled stream has cost is known only as far as it was read: farebox's own word is not compared here.
            cancel_after: (!stream && dice.once_in(8)).then(|| dice.millis(50, 3_000)),
            start_after: if number.is_multiple_of(LATE) { dice.millis(0, FAULTS_LAST) } else { dice.millis(0, 200) },
        }
    };
    (0..count).map(call).collect()
}

/// Makes them, each over one of these connections.
pub(crate) fn start(connections: &[Bus], calls: Vec<Call>) -> Callers {
    let mut callers = JoinSet::new();
    for (call, bus) in calls.into_iter().zip(connections.iter().cycle()) {
        callers.spawn(make(bus.clone(), call));
    }
    Callers(callers)
}

impl Callers {
    pub(crate) async fn ended(self) -> anyhow::Result<Vec<Ended>> {
        self.0.join_all().await.into_iter().collect()
    }
}

/// Errors only where the request could not be sent.
async fn make(bus: Bus, call: Call) -> anyhow::Result<Ended> {
    tokio::time::sleep(call.start_after).await;
    let id = RequestId::generate();
    let request = request(&call, &id);
    let mut inbox = bus.inbox();
    let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
    bus.publish_with_reply(agent::REQUEST, &inbox.subject(), head, request.encode_to_vec().into()).await?;
    let reading = timeout(DEADLINE + SLACK, read(&mut inbox));
    let first = match call.cancel_after {
        None => reading.await,
        Some(after) => tokio::join!(reading, cancel(&bus, &id, after)).0,
    };
    Ok(Ended { call, first: first.ok().flatten(), inbox })
}

fn request(call: &Call, id: &RequestId) -> v1::LlmRequest {
    let body = serde_json::json!({
        "model": call.model,
        "max_tokens": call.max_tokens,
        "messages": [{ "role": "user", "content": "storm" }],
    });
    let raw = v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes: body.to_string().into_bytes().into() };
    let labels = v1::Labels { actor: call.actor.clone(), task_id: call.task.clone(), ..Default::default() };
    v1::LlmRequest {
        // Only who wants to cancel needs an id of its own.
        request_id: call.cancel_after.map(|_| id.to_string()).unwrap_or_default(),
        model: call.model.to_owned(),
        labels: Some(labels),
        stream: call.stream,
        deadline_unix_ms: SystemClock.now().after(DEADLINE).millis(),
        body: Some(v1::llm_request::Body::Raw(raw)),
        ..Default::default()
    }
}

async fn cancel(bus: &Bus, id: &RequestId, after: Duration) {
    tokio::time::sleep(after).await;
    let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
    // Whether it came in time is seen by the answer.
    let _ = bus.request(&agent::cancel(id), head, Default::default(), DEADLINE).await;
}

/// The next final answer.
async fn read(inbox: &mut Inbox) -> Option<v1::LlmResponse> {
    loop {
        let delivery = inbox.next().await?;
        if let Some(answer) = answer(&delivery) {
            return Some(answer);
        }
    }
}

fn answer(delivery: &farebox_bus::Delivery) -> Option<v1::LlmResponse> {
    let is_final = delivery.headers.get(headers::TYPE) == Some("final");
    is_final.then(|| delivery.decode().ok()).flatten()
}

/// How a call ended: `ok`, or the kind of the error.
fn kind(answer: &v1::LlmResponse) -> &'static str {
    match &answer.result {
        Some(v1::llm_response::Result::Error(error)) => Fault::from(error.clone()).kind.as_str(),
        _ => "ok",
    }
}

impl Ended {
    pub(crate) fn kind(&self) -> &'static str {
        self.first.as_ref().map_or("silence", kind)
    }

    /// What an error says.
    pub(crate) fn message(&self) -> Option<&str> {
        match self.first.as_ref()?.result.as_ref()? {
            v1::llm_response::Result::Error(error) => Some(&error.message),
            _ => None,
        }
    }

    /// Kinds of final answers behind the first, as far as they are here.
    pub(crate) fn further(&mut self) -> Vec<&'static str> {
        let inbox = &mut self.inbox;
        std::iter::from_fn(|| inbox.try_next()).filter_map(|delivery| answer(&delivery)).map(|it| kind(&it)).collect()
    }
}
