//! A whole answer is a stream of one line.

use super::{
    error,
    stream::Events,
    types::{Line, NAME},
};
use crate::{
    canonical::{Collector, Completion, FinishReason},
    error::DecodeError,
};

pub(super) fn decode(body: &[u8]) -> Result<Completion, DecodeError> {
    let corrupt = |problem: String| DecodeError::Corrupt { dialect: NAME, problem };
    let mut line: Line<'_> = serde_json::from_slice(body).map_err(|e| corrupt(e.to_string()))?;
    if let Some(error) = line.error.take() {
        return Err(DecodeError::Refused(Box::new(error::in_place(error.get()))));
    }
    if line.message.is_none() {
        return Err(corrupt("it has no `message`".to_owned()));
    }
    let (mut events, mut out) = (Events::default(), Vec::new());
    events.step(line, &mut out);
    events.close(&mut out);
    let mut collector = Collector::new();
    out.iter().for_each(|event| collector.push(event));
    Ok(collector.into_completion())
}

pub(super) fn finish(word: Option<String>, called: bool) -> FinishReason {
    match word.as_deref() {
        Some("stop") if called => FinishReason::ToolCalls,
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some(other) => FinishReason::Other(other.to_owned()),
        // Servers before 0.1.38 give no reason; that it is the end is all they say.
        None => FinishReason::Other("done".to_owned()),
    }
}
