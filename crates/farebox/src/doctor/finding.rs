//! What the doctor found, and how it is shown.

use std::time::Duration;

use farebox_types::Money;
use serde_json::{Value, json};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// `connection`, `parts`, `key`, `<model>`, `<model> streamed`.
    pub(super) name: String,
    pub(super) took: Duration,
    /// What it cost, where farebox said so.
    pub(super) cost: Option<Money>,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// And what was seen.
    Well(String),
    /// And what to do.
    Ill { what: String, remedy: String },
}

/// All findings about one farebox.
pub(super) struct Report {
    url: String,
    findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn is_well(&self) -> bool {
        matches!(self.verdict, Verdict::Well(_))
    }

    /// As a person reads it.
    pub(super) fn line(&self) -> String {
        let Finding { name, took, verdict, .. } = self;
        let millis = took.as_millis();
        match verdict {
            Verdict::Well(seen) => format!("✓ {name}: {seen} ({millis} ms)"),
            Verdict::Ill { what, remedy } if remedy.is_empty() => format!("✗ {name}: {what}"),
            Verdict::Ill { what, remedy } => format!("✗ {name}: {what}\n  → {remedy}"),
        }
    }

    fn json(&self) -> Value {
        let (seen, remedy) = match &self.verdict {
            Verdict::Well(seen) => (seen, None),
            Verdict::Ill { what, remedy } => (what, Some(remedy).filter(|remedy| !remedy.is_empty())),
        };
        json!({
            "check": self.name,
            "ok": self.is_well(),
            "seen": seen,
            "remedy": remedy,
            "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "cost_usd": self.cost.map(|cost| cost.to_string()),
        })
    }
}

impl Report {
    pub(super) fn new(url: &str) -> Report {
        Report { url: url.to_owned(), findings: Vec::new() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn is_well(&self) -> bool {
        self.findings.iter().all(Finding::is_well)
    }

    fn cost(&self) -> Money {
        self.findings.iter().filter_map(|finding| finding.cost).fold(Money::ZERO, |sum, cost| sum + cost)
    }

    fn ill(&self) -> usize {
        self.findings.iter().filter(|finding| !finding.is_well()).count()
    }

    /// The last line for a person.
    pub(super) fn summary(&self) -> String {
        let (all, ill, cost) = (self.findings.len(), self.ill(), self.cost());
        let verdict = if ill == 0 { "all well".to_owned() } else { format!("{ill} of {all} checks failed") };
        format!("{}: {verdict}; {all} checks, ${cost} spent", self.url)
    }

    pub(super) fn json(&self) -> String {
        json!({
            "url": self.url,
            "ok": self.is_well(),
            "checks": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "failed": self.ill(),
            "cost_usd": self.cost().to_string(),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str, verdict: Verdict) -> Finding {
        let cost = Some("0.0001".parse().unwrap());
        Finding { name: name.to_owned(), took: Duration::from_millis(12), cost, verdict }
    }

    #[test]
    fn a_person_reads_what_is_wrong_and_what_to_do() {
        let mut report = Report::new("http://127.0.0.1:4000");
        report.add(finding("gpt", Verdict::Well("answered".to_owned())));
        assert_eq!(report.summary(), "http://127.0.0.1:4000: all well; 1 checks, $0.0001 spent");
        let ill = finding("key", Verdict::Ill { what: "401".to_owned(), remedy: "make one".to_owned() });
        assert_eq!(ill.line(), "✗ key: 401\n  → make one");
        report.add(ill);
        assert_eq!(report.summary(), "http://127.0.0.1:4000: 1 of 2 checks failed; 2 checks, $0.0002 spent");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["cost_usd"], "0.0002");
        assert_eq!(json["checks"][1]["remedy"], "make one");
    }
}
