//! The price book and its arithmetic, against costs computed by hand (`costs/costs.txt`).

use farebox_pricing::{
    Amount, Extent, PriceBook, PriceError, PriceRow, RateCard, Rates, SearchContext, ServiceTier, TierRates, bound,
    price, read_prices,
};
use farebox_proto::v1;
use farebox_types::{Money, Timestamp, Usage};
use proptest::prelude::*;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: Timestamp = Timestamp(1_767_225_600_000);
/// 2025-06-10T00:00:00Z, when the price of o3 fell.
const O3_CUT: Timestamp = Timestamp(1_749_513_600_000);

fn built_in() -> PriceBook {
    PriceBook::built_in().expect("the built-in prices are good")
}

fn test_book() -> PriceBook {
    PriceBook::of(&read_prices(include_str!("costs/book.toml")).expect("a good file")).expect("good rows")
}

fn usage(words: &str) -> Usage {
    let counts = words.split_whitespace().map(|word| word.split_once('=').expect("bucket=count"));
    let object = counts.map(|(name, count)| (name.to_owned(), count.parse::<u64>().expect("a count").into()));
    serde_json::from_value(object.collect::<serde_json::Map<_, _>>().into()).expect("buckets of usage")
}

fn instant(text: &str) -> Timestamp {
    let civil: jiff::civil::DateTime = text.parse().expect("a time");
    Timestamp(civil.to_zoned(jiff::tz::TimeZone::UTC).expect("it exists").timestamp().as_millisecond())
}

