//! Streams: what they add up to, and that it does not matter how their bytes were cut.

use farebox_dialect::{
    Collector, DecodeError, Ending, Event, Provider, StreamLimits, Target, Truncated, provider_dialect,
};

use super::{
    Subject,
    answer::{self, Got},
};
use crate::{carried, exchange::Exchange, meaning::Meaning};

/// Prefixes that are tried of each stream: so many spread over it, and each of its last bytes.
const PREFIXES: usize = 48;
const LAST: usize = 48;

struct Run {
    events: Vec<Event>,
    fed: Result<(), DecodeError>,
    ending: Result<Ending, Truncated>,
}

fn run<'a>(target: &Target, subject: &Subject, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Run> {
    let Some(Provider::Generate(dialect)) = provider_dialect(subject.dialect) else { return None };
    let mut decoder = dialect.decoder(target, &StreamLimits::default());
    let (mut events, mut fed) = (Vec::new(), Ok(()));
    for piece in pieces {
        fed = decoder.feed(piece, &mut events);
    }
    let ending = decoder.finish(&mut events);
    Some(Run { events, fed, ending })
}

pub(super) fn decode(bytes: &[u8], exchange: &Exchange, subject: &Subject) -> Result<Got, String> {
    let target = answer::target(exchange, subject);
    let run = run(&target, subject, [bytes]).ok_or("farebox has no decoder of its stream")?;
    run.fed.map_err(|error| format!("the stream is not decoded: {error}"))?;
    let mut collector = Collector::new();
    run.events.iter().for_each(|event| collector.push(event));
    let said = answer::said(&collector.into_completion());
    Ok(match run.ending {
        Ok(Ending::Complete) => Got::new(Meaning { ended: true, ..said }),
        Ok(Ending::Refused(refusal)) => Got::refused(&refusal, said),
        Err(_) => Got::new(said),
    })
}

/// Byte by byte it is the same stream, and no prefix of it is whole unless it says all that the whole one says.
pub(super) fn laws(exchange: &Exchange, subject: &Subject) -> Vec<String> {
    let mut faults = Vec::new();
    let bytes = carried::bytes(exchange, subject.family, subject.host).unwrap_or_default();
    let target = answer::target(exchange, subject);
    let Some(whole) = run(&target, subject, [bytes.as_slice()]).filter(|_| subject.meaning.streamed) else {
        return faults;
    };
    let same = |other: &Run| other.events == whole.events && other.fed == whole.fed && other.ending == whole.ending;
    if run(&target, subject, bytes.chunks(1)).is_none_or(|bytewise| !same(&bytewise)) {
        faults.push("byte by byte the stream is another one".to_owned());
    }
    let spread = (0..bytes.len()).step_by((bytes.len() / PREFIXES).max(1));
    for cut in spread.chain(bytes.len().saturating_sub(LAST)..bytes.len()) {
        let Some(prefix) = run(&target, subject, [&bytes[..cut]]) else { continue };
        if prefix.ending == Ok(Ending::Complete) && prefix.events != whole.events {
            faults.push(format!("the first {cut} of {} bytes pass for the whole answer", bytes.len()));
            break;
        }
    }
    faults
}
