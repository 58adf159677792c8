use farebox_proto::v1;
use farebox_types::{Money, Span};

use super::*;
use crate::{
    budget::{Raise, Unreachable, WhenShort},
    limit::{Measure, Rate, Strategy},
    period::Zone,
    scope::{Dimension, Pick, Scope},
};

fn scope(terms: &[(Dimension, &[&str])]) -> Scope {
    let pick = |values: &[&str]| match values {
        [] => Pick::Each,
        values => Pick::Any(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    Scope(terms.iter().map(|(dimension, values)| (*dimension, pick(values))).collect())
}

fn limit(name: &str, terms: &[(Dimension, &[&str])], measure: Measure, default: bool) -> (String, Limit) {
    let rate = Rate { allowed: 1, period: Span::from_secs(60), strategy: Strategy::FixedWindow };
    let limit = Limit { name: name.to_owned(), scope: scope(terms), measure, rate, default };
    (name.to_owned(), limit)
}

fn budget(name: &str, terms: &[(Dimension, &[&str])]) -> Budget {
    Budget {
        name: name.to_owned(),
        scope: scope(terms),
        period: "day".parse().unwrap(),
        time_zone: Zone::default(),
        limit: Money::usd(10),
        limit_text: "10 USD".to_owned(),
        alert: Vec::new(),
        hard: true,
        when_short: WhenShort::Refuse,
        unbounded_ceiling: None,
        unreachable: Unreachable::Closed,
        raises: Vec::new(),
    }
}

fn by(key: &str, groups: &[&str]) -> v1::Principal {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    v1::Principal { project: "acme".into(), key_id: key.into(), groups, ..Default::default() }
}

fn limits_of<'a>(policies: &'a Policies, principal: &v1::Principal) -> Vec<(&'a str, String)> {
    let labels = v1::Labels::default();
    let call = CallScope { principal, labels: &labels, model: "gpt", provider: "openai", upstream_model: "gpt-5" };
    policies.limits_for(&call).into_iter().map(|(limit, subject)| (limit.name.as_str(), subject)).collect()
}

#[test]
fn a_default_limit_steps_back_where_another_names_what_it_counts() {
    use Dimension as D;
    use Measure as M;
    let policies = Policies {
        limits: [
            limit("any-key", &[(D::Key, &[])], M::Requests, true),
            limit("tokens", &[(D::Key, &[])], M::Tokens, true),
            limit("k1", &[(D::Key, &["k1"])], M::Requests, false),
            // It names no key: it holds beside the default one.
            limit("acme", &[(D::Project, &["acme"])], M::Requests, false),
            limit("any-group", &[(D::Group, &[])], M::Requests, true),
            limit("night", &[(D::Group, &["night"])], M::Requests, false),
            limit("pair", &[(D::Key, &[]), (D::Model, &[])], M::Requests, true),
            limit("k2-gpt", &[(D::Model, &["gpt", "o5"]), (D::Key, &["k2"])], M::Requests, false),
        ]
        .into(),
        ..Policies::default()
    };
    let of = |principal| limits_of(&policies, &principal);
    let text = |limits: &[(&'static str, &str)]| -> Vec<(&str, String)> {
        limits.iter().map(|(name, subject)| (*name, (*subject).to_owned())).collect()
    };
    let all = text(&[("acme", ""), ("any-key", "k3"), ("pair", "k3 gpt"), ("tokens", "k3")]);
    assert_eq!(of(by("k3", &[])), all);
    assert_eq!(of(by("k1", &[])), text(&[("acme", ""), ("k1", ""), ("pair", "k1 gpt"), ("tokens", "k1")]));
    assert_eq!(of(by("k2", &[])), text(&[("acme", ""), ("any-key", "k2"), ("k2-gpt", ""), ("tokens", "k2")]));
    // Of two groups, one has its own.
    let grouped = of(by("", &["day", "night"]));
    assert_eq!(grouped, text(&[("acme", ""), ("any-group", "day"), ("night", "")]));
}

#[test]
fn a_call_counts_in_one_window_for_each_group_it_is_in() {
    let mut rolling = budget("rolling", &[]);
    rolling.period = "rolling 1h".parse().unwrap();
    let policies = Policies {
        budgets: [budget("groups", &[(Dimension::Group, &[])]), budget("k9", &[(Dimension::Key, &["k9"])]), rolling]
            .map(|budget| (budget.name.clone(), budget))
            .into(),
        ..Policies::default()
    };
    let (principal, labels) = (by("k1", &["day", "night"]), v1::Labels::default());
    let call = CallScope { principal: &principal, labels: &labels, model: "", provider: "", upstream_model: "" };
    let at = Timestamp(1_795_305_600_000);
    let found = policies.budgets_for(&call, at);
    let windows: Vec<_> = found.iter().map(|(_, window)| format!("{} {}", window.subject, window.window)).collect();
    assert_eq!(windows, ["day 2026-11-22", "night 2026-11-22", " 2026-11-22T00:00:00Z/1m"]);
}

#[test]
fn a_raise_counts_while_it_lasts_for_whom_it_was_made() {
    let raise = |by: i64, from, until, subject: &str| Raise {
        by: Money::usd(by),
        from: Timestamp(from),
        until: Timestamp(until),
        reason: "launch".into(),
        admin: "root".into(),
        subject: subject.into(),
    };
    let mut budget = budget("b", &[(Dimension::Project, &[])]);
    budget.raises = vec![raise(5, 10, 20, ""), raise(7, 15, 30, "acme")];
    let limit = |subject: &str, at| budget.limit_at(subject, Timestamp(at));
    for (at, acme, other) in [(9, 10, 10), (10, 15, 15), (19, 22, 15), (20, 17, 10), (30, 10, 10)] {
        assert_eq!((limit("acme", at), limit("other", at)), (Money::usd(acme), Money::usd(other)), "{at}");
    }
}
