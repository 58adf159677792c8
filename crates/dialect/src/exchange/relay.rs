//! A streamed answer on its way to the caller, watched for usage and its end.

use bytes::Bytes;
use farebox_proto::v1::llm_chunk::Piece;

use super::{Answer, Facts};
use crate::{
    canonical::{Call, Collector, Ending, Event, Truncated},
    dialect::{CallerDialect, ProviderDialect, Stamp, StreamDecoder, StreamEncoder, StreamLimits, Target},
    emulate::{Emulation, Filter},
    error::DecodeError,
    framing::Frame,
    tool_names::Renamed,
    typed,
};

/// Bytes of a provider's stream in, the caller's pieces out.
pub struct Relay<'a> {
    decoder: Box<dyn StreamDecoder>,
    collector: Collector,
    events: Vec<Event>,
    form: Form,
    /// Makes an emulated JSON mode look like a native one.
    filter: Option<Filter>,
    /// All that the provider wrote, where the filter holds some of it back: it is billed.
    unfiltered: Option<Collector>,
    side: Side<'a>,
}

/// The caller's side.
pub(super) struct Side<'a> {
    /// `None`: a typed conversation.
    pub(super) caller: Option<&'static dyn CallerDialect>,
    pub(super) call: &'a Call,
    /// Tools that the provider knows by other names.
    pub(super) renamed: Option<&'a Renamed>,
    pub(super) stamp: Stamp,
    /// The provider's bytes go through.
    pub(super) passes: bool,
}

/// How a provider's pieces become the caller's.
enum Form {
    /// Same dialect on both sides: the provider's own bytes, frame by frame.
    Pass {
        dialect: &'static dyn ProviderDialect,
        include_usage: bool,
    },
    Render(Box<dyn StreamEncoder>),
    Typed(typed::Deltas),
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        dialect: &'static dyn ProviderDialect,
        target: &Target,
        limits: &StreamLimits,
        side: Side<'a>,
        emulation: Option<&Emulation>,
    ) -> Relay<'a> {
        let form = match side.caller {
            Some(_) if side.passes => Form::Pass { dialect, include_usage: side.call.include_usage },
            Some(caller) => Form::Render(caller.renderer(side.call, &side.stamp)),
            None => Form::Typed(typed::Deltas::new()),
        };
        let decoder = dialect.decoder(target, limits);
        let (filter, unfiltered) = emulation.map(|emulation| (emulation.filter(), Collector::new())).unzip();
        Relay { decoder, collector: Collector::new(), events: Vec::new(), form, filter, unfiltered, side }
    }

    /// The pieces that `bytes` complete. On an error, those before it.
    pub fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), DecodeError> {
        self.decode(pieces, |decoder, events, seen| decoder.watch(bytes, events, seen))
    }

    /// Whether the provider's end has been seen: nothing of worth can follow.
    pub fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// The connection has ended. Call it once.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<Ending, Truncated> {
        let ending = self.decode(pieces, |decoder, events, seen| decoder.watch_end(events, seen));
        if let Form::Render(encoder) = &mut self.form
            && ending == Ok(Ending::Complete)
        {
            let mut last = Vec::new();
            encoder.finish(&mut last);
            pieces.extend(last.into_iter().map(Piece::Raw));
        }
        ending
    }

    /// What is known so far.
    pub fn facts(&self) -> Facts {
        let facts = Facts::of(self.collector.completion());
        let written = if facts.usage.output.is_none() { self.written() } else { String::new() };
        Facts { written, ..facts }
    }

    /// What is known of a stream that broke off: any usage it has reported is provisional.
    pub fn unfinished_facts(&self) -> Facts {
        Facts { written: self.written(), ..Facts::of(self.collector.completion()) }
    }

    fn written(&self) -> String {
        self.unfiltered.as_ref().unwrap_or(&self.collector).completion().written()
    }

    /// The whole answer, once the stream is complete.
    pub fn into_answer(self) -> Answer {
        let done = self.collector.into_completion();
        let Side { caller, call, stamp, .. } = &self.side;
        match caller {
            Some(caller) => Answer::Raw(caller.render(call, &done, stamp)),
            None => Answer::Typed(typed::completion(&done)),
        }
    }

    /// Hands on what a step of the decoder understands.
    fn decode<T>(
        &mut self,
        pieces: &mut Vec<Piece>,
        step: impl FnOnce(&mut dyn StreamDecoder, &mut Vec<Event>, &mut dyn FnMut(Frame<'_>)) -> T,
    ) -> T {
        self.events.clear();
        let form = &self.form;
        let mut pass = |frame: Frame<'_>| {
            if let Form::Pass { dialect, include_usage } = form
                && dialect.passes(frame, *include_usage)
            {
                pieces.push(Piece::Raw(Bytes::copy_from_slice(frame.data)));
            }
        };
        let done = step(self.decoder.as_mut(), &mut self.events, &mut pass);
        if let Some(renamed) = self.side.renamed {
            self.events.iter_mut().for_each(|event| renamed.restore_event(event));
        }
        if let (Some(filter), Some(unfiltered)) = (&mut self.filter, &mut self.unfiltered) {
            self.events.iter().for_each(|event| unfiltered.push(event));
            let mut filtered = Vec::with_capacity(self.events.len());
            self.events.drain(..).for_each(|event| filter.push(event, &mut filtered));
            self.events = filtered;
        }
        self.events.iter().for_each(|event| self.collector.push(event));
        match &mut self.form {
            Form::Pass { .. } => {}
            Form::Render(encoder) => {
                let mut raw = Vec::new();
                self.events.iter().for_each(|event| encoder.encode(event, &mut raw));
                pieces.extend(raw.into_iter().map(Piece::Raw));
            }
            Form::Typed(deltas) => pieces.extend(self.events.iter().filter_map(|e| deltas.encode(e)).map(Piece::Delta)),
        }
        done
    }
}
