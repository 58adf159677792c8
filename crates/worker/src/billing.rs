//! What an attempt is billed: the provider's own usage where there is one, else an amount that errs high.

use farebox_pricing::{RateCard, price};
use farebox_types::{Money, Usage};

/// What is known of an attempt's use when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Used {
    /// Nothing that is billed: it never reached the provider, or the provider refused it.
    Nothing,
    /// The provider said so.
    Reported(Usage),
    /// The provider did not say all of it, or a stream ended early: what it had reported until then, and what was counted
    /// here.
    Partly { reported: Usage, read: u64, wrote: u64 },
    /// It was sent, and nothing is known of the answer.
    Unknown,
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

pub(crate) fn bill(used: Used, card: &RateCard, said: &Said, bound: Money) -> Bill {
    let counted = |usage: Usage, cost: Money, estimated| Bill { usage, cost, estimated, reported: false };
    match used {
        Used::Nothing => counted(Usage::default(), Money::ZERO, false),
        Used::Reported(usage) => match said.cost {
            Some(cost) => Bill { usage, cost, estimated: false, reported: true },
            None => counted(usage, price(&usage, card, &said.tier).total, false),
        },
        Used::Partly { reported, read, wrote } => {
            let mut usage = reported;
            if usage.total_input() == 0 {
                usage.input = Some(read);
            }
            // Reported output of an unfinished stream is provisional.
            usage.output = Some(usage.output.unwrap_or_default().max(wrote));
            counted(usage, price(&usage, card, &said.tier).total.min(bound), true)
        }
        Used::Unknown => counted(Usage::default(), bound, true),
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

    fn card() -> RateCard {
        // 1 and 2 dollars a million.
        Rates { input: 1_000_000_000_000, output: 2_000_000_000_000, ..Rates::default() }.into()
    }

    #[test]
    fn a_cut_stream_is_billed_by_what_came_and_errs_high() {
        let used = Used::Partly { reported: Usage::default(), read: 100, wrote: 10 };
        let bill = bill(used, &card(), &Said::default(), Money::usd(1));
        assert_eq!((bill.usage.input, bill.usage.output), (Some(100), Some(10)));
        assert_eq!(bill.cost.to_string(), "0.00012");
        assert!(bill.estimated);
    }

    #[test]
    fn a_cost_that_is_believed_is_the_cost() {
        let usage = Usage { input: Some(100), output: Some(10), ..Usage::default() };
        let said = Said { cost: Some("0.5".parse().unwrap()), ..Said::default() };
        let bill = bill(Used::Reported(usage), &card(), &said, Money::usd(1));
        assert_eq!((bill.cost, bill.reported, bill.usage), ("0.5".parse().unwrap(), true, usage));
    }

    #[test]
    fn what_the_provider_said_before_the_cut_counts() {
        let reported = Usage { input: Some(7), output: Some(1), ..Usage::default() };
        let used = Used::Partly { reported, read: 100, wrote: 10 };
        let bill = bill(used, &card(), &Said::default(), Money::usd(1));
        assert_eq!((bill.usage.input, bill.usage.output), (Some(7), Some(10)));
    }

    #[test]
    fn an_estimate_is_never_above_the_reservation_and_an_unknown_bill_is_all_of_it() {
        let bound = "0.00001".parse().unwrap();
        let used = Used::Partly { reported: Usage::default(), read: 1000, wrote: 1000 };
        assert_eq!(bill(used, &card(), &Said::default(), bound).cost, bound);
        assert_eq!(bill(Used::Unknown, &card(), &Said::default(), bound).cost, bound);
    }
}
