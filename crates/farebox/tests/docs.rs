//! Every config that the docs show is one that farebox takes, and every kind of provider is shown.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Command};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const PAGES: [&str; 5] = ["README.md", "docs/config.md", "docs/budgets.md", "docs/http.md", "docs/providers.md"];
const TABLE: &str = "crates/providers/data/providers.toml";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The blocks marked as YAML, each with the line on which it begins.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line) {
            (None, "```yaml") => open = Some((number + 2, String::new())),
            (Some(_), "```") => found.extend(open.take()),
            (Some((_, text)), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// What `farebox config check` says against a config; `None`: nothing. References lead to dummies.
fn faults(config: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("farebox.yaml");
    fs::write(&file, config).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_farebox"));
    check.args(["config", "check", "--config"]).arg(&file).current_dir(dir.path()).env_clear();
    for line in config.split([' ', ',', '}', '\n', '"']) {
        if let Some(name) = line.strip_prefix("os.environ/") {
            check.env(name, "dummy");
        }
    }
    let done = check.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (!done.status.success()).then_some(said)
}

#[test]
fn every_config_in_the_docs_loads() {
    let mut wrong = Vec::new();
    for page in PAGES {
        let examples = examples(&read(page));
        assert!(!examples.is_empty(), "{page} shows no config");
        for (line, config) in examples {
            wrong.extend(faults(&config).map(|said| format!("{page}:{line}: {said}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_config_that_cannot_be_loaded_is_found_out() {
    for bad in ["providers: { acme: {} }", "models: { fast: nowhere/gpt }", "egress: { deny: [] }"] {
        assert!(faults(bad).is_some(), "{bad}");
    }
}

#[test]
fn every_kind_of_provider_is_shown() {
    let page = read("docs/providers.md");
    let shown: String = examples(&page).into_iter().map(|(_, config)| config).collect();
    for kind in read(TABLE).lines().filter_map(|line| line.strip_prefix("kind = \"")?.strip_suffix('"')) {
        let named =
            [format!("\n  {kind}:"), format!("kind: {kind},"), format!("kind: {kind} "), format!("kind: {kind}\n")];
        assert!(named.iter().any(|form| shown.contains(form)), "docs/providers.md has no config of {kind}");
    }
}
