//! A streamed answer: read, relayed piece by piece, and watched for usage and its end.

use bytes::Bytes;
use farebox_dialect::{Collector, Ending, Event, Framing, ProviderDialect, StreamDecoder, StreamLimits, Target};
use farebox_proto::v1::llm_chunk::Piece;
use farebox_types::{ErrorKind, Fault};
use serde::de::IgnoredAny;

use super::{
    Broken, Course, Opening,
    body::{ChunkForm, Rendering},
    within,
};
use crate::{billing::Used, reply::Reply, upstream::Answering};

/// How a provider's pieces become the caller's.
enum Relay {
    /// Same dialect on both sides: the provider's own bytes, frame by frame.
    Pass { dialect: &'static dyn ProviderDialect, frames: Box<dyn Framing>, keep_usage: bool },
    /// From another dialect.
    Render(Rendering),
}

struct Reading<'a> {
    decoder: Box<dyn StreamDecoder>,
    collector: Collector,
    events: Vec<Event>,
    relay: Relay,
    reply: &'a mut Reply,
}

pub(super) async fn relay(opening: &Opening<'_>, mut answering: Answering, reply: &mut Reply, course: &mut Course) {
    let job = opening.job;
    let limits = StreamLimits { max_frame_bytes: job.options.frame_max.len() };
    let dialect = opening.dialect;
    let target = Target::new(&job.deployment.model);
    let relay = match job.body.chunk_form(dialect.name(), job.created) {
        ChunkForm::Pass { keep_usage } => {
            Relay::Pass { dialect, frames: dialect.framing(&target, &limits), keep_usage }
        }
        ChunkForm::Render(rendering) => Relay::Render(rendering),
    };
    let mut reading = Reading {
        decoder: dialect.decoder(&target, &limits),
        collector: Collector::new(),
        events: Vec::new(),
        relay,
        reply,
    };
    let ended = reading.read(opening, &mut answering, course).await;
    let collector = reading.collector;
    match ended {
        Ok(()) => opening.complete_stream(collector, course),
        Err(broken) => {
            course.used = Used::Partly {
                reported: *collector.usage(),
                request_bytes: opening.request_bytes,
                output_bytes: collector.output_bytes(),
            };
            course.result = Err(broken);
        }
    }
}

impl Reading<'_> {
    async fn read(
        &mut self,
        opening: &Opening<'_>,
        answering: &mut Answering,
        course: &mut Course,
    ) -> Result<(), Broken> {
        let provider = &opening.job.deployment.provider;
        let mut total = 0_usize;
        while !self.decoder.is_done() {
            let wait = opening.limits.wait(course.first_token.is_none());
            let Some(bytes) = within(wait, self.reply, answering.next(provider)).await?? else { break };
            course.first_token.get_or_insert_with(|| opening.began.elapsed());
            total += bytes.len();
            if total > opening.job.options.answer_max.len() {
                let message = format!("the stream is larger than answer_max ({total} bytes)");
                return Err(Fault::new(ErrorKind::TooLarge, message).into());
            }
            self.events.clear();
            let fed = self.decoder.feed(&bytes, &mut self.events);
            self.pass_on(&bytes, fed.is_err()).await?;
            fed.map_err(|error| Broken::Fault(error.into()))?;
        }
        self.events.clear();
        let ending = self.decoder.finish(&mut self.events);
        self.pass_on(&[], ending.is_err()).await?;
        match ending {
            Ok(Ending::Complete) => {
                self.close().await?;
                answering.let_go(opening.job.options.connection_reuse_wait.get()).await;
                Ok(())
            }
            Ok(Ending::Refused(refusal)) => Err(Fault::from(refusal).into()),
            Err(truncated) => {
                let message =
                    format!("provider `{provider}` ended its stream before the end of the answer: {truncated}");
                Err(Fault::new(ErrorKind::Truncated, message).into())
            }
        }
    }

    /// Hands on what has just been understood. `broken`: not all of it was.
    async fn pass_on(&mut self, bytes: &[u8], broken: bool) -> Result<(), Broken> {
        self.events.iter().for_each(|event| self.collector.push(event));
        if self.reply.to.is_empty() {
            return Ok(());
        }
        let mut pieces = Vec::new();
        match &mut self.relay {
            Relay::Pass { dialect, frames, keep_usage } => {
                frames.push(bytes);
                // An oversize frame is the decoder's to report.
                while let Ok(Some(frame)) = frames.next_frame() {
                    if broken && serde_json::from_slice::<IgnoredAny>(frame.data).is_err() {
                        break;
                    }
                    if dialect.passes(frame, *keep_usage) {
                        pieces.push(Piece::Raw(Bytes::copy_from_slice(frame.data)));
                    }
                }
            }
            Relay::Render(rendering) => self.events.iter().for_each(|event| rendering.push(event, &mut pieces)),
        }
        self.send(pieces).await
    }

    /// What stands after the last event.
    async fn close(&mut self) -> Result<(), Broken> {
        let mut pieces = Vec::new();
        if let (Relay::Render(rendering), false) = (&mut self.relay, self.reply.to.is_empty()) {
            rendering.finish(&mut pieces);
        }
        self.send(pieces).await
    }

    async fn send(&mut self, pieces: Vec<Piece>) -> Result<(), Broken> {
        for piece in pieces {
            self.reply.chunk(piece).await.map_err(|_| Broken::Stopped)?;
        }
        Ok(())
    }
}
