//! A provider's sealed reasoning (signature, encrypted item) in a caller's dialect that has one field for its own kind
//! of seal only. It carries its origin in front, so that it goes back to the dialect that can read it and to no other:
//! `farebox:<dialect>:<payload>`. Callers send it back as it is.
//!
//! | payload | what it is |
//! |---|---|
//! | `item:<id>:<data>` | reasoning that only the provider can read, with the provider's id of it, if it has one |
//! | `call:<tool call id>:<signature>` | the proof of the reasoning behind a tool call (Gemini) |
//! | anything else | the signature of the reasoning that stands beside it |

use super::call::{Content, Part, Reasoning};
use crate::dialect::DialectName;

const MARK: &str = "farebox:";
const ITEM: &str = "item:";
const CALL: &str = "call:";

/// A seal of `origin` for a place where callers expect another dialect's.
pub(crate) fn seal(origin: DialectName, payload: &str) -> String {
    format!("{MARK}{origin}:{payload}")
}

/// A seal as it is written where its origin may not be known.
pub(crate) fn by(origin: Option<DialectName>, payload: &str) -> String {
    origin.map_or_else(|| payload.to_owned(), |origin| seal(origin, payload))
}

/// Whose seal it is, and the seal itself. `None`: it was not sealed here, so it is the place's own.
pub(crate) fn unseal(text: &str) -> Option<(DialectName, &str)> {
    let (name, payload) = text.strip_prefix(MARK)?.split_once(':')?;
    Some((name.parse().ok()?, payload))
}

/// Everything of a piece of reasoning but its text, in one seal. `None`: it bears no proof, or nobody's.
pub(crate) fn of_reasoning(reasoning: &Reasoning) -> Option<String> {
    let Reasoning { signature, encrypted, id, origin, .. } = reasoning;
    let payload = match (encrypted, id, signature) {
        (None, None, None) => return None,
        (None, None, Some(signature)) => signature.clone(),
        (encrypted, id, _) => {
            format!("{ITEM}{}:{}", id.as_deref().unwrap_or_default(), encrypted.as_deref().unwrap_or_default())
        }
    };
    origin.map(|origin| seal(origin, &payload))
}

/// What [`of_reasoning`] wrote, as reasoning without its text. `None`: it is no seal of reasoning.
pub(crate) fn reasoning(text: &str) -> Option<Reasoning> {
    let (origin, payload) = unseal(text)?;
    let mut found = Reasoning { origin: Some(origin), ..Reasoning::default() };
    if let Some((id, data)) = payload.strip_prefix(ITEM).and_then(|item| item.split_once(':')) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (found.id, found.encrypted) = (some(id), some(data));
    } else if payload.starts_with(CALL) {
        return None;
    } else {
        found.signature = Some(payload.to_owned());
    }
    Some(found)
}

/// The proof behind a tool call, for a place of its own beside the call: no caller's dialect has one in it.
pub(crate) fn of_call(id: &str, signature: &str) -> String {
    seal(DialectName::Gemini, &format!("{CALL}{id}:{signature}"))
}

/// Gives the proof back to the tool call in `parts` that it belongs to. `false`: the text is no such proof.
pub(crate) fn give_back(text: &str, parts: &mut [Part]) -> bool {
    let found = unseal(text)
        .and_then(|(_, payload)| payload.strip_prefix(CALL))
        // A signature is base64, so the last colon ends the id.
        .and_then(|call| call.rsplit_once(':'));
    let Some((id, signature)) = found else {
        return false;
    };
    let calls = parts.iter_mut().filter(|part| matches!(&part.content, Content::ToolCall(call) if call.id == id));
    calls.for_each(|part| part.signature = Some(signature.to_owned()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::ToolCall;

    #[test]
    fn a_seal_comes_back_with_its_origin() {
        let sealed = seal(DialectName::Gemini, "a:b==");
        assert_eq!(unseal(&sealed), Some((DialectName::Gemini, "a:b==")));
        for own in ["EqQBCg==", "farebox", "farebox:nobody:x"] {
            assert_eq!(unseal(own), None);
        }
    }

    #[test]
    fn reasoning_comes_back_but_for_its_text() {
        let origin = Some(DialectName::OpenAiResponses);
        for (signature, encrypted, id) in [
            (Some("c2ln"), None, None),
            (None, Some("ZW5j"), Some("rs_1")),
            (None, Some("ZW5j"), None),
            (None, None, Some("rs_1")),
        ] {
            let [signature, encrypted, id] = [signature, encrypted, id].map(|text| text.map(str::to_owned));
            let given = Reasoning { signature, encrypted, id, origin, ..Reasoning::default() };
            assert_eq!(reasoning(&of_reasoning(&given).unwrap()), Some(given));
        }
        assert_eq!(of_reasoning(&Reasoning { origin, text: "hm".into(), ..Reasoning::default() }), None);
    }

    #[test]
    fn the_proof_of_a_call_finds_its_call() {
        let call = |id: &str| {
            Part::from(Content::ToolCall(ToolCall { id: id.into(), name: "f".into(), arguments: String::new() }))
        };
        let mut parts = [call("a"), call("b:1")];
        let proof = of_call("b:1", "c2ln");
        assert!(give_back(&proof, &mut parts) && reasoning(&proof).is_none());
        assert_eq!((&parts[0].signature, parts[1].signature.as_deref()), (&None, Some("c2ln")));
        assert!(!give_back("c2ln", &mut parts) && !give_back("farebox:gemini:c2ln", &mut parts));
    }
}
