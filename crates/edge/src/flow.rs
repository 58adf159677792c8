//! What waits between a call and its client.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::{sync::Notify, time::Instant};

/// How much may wait, and for how long nothing of it may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) patience: Duration,
}

/// Nobody reads, or too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Gone,
    /// It was cut just now; so many bytes waited for it.
    TooSlow(usize),
}

/// The end that is written to. Dropped before [`Flow::finish`], it breaks the connection off.
pub(crate) struct Flow {
    shared: Arc<Shared>,
    bounds: Bounds,
}

/// The end that a client reads: the body of a response.
pub(crate) struct Outflow(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    gone: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// When the last frame was taken, or the first one came that waits.
    moved: Option<Instant>,
    state: State,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// All was said: what waits is the end.
    Whole,
    /// It ended without its end.
    Broken,
    /// The reader is gone.
    Gone,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, state: State) {
        let mut queue = self.queue();
        if queue.state != State::Open {
            return;
        }
        queue.state = state;
        if state == State::Broken {
            queue.frames.clear();
        }
        let reader = queue.reader.take();
        drop(queue);
        reader.into_iter().for_each(Waker::wake);
    }
}

pub(crate) fn flow(bounds: Bounds) -> (Flow, Outflow) {
    let shared = Arc::<Shared>::default();
    (Flow { shared: shared.clone(), bounds }, Outflow(shared))
}

impl Flow {
    /// Lets one frame wait for its reader.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), Ended> {
        let mut queue = self.room(frame.len())?;
        if queue.frames.is_empty() {
            queue.moved = Some(Instant::now());
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let reader = queue.reader.take();
        drop(queue);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Cuts a reader that is too slow.
    pub(crate) fn look(&self) -> Result<(), Ended> {
        self.room(0).map(drop)
    }

    /// The queue, unless its reader is too slow to be given `more` bytes: then it is cut. Beyond the bound one frame may
    /// wait, however large: who reads well may still not have taken what came right before it.
    fn room(&self, more: usize) -> Result<MutexGuard<'_, Queue>, Ended> {
        let queue = self.shared.queue();
        if queue.state == State::Gone {
            return Err(Ended::Gone);
        }
        let waiting = queue.bytes;
        let full = more > 0 && waiting >= self.bounds.bytes;
        let late = waiting > 0 && queue.moved.is_some_and(|moved| moved.elapsed() >= self.bounds.patience);
        if full || late {
            drop(queue);
            self.shared.end(State::Broken);
            return Err(Ended::TooSlow(waiting));
        }
        Ok(queue)
    }

    /// When a reader is too slow that takes nothing until then.
    pub(crate) fn due(&self) -> Option<Instant> {
        let queue = self.shared.queue();
        queue.moved.filter(|_| !queue.frames.is_empty()).map(|moved| moved + self.bounds.patience)
    }

    /// Lives until the reader has gone.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move { shared.gone.notified().await }
    }

    /// All was said.
    pub(crate) fn finish(self) {
        self.shared.end(State::Whole);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.end(State::Broken);
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        self.0.end(State::Gone);
        self.0.gone.notify_one();
    }
}

/// The answer is not whole, and its connection cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("a stream broke off before its end")]
pub(crate) struct BrokenOff;

impl http_body::Body for Outflow {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut queue = self.0.queue();
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes -= frame.len();
            queue.moved = Some(Instant::now());
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match queue.state {
            State::Open => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Whole => Poll::Ready(None),
            State::Broken | State::Gone => Poll::Ready(Some(Err(BrokenOff))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 10, patience: Duration::from_secs(30) };

    fn bytes(size: usize) -> Bytes {
        Bytes::from(vec![b'x'; size])
    }

    #[tokio::test]
    async fn what_was_said_is_read_to_its_end() {
        let (flow, outflow) = flow(BOUNDS);
        let reading = async { outflow.collect().await.unwrap().to_bytes() };
        let writing = async {
            for word in ["a", "b", "c"] {
                flow.push(Bytes::from_static(word.as_bytes())).unwrap();
                tokio::task::yield_now().await;
            }
            flow.finish();
        };
        let (read, ()) = tokio::join!(reading, writing);
        assert_eq!(read, "abc");
    }

    #[tokio::test]
    async fn what_ends_without_its_end_is_an_error() {
        let (flow, outflow) = flow(BOUNDS);
        flow.push(bytes(1)).unwrap();
        drop(flow);
        assert!(outflow.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_reader_is_cut_that_lets_too_much_wait() {
        let (flow, mut outflow) = flow(BOUNDS);
        // One frame may be larger than what may wait, also behind a small one.
        flow.push(bytes(1)).unwrap();
        flow.push(bytes(30)).unwrap();
        assert_eq!(flow.look(), Ok(()));
        outflow.frame().await.unwrap().unwrap();
        outflow.frame().await.unwrap().unwrap();
        flow.push(bytes(6)).unwrap();
        flow.push(bytes(4)).unwrap();
        assert_eq!(flow.push(bytes(1)), Err(Ended::TooSlow(10)));
        assert!(outflow.frame().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_cut_that_takes_nothing_for_too_long() {
        let (flow, mut outflow) = flow(BOUNDS);
        let step = Duration::from_secs(20);
        for _ in 0..3 {
            flow.push(bytes(1)).unwrap();
            tokio::time::advance(step).await;
            assert_eq!(flow.look(), Ok(()));
            outflow.frame().await.unwrap().unwrap();
        }
        tokio::time::advance(step * 3).await;
        assert_eq!((flow.due(), flow.look()), (None, Ok(())), "nothing waits");
        flow.push(bytes(1)).unwrap();
        assert_eq!(flow.due(), Some(Instant::now() + BOUNDS.patience));
        tokio::time::advance(BOUNDS.patience).await;
        assert_eq!(flow.look(), Err(Ended::TooSlow(1)));
        assert!(outflow.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_writer_hears_that_its_reader_has_gone() {
        let (flow, outflow) = flow(BOUNDS);
        let (gone, ()) = tokio::join!(flow.gone(), async { drop(outflow) });
        assert_eq!((gone, flow.push(bytes(1))), ((), Err(Ended::Gone)));
    }
}
