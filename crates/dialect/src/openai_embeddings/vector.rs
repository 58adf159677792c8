//! A vector as its caller wants it: JSON numbers, or 32-bit floats in little-endian order, in base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    canonical::{Vector, VectorEncoding},
    json::RawJson,
};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Written {
    Numbers(RawJson),
    Floats(Vec<f32>),
    Base64(String),
}

/// `None`: it cannot be written so. Vectors of a kind of their own (`int8`, …) stay as the provider wrote them.
pub(super) fn write(vector: &Vector, wanted: Option<&VectorEncoding>) -> Option<Written> {
    match (vector, wanted) {
        (Vector::Numbers(numbers), Some(VectorEncoding::Base64)) => to_base64(numbers).map(Written::Base64),
        (Vector::Base64(text), None | Some(VectorEncoding::Float)) => to_numbers(text).map(Written::Floats),
        (Vector::Numbers(numbers), _) => Some(Written::Numbers(numbers.clone())),
        (Vector::Base64(text), _) => Some(Written::Base64(text.clone())),
    }
}

/// Each number is rounded once, from its decimal digits: what was printed from 32 bits gives the same 32 bits.
fn to_base64(numbers: &RawJson) -> Option<String> {
    let inside = numbers.as_str().trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut bytes = Vec::with_capacity(inside.len() / 2);
    if !inside.is_empty() {
        for digits in inside.split(',') {
            let number = digits.trim().parse::<f32>().ok().filter(|number| number.is_finite())?;
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    Some(STANDARD.encode(bytes))
}

/// The shortest digits that give the same 32 bits again.
fn to_numbers(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    let floats: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (rest.is_empty() && floats.iter().all(|number| number.is_finite())).then_some(floats)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finite() -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |f| f.is_finite()), 0..40)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_numbers_and_base64(floats in finite()) {
            let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
            let packed = Vector::Base64(STANDARD.encode(bytes));
            let Vector::Base64(text) = &packed else { unreachable!() };
            let numbers = write(&packed, Some(&VectorEncoding::Float)).unwrap();
            let numbers = Vector::Numbers(RawJson::new(serde_json::to_string(&numbers).unwrap()).unwrap());
            let Some(Written::Base64(again)) = write(&numbers, Some(&VectorEncoding::Base64)) else {
                panic!("it is base64 that was asked for");
            };
            prop_assert_eq!(&again, text);
        }
    }

    #[test]
    fn what_is_no_vector_of_floats_is_not_rendered() {
        let numbers = |text: &str| Vector::Numbers(RawJson::new(text).unwrap());
        for given in ["[1,\"2\"]", "[[1]]", "[null]", "[1e400]"] {
            assert!(write(&numbers(given), Some(&VectorEncoding::Base64)).is_none(), "{given}");
        }
        // Three bytes, no base64, and a float that is infinite.
        for given in ["AAAA", "?", "AACAfw=="] {
            assert!(write(&Vector::Base64(given.into()), None).is_none(), "{given}");
        }
        assert!(
            matches!(write(&numbers("[ ]"), Some(&VectorEncoding::Base64)), Some(Written::Base64(t)) if t.is_empty())
        );
    }
}
