//! How deployments are doing, by the newest calls that this server has heard of.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use farebox_proto::v1 as wire;
use farebox_types::{Span, Timestamp};

use crate::{
    options::Options,
    v1::{DeploymentHealth, deployment_health::State},
};

/// Provider and the model's name there.
type Deployment = (String, String);

pub(crate) struct Health {
    window: Span,
    calls_max: usize,
    deployments_max: usize,
    heard: Mutex<BTreeMap<Deployment, VecDeque<Heard>>>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Timestamp,
    latency_ms: u64,
    failed: Option<wire::ErrorKind>,
}

impl Health {
    pub(crate) fn new(options: &Options) -> Health {
        Health {
            window: options.health_window,
            calls_max: options.health_calls_max,
            deployments_max: options.health_deployments_max,
            heard: Mutex::default(),
        }
    }

    /// Remembers how a call went. One that was stopped, or that its caller had made wrong, says nothing of the
    /// deployment.
    pub(crate) fn hear(&self, fact: &wire::CallFact) {
        let failed = match fact.outcome() {
            wire::Outcome::Ok => None,
            wire::Outcome::Error | wire::Outcome::Lost if is_its_own(fact.error_kind()) => Some(fact.error_kind()),
            _ => return,
        };
        let heard = Heard { at: Timestamp(fact.ended_unix_ms), latency_ms: fact.latency_ms, failed };
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let deployment = (fact.provider.clone(), fact.upstream_model.clone());
        if !all.contains_key(&deployment) && all.len() >= self.deployments_max.max(1) {
            let oldest = all.iter().min_by_key(|(_, calls)| calls.back().map(|heard| heard.at));
            if let Some(oldest) = oldest.map(|(deployment, _)| deployment.clone()) {
                all.remove(&oldest);
            }
        }
        let calls = all.entry(deployment).or_default();
        calls.push_back(heard);
        if calls.len() > self.calls_max {
            calls.pop_front();
        }
    }

    pub(crate) fn of(&self, provider: &str, model: &str, now: Timestamp) -> DeploymentHealth {
        let all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.before(self.window.get());
        let calls = all.get(&(provider.to_owned(), model.to_owned()));
        let recent: Vec<Heard> = calls.into_iter().flatten().filter(|heard| heard.at >= since).copied().collect();
        summary(&recent)
    }
}

fn summary(recent: &[Heard]) -> DeploymentHealth {
    let failed = recent.iter().filter(|heard| heard.failed.is_some()).count();
    let mut latencies: Vec<u64> =
        recent.iter().filter(|heard| heard.failed.is_none()).map(|heard| heard.latency_ms).collect();
    latencies.sort_unstable();
    let state = match (recent.len(), failed) {
        (0, _) => State::Unspecified,
        (calls, failed) if failed * 2 >= calls => State::Failing,
        (calls, failed) if failed * 10 >= calls => State::Degraded,
        _ => State::Healthy,
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    DeploymentHealth {
        state: state.into(),
        calls: count(recent.len()),
        errors: count(failed),
        latency_ms: latencies.get(latencies.len() / 2).copied().unwrap_or_default(),
        last_call_unix_ms: recent.iter().map(|heard| heard.at.millis()).max().unwrap_or_default(),
        last_error: recent.iter().rev().find_map(|heard| heard.failed).unwrap_or_default().into(),
    }
}

/// Whether an error of this kind is the deployment's own, not its caller's.
fn is_its_own(kind: wire::ErrorKind) -> bool {
    use wire::ErrorKind;
    !matches!(
        kind,
        ErrorKind::BadRequest
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::OverBudget
            | ErrorKind::Conflict
            | ErrorKind::Cancelled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(at: i64, outcome: wire::Outcome, kind: wire::ErrorKind) -> wire::CallFact {
        wire::CallFact {
            provider: "acme".to_owned(),
            upstream_model: "m".to_owned(),
            outcome: outcome.into(),
            error_kind: kind.into(),
            ended_unix_ms: at,
            latency_ms: u64::try_from(at).unwrap(),
            ..Default::default()
        }
    }

    fn ok(at: i64) -> wire::CallFact {
        fact(at, wire::Outcome::Ok, wire::ErrorKind::Unspecified)
    }

    fn failed(at: i64) -> wire::CallFact {
        fact(at, wire::Outcome::Error, wire::ErrorKind::Upstream)
    }

    #[test]
    fn the_share_of_failures_decides() {
        for (good, bad, state) in
            [(0, 0, State::Unspecified), (20, 1, State::Healthy), (9, 1, State::Degraded), (1, 1, State::Failing)]
        {
            let health = Health::new(&Options::default());
            (0..good).for_each(|at| health.hear(&ok(at)));
            (0..bad).for_each(|at| health.hear(&failed(at)));
            let seen = health.of("acme", "m", Timestamp(10));
            assert_eq!((seen.state(), seen.calls, seen.errors), (state, (good + bad) as u32, bad as u32));
        }
    }

    #[test]
    fn only_what_is_new_and_its_own_counts() {
        let health = Health::new(&Options::default());
        health.hear(&failed(1));
        health.hear(&fact(100_000, wire::Outcome::Cancelled, wire::ErrorKind::Cancelled));
        health.hear(&fact(100_000, wire::Outcome::Error, wire::ErrorKind::BadRequest));
        health.hear(&ok(100_000));
        let seen = health.of("acme", "m", Timestamp(100_001));
        assert_eq!((seen.calls, seen.errors, seen.latency_ms), (1, 0, 100_000));
        assert_eq!(health.of("other", "m", Timestamp(100_001)), DeploymentHealth::default());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let options = Options { health_calls_max: 3, health_deployments_max: 2, ..Options::default() };
        let health = Health::new(&options);
        (0..10).for_each(|at| health.hear(&ok(at)));
        assert_eq!(health.of("acme", "m", Timestamp(10)).calls, 3);
        for provider in ["b", "c"] {
            health.hear(&wire::CallFact { provider: provider.to_owned(), ..ok(20) });
        }
        assert_eq!(health.of("acme", "m", Timestamp(20)).calls, 0, "the oldest one is forgotten");
        assert_eq!(health.of("c", "m", Timestamp(20)).calls, 1);
    }
}
