//! What a request holds until its answer has been taken, piece by piece.
//!
//! Over HTTP/2 a client says for each answer how much of it may be sent. An answer of which it lets nothing come is cut alone,
//! after `write_timeout`; over HTTP/1 its connection is (`patience`).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use farebox_runtime::Tasks;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{room::Room, service::contained};

/// The most that is handed over to be written at a time: a large answer is under way until its end is taken.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// That of the answer which this task writes: hyper knows no other way from an answer to its task.
    static WAITING: Waiting;
}

/// One request that is under way on a connection.
pub(crate) struct Busy(watch::Sender<usize>);

impl Busy {
    pub(crate) fn one(requests: &watch::Sender<usize>) -> Busy {
        requests.send_modify(|requests| *requests += 1);
        Busy(requests.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}

/// The body of an answer, and what its request holds until it has been taken.
pub(crate) struct Held {
    body: Body,
    /// What is still to be handed over of a large frame.
    rest: Bytes,
    waiting: Waiting,
    _busy: Busy,
    _room: Room,
}

impl Held {
    pub(crate) fn new(body: Body, busy: Busy, room: Room) -> Held {
        let waiting = WAITING.try_with(Waiting::clone).unwrap_or_default();
        Held { body, rest: Bytes::new(), waiting, _busy: busy, _room: room }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE)))
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Who asks for more has taken what there was.
        self.waiting.set(None);
        let frame = if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            }
        } else {
            Frame::data(std::mem::take(&mut self.rest))
        };
        self.waiting.set(Some(Instant::now()));
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// Since when a piece of an answer waits to be taken.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Option<Instant>>>);

impl Waiting {
    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, since: Option<Instant>) {
        *self.since() = since;
    }

    async fn too_long(&self, patience: Duration) {
        let mut look = patience;
        loop {
            sleep(look).await;
            let waited = self.since().map(|since| since.elapsed()).unwrap_or_default();
            look = patience.saturating_sub(waited);
            if look.is_zero() {
                return;
            }
        }
    }
}

/// Where the requests of an HTTP/2 connection run.
#[derive(Clone)]
pub(crate) struct Writers {
    tasks: Tasks,
    patience: Duration,
}

impl Writers {
    pub(crate) fn new(tasks: Tasks, patience: Duration) -> Writers {
        Writers { tasks, patience }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Writers {
    fn execute(&self, request: F) {
        let (waiting, patience) = (Waiting::default(), self.patience);
        let written = WAITING.scope(waiting.clone(), request);
        let bounded = async move {
            tokio::select! {
                () = written => {}
                () = waiting.too_long(patience) => tracing::debug!("a client takes nothing of an answer, which was cut"),
            }
        };
        self.tasks.spawn("http request", contained(bounded));
    }
}
