//! The check over the tapes that are kept in this repository, and that it can fail.

use std::path::{Path, PathBuf};

use farebox_recordings::{
    check::{self, Verdict},
    exchange::{self, Exchange},
    mutate::Caught,
    report::Report,
};

/// Hand-made exchanges: the dialects' own, and those that are played through a whole farebox.
fn roots() -> [PathBuf; 2] {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    [crates.join("dialect/tests/tapes"), crates.join("../tests/tapes")]
}

#[test]
fn every_tape_is_read_as_it_is() {
    for root in roots() {
        let verdicts: Vec<(PathBuf, Verdict)> = exchange::files(&root)
            .unwrap()
            .into_iter()
            .map(|file| (file.clone(), check::check(&Exchange::load(&file).unwrap())))
            .collect();
        assert!(verdicts.len() >= 18, "only {} tapes in {}", verdicts.len(), root.display());
        // A tape of InvokeModel without a request may not tell whose answer it is.
        let unclear = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Unsupported(_))).count();
        assert!(unclear * 20 <= verdicts.len(), "{unclear} of {} tapes are not checked", verdicts.len());
        let is_wrong = |verdict: &Verdict| !matches!(verdict, Verdict::Match | Verdict::Unsupported(_));
        let wrong: Vec<_> = verdicts.into_iter().filter(|(_, verdict)| is_wrong(verdict)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn every_changed_answer_is_noticed() {
    for root in roots() {
        let caught = Caught::of(&root).unwrap();
        assert!(caught.missed().is_empty(), "{}", caught.missed().join("\n"));
        let kinds: Vec<&str> = caught.kinds().collect();
        for kind in ["text", "reasoning", "tool call", "finish", "usage", "error"] {
            assert!(kinds.contains(&kind), "no tape of {} has a changed {kind}: {kinds:?}", root.display());
        }
    }
}

/// What nobody has seen before is counted, never a panic.
#[test]
fn a_strange_directory_is_read_as_far_as_it_goes() {
    let ok = r#""response":{"status":200,"headers":{},"body":{"choices":[]}}"#;
    for (text, reason) in [
        ("[]", "not in the form"),
        ("{}", "not in the form"),
        (r#"{"response":{}}"#, "no body"),
        (r#"{"response":{"body_base64":"%"}}"#, "no base64"),
    ] {
        let problem = Exchange::parse(text).unwrap_err();
        assert!(problem.contains(reason), "{text}: {problem}");
    }
    for (exchange, reason) in [
        (format!(r#"{{"provider":"new","endpoint":"dance",{ok}}}"#), "unknown endpoint `dance` of `new`"),
        (format!("{{{ok}}}"), "unknown endpoint"),
        (r#"{"endpoint":"chat.completions","response":{"body":"no stream"}}"#.to_owned(), "no stream"),
        (r#"{"endpoint":"converse-stream","response":{"body_base64":"AAAA"}}"#.to_owned(), "cut in its prelude"),
    ] {
        let Verdict::Unsupported(said) = check::check(&Exchange::parse(&exchange).unwrap()) else {
            panic!("{exchange} is supported");
        };
        assert!(said.contains(reason), "{exchange}: {said}");
    }
}

#[test]
fn the_last_line_is_the_count() {
    let report = Report::of(&roots()[1]).unwrap();
    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let last = text.lines().last().unwrap();
    let (matching, all) = last.split_once(" of ").unwrap();
    assert_eq!(matching, all);
    assert!(report.passes() && matching.parse::<usize>().unwrap() >= 18, "{text}");
}
