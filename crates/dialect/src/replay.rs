//! A whole answer as the stream that it could have been: a repeated request for a stream has only the end of it.

use bytes::Bytes;
use farebox_types::{ErrorKind, Fault};

use crate::{
    canonical::{Call, Choice, Completion, Content, Delta, Event, Part, PartId, PartKind},
    dialect::{Caller, DialectName, Head, Provider, Stamp, caller_dialect, provider_dialect},
};

/// The payloads of a stream in the dialect that `whole` is written in; its usage where a caller has to ask for that.
pub fn as_stream(dialect: DialectName, whole: &[u8], include_usage: bool) -> Result<Vec<Bytes>, Fault> {
    let caller = caller_dialect(dialect).and_then(Caller::generate);
    let provider = provider_dialect(dialect).and_then(Provider::generate);
    let (Some(caller), Some(provider)) = (caller, provider) else {
        return Err(Fault::new(ErrorKind::Unsupported, format!("answers in {dialect} are not streamed")));
    };
    let done = provider.decode(&Head::default(), whole)?;
    let stamp = Stamp {
        id: done.id.clone(),
        created: done.created.unwrap_or_default(),
        model: Some(done.model.clone()).filter(|model| !model.is_empty()),
    };
    let call = Call { stream: true, include_usage, ..Call::default() };
    let mut encoder = caller.renderer(&call, &stamp);
    let mut payloads = Vec::new();
    events(done).iter().for_each(|event| encoder.encode(event, &mut payloads));
    encoder.finish(&mut payloads);
    Ok(payloads)
}

fn events(done: Completion) -> Vec<Event> {
    let mut events = vec![Event::Started { id: done.id, model: done.model, created: done.created }];
    events.extend(done.service_tier.map(Event::ServiceTier));
    events.push(Event::Usage(done.usage));
    events.extend(done.reported_cost.map(Event::ReportedCost));
    let mut finishes = Vec::new();
    let mut next = 0;
    for Choice { index, parts, finish, stop_sequence, logprobs, .. } in done.choices {
        let mut logprobs = logprobs;
        for part in parts {
            let id = PartId(next);
            next += 1;
            let deltas = deltas(&part);
            events.push(Event::PartStart { id, choice: index, kind: kind(part.content) });
            events.extend(deltas.into_iter().map(|delta| Event::Delta { id, delta }));
            // They are the choice's, and stand with the first of its parts.
            events.extend(logprobs.take().map(|raw| Event::Delta { id, delta: Delta::Logprobs(raw) }));
            events.push(Event::PartEnd { id });
        }
        finishes.extend(finish.map(|reason| Event::Finish { choice: index, reason, stop_sequence }));
    }
    events.extend(finishes);
    events
}

fn kind(content: Content) -> PartKind {
    match content {
        Content::Text(_) => PartKind::Text,
        Content::Refusal(_) => PartKind::Refusal,
        Content::Reasoning(_) => PartKind::Reasoning,
        Content::ToolCall(call) => PartKind::ToolCall { id: call.id, name: call.name },
        Content::Other { dialect, kind, raw } => PartKind::Other { dialect, kind, raw },
        media => PartKind::Media(Box::new(media)),
    }
}

fn deltas(part: &Part) -> Vec<Delta> {
    let mut deltas = Vec::new();
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => deltas.push(Delta::Text(text.clone())),
        Content::ToolCall(call) => deltas.push(Delta::Args(call.arguments.clone())),
        Content::Reasoning(reasoning) => {
            let origin = reasoning.origin.map(|dialect| Delta::Origin { dialect, id: reasoning.id.clone() });
            deltas.extend(origin);
            deltas.push(Delta::Reasoning(reasoning.text.clone()));
            deltas.extend(reasoning.signature.clone().map(Delta::Signature));
            deltas.extend(reasoning.encrypted.clone().map(Delta::Encrypted));
        }
        _ => {}
    }
    deltas.extend(part.signature.clone().map(Delta::Signature));
    deltas.extend(part.citations.iter().map(|citation| Delta::Citation(Box::new(citation.clone()))));
    deltas.retain(
        |delta| !matches!(delta, Delta::Text(text) | Delta::Args(text) | Delta::Reasoning(text) if text.is_empty()),
    );
    deltas
}
