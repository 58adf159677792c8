//! Some providers repeat a key in what they say about it. It must not travel on with their words.

use bytes::Bytes;
use farebox_types::Fault;
use secrecy::{ExposeSecret, SecretString};

/// What is shorter is no key, and could be any word.
const SHORTEST: usize = 8;
const INSTEAD: &str = "[key]";

fn text(key: Option<&SecretString>) -> Option<&str> {
    key.map(ExposeSecret::expose_secret).filter(|key| key.len() >= SHORTEST)
}

/// A provider's error body without the key.
pub(crate) fn body(key: Option<&SecretString>, said: Bytes) -> Bytes {
    match text(key) {
        Some(key) if said.windows(key.len()).any(|part| part == key.as_bytes()) => {
            String::from_utf8_lossy(&said).replace(key, INSTEAD).into()
        }
        _ => said,
    }
}

/// A fault without the key.
pub(crate) fn fault(key: Option<&SecretString>, mut fault: Fault) -> Fault {
    let Some(key) = text(key) else { return fault };
    for words in std::iter::once(&mut fault.message).chain(&mut fault.provider_body) {
        if words.contains(key) {
            *words = words.replace(key, INSTEAD);
        }
    }
    fault
}

#[cfg(test)]
mod tests {
    use farebox_types::ErrorKind;

    use super::*;

    #[test]
    fn a_key_is_taken_out_of_what_a_provider_says() {
        let key = SecretString::from("sk-0123456789");
        let said = Bytes::from_static(b"{\"message\":\"bad key sk-0123456789, really sk-0123456789\"}");
        assert_eq!(body(Some(&key), said.clone()), "{\"message\":\"bad key [key], really [key]\"}");
        assert_eq!(body(None, said.clone()), said);
        let mut given = Fault::new(ErrorKind::Upstream, "bad key sk-0123456789");
        given.provider_body = Some("sk-0123456789".into());
        let hushed = fault(Some(&key), given);
        assert_eq!((hushed.message.as_str(), hushed.provider_body.as_deref()), ("bad key [key]", Some("[key]")));
    }

    #[test]
    fn other_words_stay_byte_for_byte() {
        let said = Bytes::from_static(b"\xff x not utf-8");
        assert_eq!(body(Some(&SecretString::from("sk-0123456789")), said.clone()), said);
        assert_eq!(body(Some(&SecretString::from("x")), said.clone()), said);
    }
}