#[test]
fn costs_computed_by_hand() {
    let book = test_book();
    let lines = include_str!("costs/costs.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let [model, at, region, tier, used, expected] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("six columns: {line}")
        };
        let region = (!region.is_empty()).then_some(region);
        let priced = book.card("acme", model, instant(at), region).unwrap_or_else(|| panic!("no price: {line}"));
        let (unpriced, expected) = expected.strip_prefix("! ").map_or((false, expected), |cost| (true, cost));
        let used = usage(used);
        let cost = price(&used, &priced.card, tier);
        assert_eq!((cost.total.to_string().as_str(), cost.tier_unpriced), (expected, unpriced), "{line}");
        let (input, output, searches) = (used.total_input(), used.total_output(), used.searches.unwrap_or(0));
        let extent = Extent { input, max_tokens: output, answers: 1, searches };
        assert!(bound(&priced.card, extent, &[tier]).amount() >= cost.total, "{line}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn a_call_outside_of_all_dates_has_no_price() {
    let book = test_book();
    assert!(book.card("acme", "dated", instant("2026-09-01T00:00"), None).is_none());
    assert!(book.card("acme", "dated-2025-07-07", instant("2026-09-01T00:00"), None).is_none());
}

#[test]
fn the_size_of_the_search_context_counts() {
    let searcher = || test_book().card("acme", "searcher", NEW_YEAR, None).expect("a price");
    let cost = |size| price(&usage("searches=1"), &searcher().with_search_context(size).card, "").total.to_string();
    assert_eq!(cost(SearchContext::Low), "0.006");
    assert_eq!(cost(SearchContext::Medium), "0.01");
    assert_eq!(cost(SearchContext::High), "0.014");
    // Perplexity has a fee for the request: 10 × 3 + 10 × 15 micro-dollars, and the size's.
    let sonar = built_in().card("perplexity", "sonar-pro", NEW_YEAR, None).expect("a price");
    let used = usage("input=10 output=10");
    assert_eq!(price(&used, &sonar.card, "").total.to_string(), "0.00618");
    let high = sonar.with_search_context(SearchContext::High);
    assert_eq!(price(&used, &high.card, "").total.to_string(), "0.01418");
}

#[test]
fn retired_models_keep_their_prices() {
    let book = built_in();
    for (provider, model, cost) in [
        // 1000 × input + 1000 × output of a million
        ("openai", "gpt-4", "0.09"),
        ("openai", "gpt-4-0613", "0.09"),
        ("anthropic", "claude-3-opus-20240229", "0.09"),
        ("anthropic", "claude-sonnet-4-20250514", "0.018"),
        ("anthropic", "claude-3-5-haiku-20241022", "0.0048"),
        ("cohere", "command-r-plus", "0.0125"),
        ("gemini", "gemini-pro", "0.0005"),
        ("openai", "gpt-4o-2024-05-13", "0.02"),
    ] {
        let priced = book.card(provider, model, NEW_YEAR, None).unwrap_or_else(|| panic!("{provider}/{model}"));
        assert_eq!(price(&usage("input=1000 output=1000"), &priced.card, "").total.to_string(), cost, "{model}");
        assert!(!priced.entry.source.is_empty());
    }
}

#[test]
fn the_price_in_force_at_the_time_counts() {
    let book = built_in();
    let input = |at| book.card("openai", "o3", at, None).expect("a price").card.standard().input;
    assert_eq!(input(Timestamp(O3_CUT.millis() - 1)), 10_000_000_000_000);
    assert_eq!(input(O3_CUT), 2_000_000_000_000);
}

#[test]
fn an_unknown_price_is_none() {
    let book = built_in();
    for (provider, model) in [
        // Its dated variants have different prices: which one a new date has, nobody knows.
        ("openai", "gpt-4o-2099-01-01"),
        ("openai", "gpt-4o-"),
        ("openai", "gpt-4o-miniature"),
        ("openai", "claude-sonnet-4-5"),
        ("nobody", "gpt-4o"),
    ] {
        assert!(book.card(provider, model, NEW_YEAR, None).is_none(), "{model}");
    }
}

#[test]
fn what_is_known_of_a_model_stands_beside_its_price() {
    let priced = built_in().card("anthropic", "claude-sonnet-4-5", NEW_YEAR, None).expect("a price");
    assert_eq!((priced.entry.max_output, priced.entry.context_window), (Some(64_000), Some(200_000)));
    assert!(priced.entry.capabilities.contains(&farebox_pricing::Capability::Tools));
}

fn row(model: &str, input: &str) -> PriceRow {
    PriceRow {
        provider: "local".into(),
        models: vec![model.into()],
        amounts: [(Amount::Input, input.into()), (Amount::Output, "1".into())].into(),
        ..PriceRow::default()
    }
}

#[test]
fn overrides_replace_a_model_and_change_the_version() {
    let plain = built_in();
    let mut own = PriceRow { provider: "openai".into(), models: vec!["gpt-4o".into()], ..row("", "1") };
    own.amounts.insert(Amount::PerRequest, "0.01".into());
    let book = PriceBook::with_overrides(&[own.clone(), row("llama", "0.2")]).unwrap();
    let gpt = book.card("openai", "gpt-4o", NEW_YEAR, None).expect("a price");
    // 0.01 + 1000 × 1, and no tier of the built-in price is left.
    assert_eq!(price(&usage("input=1000"), &gpt.card, "priority").total.to_string(), "0.011");
    assert!(gpt.card.tiers().is_empty());
    assert!(book.card("openai", "gpt-4o-mini", NEW_YEAR, None).is_some());
    assert!(book.card("local", "llama", NEW_YEAR, None).is_some());
    assert_ne!(book.version(), plain.version());
    assert_eq!(gpt.version, book.version());
    let other_order = PriceBook::with_overrides(&[row("llama", "0.20"), own]).unwrap();
    assert_eq!(other_order.version(), book.version());
    assert_eq!(plain.version().len(), 12);
}

#[test]
fn every_part_of_a_price_changes_the_version() {
    let version = |more: &str| {
        let text = format!("[[price]]\nprovider = \"p\"\nmodels = [\"m\"]\ninput = \"1\"\noutput = \"1\"\n{more}\n");
        PriceBook::of(&read_prices(&text).unwrap()).unwrap().version().to_owned()
    };
    let changes = [
        "",
        "cache_read_audio = \"2\"",
        "per_search = \"2\"",
        "search_context = { low = \"2\" }",
        "tiers = [{ service_tier = \"flex\", input = \"2\" }]",
        "tiers = [{ above = 9, input = \"2\" }]",
        "tiers = [{ above = 9, inclusive = true, input = \"2\" }]",
        "windows = [{ hours = [\"01:00-02:00\"], factor = \"2\" }]",
        "windows = [{ hours = [\"01:00-03:00\"], factor = \"2\" }]",
        "regions = [{ region = \"us\", factor = \"1.1\" }]",
        "region = \"us\"",
        "from = \"2026-01-01\"",
        "also = [\"dated\"]",
    ];
    let versions: std::collections::HashSet<String> = changes.iter().map(|more| version(more)).collect();
    assert_eq!(versions.len(), changes.len());
}

#[test]
fn bad_rows_are_refused_by_name() {
    let said = |row: PriceRow| PriceBook::of(&[row]).expect_err("it is bad");
    assert!(matches!(said(row("m", "1,5")), PriceError::Amount { field: "input", .. }));
    assert!(matches!(said(row("m", "-1")), PriceError::Range { field: "input", .. }));
    assert!(matches!(said(row("m", "10000000")), PriceError::Range { .. }));
    let backwards = PriceRow {
        from: Some("2026-02-01".parse().unwrap()),
        until: Some("2026-01-01".parse().unwrap()),
        ..row("m", "1")
    };
    assert!(matches!(said(backwards), PriceError::Period { .. }));
    let twice = PriceBook::of(&[row("m", "1"), row("m", "2")]).expect_err("it is bad");
    assert_eq!(twice.to_string(), "two prices of local/m hold on the same day: give the earlier one an `until`");
    let none = PriceRow { models: Vec::new(), ..row("m", "1") };
    assert!(matches!(said(none), PriceError::NoModel { .. }));
    let mut half = row("m", "1");
    half.amounts.remove(&Amount::Output);
    assert!(matches!(said(half), PriceError::Missing { field: "output", .. }));
}

#[test]
fn all_faults_of_a_file_are_told_with_their_lines() {
    let text = r#"[[price]]
provider = "p"
models = ["good"]
input = "1"
output = "1"

[[price]]
provider = "p"
models = ["typo"]
inptu = "1"
output = "1"

[[price]]
provider = "p"
models = ["good", "bad"]
input = "1"
output = "1"
tiers = [{ service_tier = "warp", input = "1" }]

[[price]]
provider = "p"
models = ["good"]
input = "1"
output = "1"

[[price]]
provider = "p"
models = ["window"]
input = "1"
output = "1"
windows = [{ hours = ["25:00-26:00"], factor = "2" }]
"#;
    let faults = read_prices(text).expect_err("it has faults");
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [7, 13, 20, 26]);
    let said: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert!(said[0].contains("`inptu`"), "{said:?}");
    assert!(said[1].contains("`warp`"), "{said:?}");
    assert!(said[2].contains("two prices of p/good"), "{said:?}");
    assert!(said[3].contains("window"), "{said:?}");
    let torn = read_prices("[[price]]\nprovider = \n").expect_err("it is no TOML");
    assert_eq!(torn.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2]);
}

