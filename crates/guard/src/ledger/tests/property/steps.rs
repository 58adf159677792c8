//! What may happen, and the rules under which it does.

use farebox_policy::{Limit, Measure, Permille, Raise, Rate, Strategy as Laid};
use farebox_types::Span;
use proptest::prelude::*;

use crate::ledger::tests::*;

pub(super) const MINUTE: Span = Span::from_secs(60);

#[derive(Clone, Debug)]
pub(super) struct Asked {
    bound: i64,
    /// Where its output can be limited: what is fixed of its bound.
    fixed: Option<i64>,
    unbounded: bool,
    task: u8,
    model: u8,
    tags: u8,
    tokens: u64,
    alternative: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Reserve(Asked),
    /// Cost in per cent of what is reserved.
    Settle {
        which: usize,
        cost: i64,
        tokens: u64,
    },
    Amend {
        which: usize,
        cost: i64,
        tokens: u64,
        next: Asked,
    },
    Lose {
        which: usize,
    },
    Release {
        which: usize,
    },
    Pass {
        millis: u64,
    },
    Repeat {
        which: usize,
    },
    Crash,
    Snapshot,
}

fn asked() -> impl Strategy<Value = Asked> {
    let numbers = (1..9i64, proptest::option::of(0..3i64), 0..12u8, 0..3u8, 0..3u8, 0..4u8, 0..400u64, any::<bool>());
    numbers.prop_map(|(bound, fixed, unbounded, task, model, tags, tokens, alternative)| Asked {
        bound,
        fixed: fixed.map(|fixed| fixed.min(bound)),
        unbounded: unbounded == 0,
        task,
        model,
        tags,
        tokens,
        alternative,
    })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<usize>;
    let pass = prop_oneof![6 => 0..90_000u64, 3 => 0..3_600_000u64, 1 => 0..30 * 3_600_000u64];
    let step = prop_oneof![
        12 => asked().prop_map(Step::Reserve),
        6 => (which(), 0..125i64, 0..400u64).prop_map(|(which, cost, tokens)| Step::Settle { which, cost, tokens }),
        3 => (which(), 0..110i64, 0..400u64, asked())
            .prop_map(|(which, cost, tokens, next)| Step::Amend { which, cost, tokens, next }),
        1 => which().prop_map(|which| Step::Lose { which }),
        1 => which().prop_map(|which| Step::Release { which }),
        5 => pass.prop_map(|millis| Step::Pass { millis }),
        1 => which().prop_map(|which| Step::Repeat { which }),
        1 => Just(Step::Crash),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 1..90)
}

/// Shortly before something happens to a clock or a calendar.
pub(super) fn starts() -> impl Strategy<Value = Timestamp> {
    const MOMENTS: [&str; 4] =
        ["2026-10-25T00:20:00Z", "2026-03-29T00:40:00Z", "2026-04-04T14:20:00Z", "2028-02-29T22:30:00Z"];
    (proptest::sample::select(&MOMENTS[..]), 0..7_200_000i64).prop_map(|(moment, later)| {
        let moment: jiff::Timestamp = moment.parse().expect("a time");
        Timestamp(moment.as_millisecond() + later)
    })
}

pub(super) fn policies() -> Policies {
    let each = |dimension| Scope(vec![(dimension, Pick::Each)]);
    let of = |name: &str, scope, period: &str, zone: &str, limit| Budget {
        time_zone: Zone::parse(zone).expect("a zone"),
        alert: vec![Permille(500), Permille(1000)],
        ..budget(name, scope, period.parse().expect("a period"), Money::usd(limit))
    };
    let clamp = WhenShort::Clamp { floor: 5 };
    let ceiling = Some(Money::usd(6));
    let raise = Raise {
        by: Money::usd(RAISED),
        from: Timestamp(0),
        until: Timestamp(1_792_891_800_000),
        reason: "a rush".into(),
        admin: "root".into(),
        subject: String::new(),
    };
    let budgets = [
        Budget {
            when_short: clamp,
            unbounded_ceiling: ceiling,
            ..of("day", Scope::default(), "day", "Europe/Berlin", 40)
        },
        Budget {
            raises: vec![raise],
            when_short: clamp,
            unbounded_ceiling: ceiling,
            ..of("month", each(Dimension::Project), "month", "America/New_York", 90)
        },
        Budget { when_short: clamp, ..of("task", each(Dimension::Task), "lifetime", "", 30) },
        Budget {
            when_short: clamp,
            unbounded_ceiling: ceiling,
            ..of("rolling", each(Dimension::Key), "rolling 1h", "", 25)
        },
        Budget { hard: false, ..of("soft", Scope::default(), "rolling 90m", "", 10) },
        Budget {
            when_short: clamp,
            unbounded_ceiling: ceiling,
            ..of("hour", each(Dimension::Model), "hour", "Australia/Lord_Howe", 20)
        },
        Budget {
            when_short: clamp,
            unbounded_ceiling: Some(Money::usd(1)),
            ..of("tag", each(Dimension::Tag), "minute", "", 15)
        },
        of("named", Scope(vec![(Dimension::Model, Pick::Any(vec!["m1".into()]))]), "total", "", 60),
    ];
    let limit = |name: &str, dimension, measure, allowed, period, strategy| Limit {
        name: name.into(),
        scope: each(dimension),
        measure,
        rate: Rate { allowed, period, strategy },
        default: false,
    };
    let limits = [
        limit("fixed", Dimension::Key, Measure::Requests, 6, MINUTE, Laid::FixedWindow),
        limit("sliding", Dimension::Project, Measure::Tokens, 900, MINUTE, Laid::SlidingWindow),
        limit("bucket", Dimension::Model, Measure::Requests, 4, MINUTE, Laid::TokenBucket { burst: 5 }),
        limit("together", Dimension::Task, Measure::Concurrent, 3, Span::ZERO, Laid::FixedWindow),
    ];
    Policies {
        budgets: budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect(),
        limits: limits.into_iter().map(|limit| (limit.name.clone(), limit)).collect(),
        ..Policies::default()
    }
}

pub(super) const RAISED: i64 = 15;

impl Asked {
    pub(super) fn request(&self, now: Timestamp) -> v1::ReserveRequest {
        let attempt = |model: u8| v1::Attempt {
            model: format!("m{model}"),
            upstream_model: format!("u{model}"),
            expected_tokens: self.tokens,
            unbounded: if self.unbounded { "tools: a search is billed by what it finds".into() } else { String::new() },
            output: self.fixed.map(|fixed| v1::OutputShare {
                fixed: Some(Money::usd(fixed).into()),
                per_token: Some(Money::from_picos(Money::usd(self.bound - fixed).picos() / 100).into()),
                max_tokens: 100,
            }),
            ..attempt(Money::usd(self.bound))
        };
        let tags = (0..2).filter(|tag| self.tags & (1 << tag) != 0).map(|tag| format!("t{tag}")).collect();
        let task = if self.task == 0 { String::new() } else { format!("task{}", self.task) };
        let principal =
            v1::Principal { project: "acme".into(), key_id: format!("k{}", self.task % 2), ..Default::default() };
        v1::ReserveRequest {
            principal: Some(principal),
            labels: Some(v1::Labels { tags, task_id: task, ..Default::default() }),
            deadline_unix_ms: now.after(Duration::from_secs(60)).millis(),
            attempt: Some(attempt(self.model)),
            alternatives: if self.alternative { vec![attempt((self.model + 1) % 3)] } else { Vec::new() },
            ..request(Money::ZERO, "")
        }
    }
}
