//! What is fuzzed: a name, seeds, and what must hold for every input.

mod answer;
mod call;
mod sound;
mod stream;

use farebox_dialect::{DialectName, Hosting, Provider, Quirk, provider_dialect};

use crate::{
    corpus::{self, Tape},
    frames::Shape,
};

/// Something that reads bytes from elsewhere.
pub struct Target {
    pub name: String,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) check: Check,
}

/// `Err`: the law that this input breaks, a colon, and how.
pub(crate) type Check = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// An input to begin with.
pub(crate) struct Seed {
    pub(crate) shape: Shape,
    pub(crate) bytes: Vec<u8>,
}

/// Every decoder, every parser, and what edits bodies.
pub fn targets() -> anyhow::Result<Vec<Target>> {
    let tapes = corpus::tapes()?;
    let calls = corpus::calls()?;
    let mut targets = Vec::new();
    for name in DialectName::ALL {
        if let Some(provider) = provider_dialect(name) {
            targets.extend(provider.generate().into_iter().flat_map(|_| streams(name, &tapes)));
            let of =
                |success: bool| tapes.iter().filter(move |t| t.dialect == name && !t.streamed && t.success == success);
            targets.push(Target {
                name: format!("answer/{name}"),
                seeds: of(true).map(|tape| json(&tape.body)).collect(),
                check: Box::new(move |input| answer::whole(provider, input)),
            });
            targets.push(Target {
                name: format!("refusal/{name}"),
                seeds: of(false).chain(of(true).take(1)).map(|tape| json(&tape.body)).collect(),
                check: Box::new(move |input| answer::refused(provider, input)),
            });
        }
        let bodies: Vec<&[u8]> = calls.iter().filter(|(of, _)| *of == name).map(|(_, body)| body.as_slice()).collect();
        if farebox_dialect::caller_dialect(name).is_some() {
            targets.push(Target {
                name: format!("call/{name}"),
                seeds: bodies.iter().map(|body| json(body)).collect(),
                check: Box::new(move |input| call::parsed(name, input)),
            });
            targets.push(Target {
                name: format!("body/{name}"),
                seeds: bodies.iter().map(|body| json(body)).collect(),
                check: Box::new(move |input| call::edited(name, input)),
            });
        }
    }
    let typed = call::conversations().into_iter().map(|bytes| Seed { shape: Shape::Bytes, bytes });
    targets.push(Target { name: "call/typed".to_owned(), seeds: typed.collect(), check: Box::new(call::typed) });
    Ok(targets)
}

/// A provider's streams, once for each way in which they are framed and ended.
fn streams(name: DialectName, tapes: &[Tape]) -> Vec<Target> {
    let own = (String::new(), Hosting::Own, Vec::new());
    let mut ways = vec![own];
    match name {
        DialectName::AnthropicMessages => ways.push(("/bedrock".to_owned(), Hosting::Bedrock, Vec::new())),
        DialectName::OpenAiChat => ways.push(("/no-done".to_owned(), Hosting::Own, vec![Quirk::NoDone])),
        _ => {}
    }
    let seeds = |hosting: Hosting| {
        let streams = tapes.iter().filter(|tape| tape.dialect == name && tape.streamed);
        streams.map(move |tape| seed(name, hosting, &tape.body)).collect()
    };
    let provider = provider_dialect(name).and_then(Provider::generate);
    ways.into_iter()
        .filter_map(|(suffix, hosting, quirks)| {
            let stream = stream::Stream::new(provider?, hosting, quirks);
            Some(Target {
                name: format!("stream/{name}{suffix}"),
                seeds: seeds(hosting),
                check: Box::new(move |input| stream.check(input)),
            })
        })
        .collect()
}

fn seed(name: DialectName, hosting: Hosting, body: &[u8]) -> Seed {
    let shape = match name {
        DialectName::BedrockConverse => Shape::EventStream,
        DialectName::OllamaChat => Shape::Lines,
        _ if hosting == Hosting::Bedrock => Shape::Invoked,
        _ if body.starts_with(b"[") => Shape::Array,
        _ => Shape::ServerSentEvents,
    };
    let bytes = if shape == Shape::Invoked { crate::frames::as_invoked(body) } else { body.to_vec() };
    Seed { shape, bytes }
}

fn json(body: &[u8]) -> Seed {
    Seed { shape: Shape::Json, bytes: body.to_vec() }
}