fn rates() -> impl Strategy<Value = Rates> {
    prop::array::uniform13(0_i64..1_000_000_000_000_000).prop_map(|r| Rates {
        input: r[0],
        cache_read: r[1],
        cache_write_5m: r[2],
        cache_write_1h: r[3],
        output: r[4],
        reasoning: r[5],
        audio_input: r[6],
        audio_output: r[7],
        image_input: r[8],
        image_output: r[9],
        per_request: r[10],
        cache_read_audio: r[11],
        per_search: r[12],
    })
}

fn any_usage() -> impl Strategy<Value = Usage> {
    prop::array::uniform12(prop::option::of(0_u64..3_000)).prop_map(|n| Usage {
        input: n[0],
        cache_read: n[1],
        cache_write_5m: n[2],
        cache_write_1h: n[3],
        output: n[4],
        reasoning: n[5],
        audio_input: n[6],
        audio_output: n[7],
        image_input: n[8],
        image_output: n[9],
        cache_read_audio: n[10],
        searches: n[11],
    })
}

const SERVED: [&str; 5] = ["", "flex", "priority", "batch", "unheard-of"];

fn card() -> impl Strategy<Value = RateCard> {
    let tiers = vec![ServiceTier::Standard, ServiceTier::Flex, ServiceTier::Priority];
    let tier = (prop::sample::select(tiers), 1_u64..20_000, any::<bool>(), rates());
    let tier = tier.prop_map(|(tier, above, inclusive, rates)| TierRates { tier, above, inclusive, rates });
    (rates(), prop::collection::vec(tier, 0..5)).prop_map(|(standard, tiers)| RateCard::new(standard, tiers))
}

proptest! {
    #[test]
    fn the_bound_holds_for_any_usage_within_it(
        card in card(),
        usage in any_usage(),
        more in prop::array::uniform3(0_u64..5_000),
        answers in 1_u64..4,
        tier in prop::sample::select(&SERVED[..]),
        possible in prop::sample::subsequence(&SERVED[..], 0..5),
    ) {
        let tiers = [possible, vec![tier]].concat();
        let input = usage.total_input() + more[0];
        let output = usage.total_output() + more[1];
        let searches = usage.searches.unwrap_or(0) + more[2];
        let extent = Extent { input, max_tokens: output.div_ceil(answers), answers, searches };
        prop_assert!(bound(&card, extent, &tiers).amount() >= price(&usage, &card, tier).total);
    }

    #[test]
    fn a_card_travels_in_a_plan_and_comes_back(card in card()) {
        let deployment = v1::Deployment {
            rates: Some((*card.standard()).into()),
            rate_tiers: (&card).into(),
            ..v1::Deployment::default()
        };
        prop_assert_eq!(RateCard::from(&deployment), card);
    }

    #[test]
    fn a_total_is_the_sum_of_its_buckets_within_their_rounding(card in card(), usage in any_usage()) {
        let cost = price(&usage, &card, "");
        let buckets = [
            cost.input, cost.cache_read, cost.cache_write_5m, cost.cache_write_1h, cost.output, cost.reasoning,
            cost.audio_input, cost.audio_output, cost.image_input, cost.image_output, cost.cache_read_audio,
            cost.searches, cost.per_request,
        ];
        let apart = buckets.into_iter().sum::<Money>() - cost.total;
        prop_assert!(apart.picos().abs() <= 6, "{apart}");
    }
}
