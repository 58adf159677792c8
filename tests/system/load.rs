//! Agents that call while things break, and what each of them got.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use farebox_client::{Client, Error, Piece};
use farebox_proto::v1;
use farebox_testkit::PATIENCE;
use farebox_types::{Clock as _, ErrorKind, SystemClock};
use tokio::{task::JoinSet, time::Instant};

/// A request in OpenAI's dialect.
pub(crate) fn ask(model: &str, text: &str, deadline: Duration) -> v1::LlmRequest {
    let body = serde_json::json!({
        "model": model, "max_tokens": 200, "messages": [{ "role": "user", "content": text }],
    });
    v1::LlmRequest {
        model: model.to_owned(),
        deadline_unix_ms: SystemClock.now().after(deadline).millis(),
        body: Some(v1::llm_request::Body::Raw(v1::RawBody {
            dialect: v1::Dialect::OpenaiChat.into(),
            bytes: body.to_string().into_bytes().into(),
        })),
        ..v1::LlmRequest::default()
    }
}

/// The same, under a task.
pub(crate) fn ask_for(task: &str, model: &str, text: &str, deadline: Duration) -> v1::LlmRequest {
    let labels = v1::Labels { task_id: task.to_owned(), ..v1::Labels::default() };
    v1::LlmRequest { labels: Some(labels), ..ask(model, text, deadline) }
}

/// How one call ended for its caller.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<v1::LlmResponse, Error>,
    pub(crate) took: Duration,
    pub(crate) deadline: Duration,
}

impl Ended {
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        self.result.as_ref().err().map(Error::kind)
    }
}

/// Calls once, whole or streamed, and waits for the end.
pub(crate) async fn call(client: &Client, request: v1::LlmRequest, stream: bool, deadline: Duration) -> Ended {
    let began = Instant::now();
    let result = if stream { streamed(client, request).await } else { client.call(request).await };
    Ended { result, took: began.elapsed(), deadline }
}

async fn streamed(client: &Client, request: v1::LlmRequest) -> Result<v1::LlmResponse, Error> {
    let mut stream = client.stream(request).await?;
    loop {
        match stream.next().await {
            Some(Ok(Piece::Final(answer))) => return Ok(*answer),
            // A gap while servers die: the final answer is whole.
            Some(Ok(Piece::Chunk(_)) | Err(Error::Gap { .. })) => {}
            Some(Err(error)) => return Err(error),
            None => unreachable!("a stream ends with an answer or an error"),
        }
    }
}

/// Callers that call one after the other until they are told to stop.
pub(crate) struct Load {
    callers: JoinSet<Vec<Ended>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

/// What callers ask for.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) models: Vec<&'static str>,
    pub(crate) task: String,
    pub(crate) deadline: Duration,
    /// Between two calls of one caller.
    pub(crate) pause: Duration,
}

impl Default for Asking {
    fn default() -> Asking {
        Asking {
            models: vec!["tokens", "claude"],
            task: String::new(),
            deadline: Duration::from_secs(12),
            pause: Duration::from_millis(10),
        }
    }
}

impl Load {
    /// Every second call is streamed.
    pub(crate) fn start(client: &Client, callers: usize, asking: &Asking) -> Load {
        let mut load = Load { callers: JoinSet::new(), stop: Arc::default(), answered: Arc::default() };
        for caller in 0..callers {
            let (client, asking) = (client.clone(), asking.clone());
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            load.callers.spawn(async move {
                let mut ended = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = ended.len() + caller;
                    let model = asking.models[(number / 2) % asking.models.len()];
                    let text = format!("caller {caller}, call {number}");
                    let request = ask_for(&asking.task, model, &text, asking.deadline);
                    let one = call(&client, request, number % 2 == 1, asking.deadline).await;
                    answered.fetch_add(u64::from(one.result.is_ok()), Ordering::Relaxed);
                    ended.push(one);
                    tokio::time::sleep(asking.pause).await;
                }
                ended
            });
        }
        load
    }

    /// Answers so far, errors not counted.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many further calls were answered.
    pub(crate) async fn flows(&self, further: u64, what: &str) {
        let from = self.answered();
        farebox_testkit::eventually(PATIENCE, &format!("calls are answered {what}"), || async {
            self.answered() >= from + further
        })
        .await;
    }

    /// No further calls; waits for those under way.
    pub(crate) async fn stop(self) -> Vec<Ended> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

/// What a caller may wait beyond the deadline: the client's own grace, and a busy machine.
const SLACK: Duration = Duration::from_secs(10);
/// How calls may end while things break.
pub(crate) const ENDS: [&str; 5] = ["ok", "lost", "unavailable", "deadline_exceeded", "over_budget"];

/// Everybody got an answer or a typed error in time, and no error says that farebox does not know what happened.
/// Returns how many ended in which way.
pub(crate) fn all_ended_in_time(ended: &[Ended]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in ended {
        assert!(one.took <= one.deadline + SLACK, "silence for {:?}: {one:?}", one.took);
        let kind = one.kind().map_or("ok", ErrorKind::as_str);
        assert!(ENDS.contains(&kind), "{one:?}");
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts
}
