//! A token count for when nobody counted.

/// An upper estimate of the tokens in a text of this many bytes: one token for every three bytes begun.
///
/// For streams that were cut or cancelled before the provider said what it bills. It errs high on purpose: prose is
/// near four bytes a token in the usual vocabularies, code and JSON a little above three, and most other scripts take
/// three bytes a character in UTF-8. Rows that rest on it are marked as estimated.
pub fn estimate_tokens(text_bytes: usize) -> u64 {
    u64::try_from(text_bytes.div_ceil(3)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::estimate_tokens;

    #[test]
    fn rounds_up() {
        assert_eq!([0, 1, 3, 4, 3000].map(estimate_tokens), [0, 1, 1, 2, 1000]);
    }
}
