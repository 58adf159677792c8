//! Two meanings, and where they differ.

use std::fmt::Debug;

use super::answer::Got;
use crate::meaning::{Meaning, Said, Tokens};

/// A sentence is cut here: a text may be long.
const SHOWN: usize = 300;

pub(super) fn differences(expected: &Meaning, got: &Got, status: u16) -> Vec<String> {
    let mut faults = Vec::new();
    let is = &got.meaning;
    match (&expected.error, &is.error) {
        (Some(_), None) => return vec![format!("an error of the provider is taken as an answer: {}", show(expected))],
        (None, Some(no)) => return vec![format!("an answer is taken as an error: {}", no.message)],
        (Some(should), Some(no)) => {
            if no.message.is_empty() || !no.message.contains(&should.message) {
                faults.push(format!("the error says `{}` instead of `{}`", no.message, should.message));
            }
            if got.raw.as_deref().is_none_or(str::is_empty) {
                faults.push("the error's raw body is not kept".to_owned());
            }
            let kind = got.kind.unwrap_or_default();
            if status >= 400 {
                differ("the error's kind", &kind, &should.kind(status), &mut faults);
            }
        }
        (None, None) => {}
    }
    if expected.error.is_none() {
        differ("whether it came to its end", &is.ended, &expected.ended, &mut faults);
    }
    let whole = expected.ended && expected.error.is_none();
    if whole {
        differ("the number of choices", &is.choices.len(), &expected.choices.len(), &mut faults);
    }
    for (index, should) in &expected.choices {
        let nothing = Said::default();
        choice(is.choices.get(index).unwrap_or(&nothing), should, whole, &mut faults);
    }
    differ("the vectors", &is.vectors, &expected.vectors, &mut faults);
    differ("the ranking", &is.ranking, &expected.ranking, &mut faults);
    differ("the count", &is.counted, &expected.counted, &mut faults);
    usage(&is.tokens, expected, &mut faults);
    faults
}

/// Of what broke off, only what was said until then is compared.
fn choice(is: &Said, should: &Said, whole: bool, faults: &mut Vec<String>) {
    differ("the text", &is.text, &should.text, faults);
    differ("the refusal", &is.refusal, &should.refusal, faults);
    // Pieces of thinking may be parted by empty lines, or not.
    let lines = |text: &str| text.replace('\n', "");
    if lines(&is.reasoning) != lines(&should.reasoning) {
        differ("the reasoning", &is.reasoning, &should.reasoning, faults);
    }
    if !whole {
        return;
    }
    differ("the finish", &is.finish, &should.finish, faults);
    let mut tools = is.tools.clone();
    // An id that the provider did not give is farebox's own.
    for (tool, should) in tools.iter_mut().zip(&should.tools).filter(|(_, should)| should.0.is_empty()) {
        tool.0.clone_from(&should.0);
    }
    differ("the tool calls", &tools, &should.tools, faults);
}

/// A bucket that is not reported may count as nothing, as long as something is reported at all.
fn usage(is: &Tokens, expected: &Meaning, faults: &mut Vec<String>) {
    let used = |tokens: &Tokens| tokens.iter().filter(|(_, n)| **n > 0).map(|(b, n)| (*b, *n)).collect::<Tokens>();
    differ("the usage", &used(is), &used(&expected.tokens), faults);
    differ("whether usage is reported", &!is.is_empty(), &!expected.tokens.is_empty(), faults);
    if let Some(total) = expected.total {
        let sum: u64 = is.iter().filter(|(bucket, _)| **bucket != "searches").map(|(_, count)| count).sum();
        differ("the sum of the usage", &sum, &total, faults);
    }
}

fn differ<T: PartialEq + Debug>(what: &str, is: &T, should: &T, faults: &mut Vec<String>) {
    if is != should {
        let (is, should) = around(&format!("{is:?}"), &format!("{should:?}"));
        faults.push(format!("{what} is {is} instead of {should}"));
    }
}

fn show(value: &impl Debug) -> String {
    format!("{value:?}").chars().take(SHOWN).collect()
}

/// Both from shortly before the place where they part.
fn around(is: &str, should: &str) -> (String, String) {
    let same = is.chars().zip(should.chars()).take_while(|(left, right)| left == right).count();
    let from = same.saturating_sub(SHOWN / 3);
    let cut = |text: &str| {
        let shown: String = text.chars().skip(from).take(SHOWN).collect();
        let (before, after) =
            (if from > 0 { "…" } else { "" }, if text.chars().count() > from + SHOWN { "…" } else { "" });
        format!("{before}{shown}{after}")
    };
    (cut(is), cut(should))
}
