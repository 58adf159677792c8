//! A provider's sealed reasoning (signature, encrypted item) in a caller's dialect that has one field for its own kind
//! of seal only. It carries its origin in front, so that it goes back to the dialect that can read it and to no other:
//! `farebox:<dialect>:<payload>`. Callers send it back as it is.

use crate::dialect::DialectName;

const MARK: &str = "farebox:";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_comes_back_with_its_origin() {
        let sealed = seal(DialectName::Gemini, "a:b==");
        assert_eq!(unseal(&sealed), Some((DialectName::Gemini, "a:b==")));
        for own in ["EqQBCg==", "farebox", "farebox:nobody:x"] {
            assert_eq!(unseal(own), None);
        }
    }
}
