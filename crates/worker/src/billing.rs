//! What an attempt is billed: the provider's own usage where there is one, else an amount that errs high.

use farebox_pricing::{RateCard, price};
use farebox_proto::v1;
use farebox_types::{Money, Usage};

/// What is known of an attempt's use when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Used {
    /// Nothing that is billed: it never reached the provider, or the provider refused it.
    Nothing,
    /// The provider said so.
    Reported(Usage),
    /// The provider did not say all of it, or a stream ended early: what it had reported until then, what was counted here,
    /// and how many output tokens it may have made beyond what was read of them.
    Partly { reported: Usage, read: u64, wrote: u64, unread: u64 },
    /// It was sent, and nothing is known of the answer.
    Unknown,
}

impl Used {
    /// Of a stream that was left before its end: its provider goes on until it notices.
    pub(crate) fn unfinished(self, unread: u64) -> Used {
        match self {
            Used::Partly { reported, read, wrote, .. } => Used::Partly { reported, read, wrote, unread },
            other => other,
        }
    }
}

/// Usage and cost of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bill {
    pub(crate) usage: Usage,
    pub(crate) cost: Money,
    /// Counted by farebox, not by the provider.
    pub(crate) estimated: bool,
    /// The cost is the provider's own word.
    pub(crate) reported: bool,
}

/// What a provider said of the price of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Its word for the tier in which it served; empty where it said none.
    pub(crate) tier: String,
    /// What it charges, where that is believed.
    pub(crate) cost: Option<Money>,
}

/// What an attempt was admitted on.
pub(crate) struct Terms {
    pub(crate) card: RateCard,
    /// What was reserved for it.
    pub(crate) bound: Money,
    /// Its output limit, in tokens, where that is known.
    pub(crate) max_output: Option<u64>,
    /// Nothing in the request bounds its cost.
    pub(crate) unbounded: bool,
    /// It may be billed for what no usage shows.
    pub(crate) unmetered: bool,
}

impl Terms {
    pub(crate) fn of(deployment: &v1::Deployment, bound: Money) -> Terms {
        let clamped = Some(deployment.clamped_max_tokens).filter(|limit| *limit > 0);
        Terms {
            card: RateCard::from(deployment),
            bound,
            max_output: clamped.or_else(|| deployment.output.map(|share| share.max_tokens)),
            unbounded: !deployment.unbounded.is_empty(),
            unmetered: deployment.unmetered,
        }
    }
}

pub(crate) fn bill(used: Used, terms: &Terms, said: &Said) -> Bill {
    let Terms { card, bound, max_output, unbounded, unmetered } = terms;
    let counted = |usage: Usage, cost: Money, estimated| Bill { usage, cost, estimated, reported: false };
    match used {
        Used::Nothing => counted(Usage::default(), Money::ZERO, false),
        Used::Reported(usage) => match said.cost {
            Some(cost) => Bill { usage, cost, estimated: false, reported: true },
            None => counted(usage, price(&usage, card, &said.tier).total, *unmetered),
        },
        Used::Partly { reported, read, wrote, unread } => {
            let mut usage = reported;
            if usage.total_input() == 0 {
                usage.input = Some(read);
            }
            // Reported output of an unfinished stream is provisional.
            let wrote = usage.output.unwrap_or_default().max(wrote);
            let most = wrote.saturating_add(unread);
            usage.output = Some(max_output.map_or(most, |max| most.min(max)).max(wrote));
            let cost = price(&usage, card, &said.tier).total;
            counted(usage, if *unbounded { cost } else { cost.min(*bound) }, true)
        }
        Used::Unknown => counted(Usage::default(), *bound, true),
    }
}

/// Tokens of a text for a model. It takes its time, which is not the time of the calls that run beside.
pub(crate) async fn count(model: &str, text: String) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let (model, bytes) = (model.to_owned(), text.len());
    let counted = tokio::task::spawn_blocking(move || farebox_tokens::count(&model, &text).tokens).await;
    // A tokenizer that cannot count leaves the bytes: no text has more tokens.
    counted.unwrap_or(bytes as u64)
}

#[cfg(test)]
mod tests {
    use farebox_pricing::Rates;

    use super::*;

