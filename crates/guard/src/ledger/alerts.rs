//! What people are told of budgets, decided together with what led to it and recorded, so that it is told once.

use farebox_policy::Budget;
use farebox_proto::v1::{self, alert::Kind, ledger_entry::Entry};
use farebox_types::{Money, Timestamp};

use super::{Ledger, told::of};
use crate::rules::Rules;

impl Ledger {
    /// What an attempt's end leads to: thresholds that its budgets have reached, and a bill above what was set aside.
    pub(super) fn alert_of_end(
        &mut self,
        rules: &Rules,
        fact: &v1::CallFact,
        holds: &[v1::Hold],
        now: Timestamp,
    ) -> Vec<v1::LedgerEntry> {
        let mut alerts = Vec::new();
        let (cost, admitted) = (v1::Money::of(&fact.cost), Timestamp(fact.started_unix_ms));
        if cost <= Money::ZERO {
            return Vec::new();
        }
        for hold in holds {
            let Some(budget) = rules.budget(&hold.budget) else { continue };
            let held = v1::Money::of(&hold.amount);
            if cost <= held && budget.alert.is_empty() {
                continue;
            }
            let settled = self.windows.used(budget, &hold.subject, admitted, &hold.window).settled;
            let about = About { rules, budget, subject: &hold.subject, window: &hold.window, fact, settled, now };
            if cost > held {
                alerts.push(about.overdraft(cost, held));
            }
            let limit = budget.limit_at(&hold.subject, now);
            for threshold in &budget.alert {
                let reached = settled.picos().saturating_mul(1000) >= limit.picos().saturating_mul(threshold.0.into());
                if reached && !self.windows.is_announced(budget, &hold.subject, admitted, &hold.window, threshold.0) {
                    alerts.push(about.threshold(threshold.0));
                }
            }
        }
        self.record_alerts(alerts)
    }

    /// Hard budgets have refused a call: the first time in a window.
    pub(super) fn alert_of_refusal(
        &mut self,
        rules: &Rules,
        request: &v1::ReserveRequest,
        admitted: Timestamp,
        spent: &[(String, String, String)],
        now: Timestamp,
    ) -> Vec<v1::LedgerEntry> {
        let mut alerts = Vec::new();
        let call_id = request.attempt.as_ref().map(|attempt| attempt.call_id.clone()).unwrap_or_default();
        let fact = v1::CallFact { call_id, principal: request.principal.clone(), ..Default::default() };
        for (name, subject, window) in spent {
            let Some(budget) = rules.budget(name) else { continue };
            if !self.windows.is_announced(budget, subject, admitted, window, 0) {
                let settled = self.windows.used(budget, subject, admitted, window).settled;
                let about = About { rules, budget, subject, window, fact: &fact, settled, now };
                alerts.push(about.refused());
            }
        }
        self.record_alerts(alerts)
    }

    fn record_alerts(&mut self, alerts: Vec<v1::Alert>) -> Vec<v1::LedgerEntry> {
        let record = |alert| self.record(Entry::Alerted(v1::Alerted { alert: Some(alert) }));
        alerts.into_iter().map(record).collect()
    }
}

/// What an alert is about.
struct About<'a> {
    rules: &'a Rules,
    budget: &'a Budget,
    subject: &'a str,
    window: &'a str,
    fact: &'a v1::CallFact,
    settled: Money,
    now: Timestamp,
}

impl About<'_> {
    fn overdraft(&self, cost: Money, held: Money) -> v1::Alert {
        let call = &self.fact.call_id;
        let message =
            format!("call {call} cost ${cost}, more than the ${held} that was reserved for it in {}", self.budget());
        self.alert(Kind::Overdraft, 0, message)
    }

    fn threshold(&self, permille: u32) -> v1::Alert {
        let (percent, tenth) = (permille / 10, permille % 10);
        let percent = if tenth == 0 { percent.to_string() } else { format!("{percent}.{tenth}") };
        let message =
            format!("{} has spent ${} of ${}, {percent} % or more", self.budget(), self.settled, self.limit());
        self.alert(Kind::Threshold, permille, message)
    }

    fn refused(&self) -> v1::Alert {
        let message =
            format!("{} refuses calls that do not fit: ${} of ${} is spent", self.budget(), self.settled, self.limit());
        self.alert(Kind::Refused, 0, message)
    }

    /// ``budget `NAME` of `SUBJECT` in WINDOW``
    fn budget(&self) -> String {
        let window = if self.window.is_empty() { String::new() } else { format!(" in {}", self.window) };
        format!("budget `{}`{}{window}", self.budget.name, of(self.subject))
    }

    fn limit(&self) -> Money {
        self.budget.limit_at(self.subject, self.now)
    }

    fn alert(&self, kind: Kind, threshold_permille: u32, message: String) -> v1::Alert {
        let caller = self.fact.principal.as_ref().map(|principal| principal.project.as_str()).unwrap_or_default();
        let project = self.rules.owner(&self.budget.scope, caller).unwrap_or_default();
        v1::Alert {
            kind: kind.into(),
            rule: self.budget.name.clone(),
            subject: self.subject.to_owned(),
            window: self.window.to_owned(),
            limit: Some(self.limit().into()),
            settled: Some(self.settled.into()),
            threshold_permille,
            project: project.to_owned(),
            call_id: self.fact.call_id.clone(),
            at_unix_ms: self.now.millis(),
            message,
        }
    }
}
