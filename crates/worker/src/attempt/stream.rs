//! A streamed answer: read, relayed piece by piece, and watched for usage and its end.

use farebox_dialect::{Ending, Relay, StreamLimits};
use farebox_proto::v1::llm_chunk::Piece;
use farebox_types::{ErrorKind, Fault};

use super::{
    Opening,
    course::{Broken, Course},
};
use crate::{reply::Reply, upstream::Answering};

pub(super) async fn relay(opening: &Opening<'_>, mut answering: Answering, reply: &mut Reply, course: &mut Course) {
    let job = opening.job;
    let limits = StreamLimits { max_frame_bytes: job.options.frame_max.len() };
    let Some(mut relay) = opening.exchange.stream(&limits, &job.stamp) else {
        let message = "what was asked for is not answered in a stream";
        course.result = Err(Fault::new(ErrorKind::Internal, message).into());
        return;
    };
    let (broken, unread) = match read(opening, &mut relay, &mut answering, reply, course).await {
        Ok(Ending::Complete) => {
            let facts = relay.facts();
            return opening.complete(relay.into_answer(), facts, course).await;
        }
        // The provider has ended it by itself: it makes no more.
        Ok(Ending::Refused(refusal)) => (Broken::Fault(refusal.into()), 0),
        Err(broken) => (broken, job.options.cut_margin),
    };
    // Before the counting, which takes its time: it notices that nobody listens when its connection closes.
    drop(answering);
    let facts = relay.unfinished_facts();
    course.said.tier = facts.service_tier.clone().unwrap_or_default();
    course.used = opening.counted(&facts).await.unfinished(unread);
    course.result = Err(broken);
}

async fn read(
    opening: &Opening<'_>,
    relay: &mut Relay<'_>,
    answering: &mut Answering,
    reply: &mut Reply,
    course: &mut Course,
) -> Result<Ending, Broken> {
    let provider = &opening.job.deployment.provider;
    let mut total = 0_usize;
    let mut pieces = Vec::new();
    while !relay.is_done() {
        let wait = opening.limits.wait(course.first_token.is_none());
        let Some(bytes) = course.within(wait, reply, answering.next(provider)).await?? else { break };
        course.first_token.get_or_insert_with(|| opening.began.elapsed());
        total += bytes.len();
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
