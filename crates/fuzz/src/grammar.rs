//! The grammar of `farebox_dialect::Event`, as a check.

use std::collections::HashMap;

use farebox_dialect::{Delta, Event, PartId, PartKind};

/// What is wrong with the order of these events. `complete`: the stream came to its end.
pub fn grammar(events: &[Event], complete: bool) -> Result<(), String> {
    let mut open: HashMap<PartId, (u32, &PartKind)> = HashMap::new();
    let (mut started, mut next, mut finished) = (false, 0, Vec::new());
    for (at, event) in events.iter().enumerate() {
        let sound = match event {
            Event::Started { .. } => !std::mem::replace(&mut started, true),
            // An error, or a frame nobody knows, may come before anything else.
            Event::Error(_) => at == events.len() - 1,
            Event::Unknown(_) => true,
            _ if !started => false,
            Event::PartStart { id, choice, kind } => {
                next += 1;
                id.0 + 1 == next && !finished.contains(choice) && open.insert(*id, (*choice, kind)).is_none()
            }
            Event::Delta { id, delta } => open.get(id).is_some_and(|(_, kind)| fits(kind, delta)),
            Event::PartEnd { id } => open.remove(id).is_some(),
            Event::Finish { choice, .. } => {
                let sound = !finished.contains(choice) && !open.values().any(|(c, _)| c == choice);
                finished.push(*choice);
                sound
            }
            Event::Usage(_) | Event::ServiceTier(_) | Event::ReportedCost(_) => true,
        };
        if !sound {
            return Err(format!("event {at} stands where it must not: {event:?}"));
        }
    }
    if complete && (!open.is_empty() || finished.is_empty()) {
        return Err(format!("complete with {} parts open and {} choices finished", open.len(), finished.len()));
    }
    Ok(())
}

fn fits(kind: &PartKind, delta: &Delta) -> bool {
    matches!(
        (kind, delta),
        (PartKind::Text | PartKind::Refusal, Delta::Text(_) | Delta::Logprobs(_) | Delta::Citation(_))
            | (PartKind::Reasoning, Delta::Reasoning(_) | Delta::Encrypted(_) | Delta::Origin { .. })
            | (PartKind::ToolCall { .. } | PartKind::Other { .. }, Delta::Args(_))
            | (_, Delta::Signature(_))
    )
}
