//! The forms of a model's name.

use crate::row::NameForm;

/// The regions whose words stand before a model's name on Bedrock.
const PLACES: [&str; 8] = ["us.", "eu.", "apac.", "global.", "jp.", "au.", "ca.", "us-gov."];

/// Plainer names that a name may be a form of.
pub(crate) fn plainer(model: &str) -> impl Iterator<Item = (&str, NameForm)> {
    let undated = ["-dddd-dd-dd", "-20dddddd", "@20dddddd"].iter().find_map(|form| without_end(model, form));
    let placeless = PLACES.iter().find_map(|place| model.strip_prefix(place));
    let undated = undated.map(|name| (name, NameForm::Dated));
    undated.into_iter().chain(placeless.map(|name| (name, NameForm::Placed)))
}

/// The name before an end of this form, in which `d` is any digit.
fn without_end<'a>(model: &'a str, form: &str) -> Option<&'a str> {
    let (name, end) = model.split_at_checked(model.len().checked_sub(form.len())?)?;
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
    (!name.is_empty() && end.bytes().zip(form.bytes()).all(fits)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_or_a_place_is_taken_off_and_nothing_else() {
        let all = |model| plainer(model).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(all("gpt-x-2026-11-21"), ["gpt-x"]);
        assert_eq!(all("claude-x-20261121"), ["claude-x"]);
        assert_eq!(all("claude-x@20261121"), ["claude-x"]);
        assert_eq!(all("eu.acme.x-v1:0"), ["acme.x-v1:0"]);
        for other in ["gpt-x", "gpt-x-mini", "gpt-x-1121", "gpt-x-12345678", "eux.acme", "-2026-11-21", "é2026-11-21"]
        {
            assert!(all(other).is_empty(), "{other}");
        }
    }
}