    fn terms(bound: Money) -> Terms {
        // 1 and 2 dollars a million.
        let card = Rates { input: 1_000_000_000_000, output: 2_000_000_000_000, ..Rates::default() }.into();
        Terms { card, bound, max_output: Some(5000), unbounded: false, unmetered: false }
    }

    #[test]
    fn a_cut_stream_is_billed_by_what_came_and_errs_high() {
        let used = Used::Partly { reported: Usage::default(), read: 100, wrote: 10, unread: 0 };
        let bill = bill(used, &terms(Money::usd(1)), &Said::default());
        assert_eq!((bill.usage.input, bill.usage.output), (Some(100), Some(10)));
        assert_eq!(bill.cost.to_string(), "0.00012");
        assert!(bill.estimated);
    }

    #[test]
    fn what_a_provider_may_have_made_unread_is_billed_up_to_the_output_limit_and_the_bound() {
        let reported = Usage { input: Some(100), output: Some(4), ..Usage::default() };
        let cut = |wrote, unread| Used::Partly { reported, read: 0, wrote, unread: 0 }.unfinished(unread);
        let billed = |used, bound: &str| {
            let bill = bill(used, &terms(bound.parse().unwrap()), &Said::default());
            (bill.usage.output.unwrap(), bill.cost.to_string())
        };
        assert_eq!(billed(cut(10, 512), "1"), (522, "0.001144".into()));
        assert_eq!(billed(cut(0, 512), "1"), (516, "0.001132".into()));
        assert_eq!(billed(cut(4900, 512), "1"), (5000, "0.0101".into()));
        // More than it could: it was counted high, or the provider took the limit for another thing.
        assert_eq!(billed(cut(6000, 512), "1"), (6000, "0.0121".into()));
        assert_eq!(billed(cut(10, 512), "0.001"), (522, "0.001".into()));
        assert_eq!(Used::Unknown.unfinished(512), Used::Unknown);
    }

    #[test]
    fn a_cost_that_is_believed_is_the_cost() {
        let usage = Usage { input: Some(100), output: Some(10), ..Usage::default() };
        let said = Said { cost: Some("0.5".parse().unwrap()), ..Said::default() };
        let bill = bill(Used::Reported(usage), &terms(Money::usd(1)), &said);
        assert_eq!((bill.cost, bill.reported, bill.usage), ("0.5".parse().unwrap(), true, usage));
    }

    #[test]
    fn what_the_provider_said_before_the_cut_counts() {
        let reported = Usage { input: Some(7), output: Some(1), ..Usage::default() };
        let used = Used::Partly { reported, read: 100, wrote: 10, unread: 0 };
        let bill = bill(used, &terms(Money::usd(1)), &Said::default());
        assert_eq!((bill.usage.input, bill.usage.output), (Some(7), Some(10)));
    }

    #[test]
    fn an_estimate_is_never_above_the_reservation_and_an_unknown_bill_is_all_of_it() {
        let bound = "0.00001".parse().unwrap();
        let used = Used::Partly { reported: Usage::default(), read: 1000, wrote: 1000, unread: 0 };
        assert_eq!(bill(used, &terms(bound), &Said::default()).cost, bound);
        assert_eq!(bill(Used::Unknown, &terms(bound), &Said::default()).cost, bound);
    }

    #[test]
    fn what_usage_does_not_show_makes_the_cost_an_estimate_unless_the_provider_says_it() {
        let usage = Usage { input: Some(100), output: Some(10), ..Usage::default() };
        let unmetered = Terms { unmetered: true, ..terms(Money::usd(1)) };
        let counted = bill(Used::Reported(usage), &unmetered, &Said::default());
        assert_eq!((counted.cost.to_string().as_str(), counted.estimated), ("0.00012", true));
        let said = Said { cost: Some("0.5".parse().unwrap()), ..Said::default() };
        assert!(!bill(Used::Reported(usage), &unmetered, &said).estimated);
    }

    #[test]
    fn an_estimate_of_what_has_no_bound_is_not_cut_to_the_part_that_was_known() {
        let used = Used::Partly { reported: Usage::default(), read: 1000, wrote: 0, unread: 0 };
        let unbounded = Terms { unbounded: true, ..terms("0.00001".parse().unwrap()) };
        assert_eq!(bill(used, &unbounded, &Said::default()).cost.to_string(), "0.001");
    }
}
