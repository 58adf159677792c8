//! A streamed answer: read, relayed piece by piece, and watched for usage and its end.

use bytes::{Bytes, BytesMut};
use farebox_dialect::{DecodeError, Ending, Head, Relay, StreamLimits};
use farebox_proto::v1::llm_chunk::Piece;
use farebox_types::{ErrorKind, Fault};
use http::header::CONTENT_TYPE;

use super::{
    Opening,
    course::{Broken, Course, Patience},
};
use crate::{billing::Used, reply::Reply, upstream::Answering};

pub(super) async fn relay(opening: &Opening<'_>, mut answering: Answering, reply: &mut Reply, course: &mut Course) {
    let job = opening.job;
    let limits = StreamLimits { max_frame_bytes: job.options.frame_max.len() };
    let Some(mut relay) = opening.exchange.stream(&limits, &job.stamp) else {
        let message = "what was asked for is not answered in a stream";
        course.result = Err(Fault::new(ErrorKind::Internal, message).into());
        return;
    };
    let mut plain = Plain::of(&answering.head);
    let (broken, unread) = match read(opening, &mut relay, &mut answering, reply, course, &mut plain).await {
        Ok(Ending::Complete) => {
            let facts = relay.facts();
            return opening.complete(relay.into_answer(), facts, course).await;
        }
        // The provider has ended it by itself: it makes no more.
        Ok(Ending::Refused(refusal)) => (Broken::Fault(refusal.into()), 0),
        Err(broken) => match plain.refusal(opening, &answering.head) {
            Some(refusal) => {
                course.used = Used::Nothing;
                course.result = Err(refusal.into());
                return;
            }
            None => (broken, job.options.cut_margin),
        },
    };
    // Before the counting, which takes its time: it notices that nobody listens when its connection closes.
    drop(answering);
    let facts = relay.unfinished_facts();
    course.said.tier = facts.service_tier.clone().unwrap_or_default();
    course.used = opening.counted(&facts).await.unfinished(unread);
    course.result = Err(broken);
}

/// The bytes of what is no stream though it was to be one: some providers refuse with status 200 and a plain body.
struct Plain(Option<BytesMut>);

impl Plain {
    fn of(head: &Head) -> Plain {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
        Plain(is_json.then(BytesMut::new))
    }

    fn keep(&mut self, bytes: &Bytes, max: usize) {
        if let Some(kept) = self.0.as_mut().filter(|kept| kept.len() + bytes.len() <= max) {
            kept.extend_from_slice(bytes);
        }
    }

    fn refusal(self, opening: &Opening<'_>, head: &Head) -> Option<Fault> {
        let body = self.0?.freeze();
        match opening.exchange.whole(head, body, &opening.job.stamp) {
            Err(error @ DecodeError::Refused(_)) => Some(error.into()),
            _ => None,
        }
    }
}

async fn read(
    opening: &Opening<'_>,
    relay: &mut Relay<'_>,
    answering: &mut Answering,
    reply: &mut Reply,
    course: &mut Course,
    plain: &mut Plain,
) -> Result<Ending, Broken> {
    let provider = &opening.job.deployment.provider;
    let mut patience = Patience::of(reply);
    let mut total = 0_usize;
    let mut pieces = Vec::new();
    while !relay.is_done() {
        let wait = opening.limits.wait(course.first_token.is_none());
        let Some(bytes) = course.within(wait, &mut patience, answering.next(provider)).await?? else { break };
        course.first_token.get_or_insert_with(|| opening.began.elapsed());
        total += bytes.len();
        plain.keep(&bytes, opening.job.options.frame_max.len());
        if total > opening.job.options.answer_max.len() {
            let message = format!("the stream is larger than answer_max ({total} bytes)");
            return Err(Fault::new(ErrorKind::TooLarge, message).into());
        }
        let fed = relay.feed(&bytes, &mut pieces);
        send(reply, &mut pieces).await?;
        fed.map_err(|error| Broken::Fault(error.into()))?;
    }
    let ending = relay.finish(&mut pieces);
    send(reply, &mut pieces).await?;
    let ending = ending.map_err(|truncated| {
        let message = format!("provider `{provider}` ended its stream before the end of the answer: {truncated}");
        Broken::Fault(Fault::new(ErrorKind::Truncated, message))
    })?;
    if ending == Ending::Complete {
        answering.let_go(opening.job.options.connection_reuse_wait.get()).await;
    }
    Ok(ending)
}

/// Sends what there is, where somebody listens.
async fn send(reply: &mut Reply, pieces: &mut Vec<Piece>) -> Result<(), Broken> {
    for piece in pieces.drain(..) {
        if !reply.to.is_empty() {
            reply.chunk(piece).await.map_err(|_| Broken::Stopped)?;
        }
    }
    Ok(())
}
