//! The built-in table and the arithmetic, against costs computed by hand.

use farebox_pricing::{PriceBook, PriceError, PriceRow, bound, price};
use farebox_types::{Money, Timestamp, Usage};

/// 2026-01-01T00:00:00Z.
const NEW_YEAR: Timestamp = Timestamp(1_767_225_600_000);
/// 2025-06-10T00:00:00Z, when the price of o3 fell.
const O3_CUT: Timestamp = Timestamp(1_749_513_600_000);

fn book() -> PriceBook {
    PriceBook::built_in().expect("the built-in table is good")
}

fn usage(input: u64, cache_read: u64, write_5m: u64, write_1h: u64, output: u64, reasoning: u64) -> Usage {
    let some = |n| if n == 0 { None } else { Some(n) };
    Usage {
        input: some(input),
        cache_read: some(cache_read),
        cache_write_5m: some(write_5m),
        cache_write_1h: some(write_1h),
        output: some(output),
        reasoning: some(reasoning),
        ..Usage::default()
    }
}

/// One line of the table: provider, model, usage by bucket, dollars.
type Line = (&'static str, &'static str, [u64; 6], &'static str);

#[test]
fn costs_computed_by_hand() {
    // input, cache read, cache write 5m, cache write 1h, output, reasoning
    let lines: [Line; 18] = [
        // 1000 × 30 + 500 × 60 = 60000 micro-dollars
        ("openai", "gpt-4", [1000, 0, 0, 0, 500, 0], "0.06"),
        ("openai", "gpt-4-0613", [8, 0, 0, 0, 1, 0], "0.0003"),
        // 13 × 2.5 + 7 × 10 = 102.5
        ("openai", "gpt-4o", [13, 0, 0, 0, 7, 0], "0.0001025"),
        // 976 × 2.5 + 1024 × 1.25 + 100 × 10 = 2440 + 1280 + 1000
        ("openai", "gpt-4o-2024-08-06", [976, 1024, 0, 0, 100, 0], "0.00472"),
        // 10 × 5 + 10 × 15: the first dated variant was dearer
        ("openai", "gpt-4o-2024-05-13", [10, 0, 0, 0, 10, 0], "0.0002"),
        // 9 × 0.15 + 12 × 0.6 = 1.35 + 7.2
        ("openai", "gpt-4o-mini", [9, 0, 0, 0, 12, 0], "0.00000855"),
        // 1 × 0.075
        ("openai", "gpt-4o-mini-2024-07-18", [0, 1, 0, 0, 0, 0], "0.000000075"),
        ("openai", "gpt-4.1", [1_000_000, 0, 0, 0, 0, 0], "2"),
        // 3 × 0.025
        ("openai", "gpt-4.1-nano", [0, 3, 0, 0, 0, 0], "0.000000075"),
        // 100 × 1.25 + 20 × 10 + 64 × 10 = 125 + 200 + 640
        ("openai", "gpt-5", [100, 0, 0, 0, 20, 64], "0.000965"),
        // 1 × 0.005
        ("openai", "gpt-5-nano", [0, 1, 0, 0, 0, 0], "0.000000005"),
        // 50 × 1.1 + 10 × 4.4 + 90 × 4.4 = 55 + 44 + 396
        ("openai", "o3-mini", [50, 0, 0, 0, 10, 90], "0.000495"),
        // 1000 × 15 + 1000 × 75
        ("anthropic", "claude-3-opus-20240229", [1000, 0, 0, 0, 1000, 0], "0.09"),
        // 21 × 0.8 + 5 × 4 = 16.8 + 20
        ("anthropic", "claude-3-5-haiku-20241022", [21, 0, 0, 0, 5, 0], "0.0000368"),
        // 3 × 3 + 2000 × 0.3 + 100 × 3.75 + 10 × 6 + 50 × 15 = 9 + 600 + 375 + 60 + 750
        ("anthropic", "claude-sonnet-4-20250514", [3, 2000, 100, 10, 50, 0], "0.001794"),
        ("anthropic", "claude-sonnet-4-5", [3, 2000, 100, 10, 50, 0], "0.001794"),
        // 7 × 1 + 7 × 0.1 + 7 × 1.25 + 7 × 2 + 7 × 5 = 7 + 0.7 + 8.75 + 14 + 35
        ("anthropic", "claude-haiku-4-5-20251001", [7, 7, 7, 7, 7, 0], "0.00006545"),
        // 40 × 0.15 + 10 × 0.6
        ("demo", "demo-small", [40, 0, 0, 0, 10, 0], "0.000012"),
    ];
    let book = book();
    for (provider, model, [i, r, w5, w1, o, t], expected) in lines {
        let priced = book.rates(provider, model, NEW_YEAR).expect("it has a price");
        let usage = usage(i, r, w5, w1, o, t);
        let cost = price(&usage, &priced.rates);
        assert_eq!(cost.total.to_string(), expected, "{model}");
        let buckets = [
            cost.input,
            cost.cache_read,
            cost.cache_write_5m,
            cost.cache_write_1h,
            cost.output,
            cost.reasoning,
            cost.audio_input,
            cost.audio_output,
            cost.image_input,
            cost.image_output,
            cost.per_request,
        ];
        assert_eq!(buckets.into_iter().sum::<Money>(), cost.total, "{model}");
        assert!(bound(&priced.rates, usage.total_input(), usage.total_output()) >= cost.total, "{model}");
    }
}

#[test]
fn the_bound_takes_the_dearest_buckets() {
    let sonnet = book().rates("anthropic", "claude-sonnet-4-5", NEW_YEAR).expect("a price");
    // 100 × 6 (cache write for an hour) + 10 × 15
    assert_eq!(bound(&sonnet.rates, 100, 10).to_string(), "0.00075");
    assert_eq!((sonnet.max_output, sonnet.context_window), (Some(64_000), Some(200_000)));
}

#[test]
fn an_unknown_price_is_none() {
    let book = book();
    assert_eq!(book.rates("openai", "gpt-4o-2099-01-01", NEW_YEAR), None);
    assert_eq!(book.rates("openai", "claude-sonnet-4-5", NEW_YEAR), None);
    assert_eq!(book.rates("nobody", "gpt-4o", NEW_YEAR), None);
}

#[test]
fn the_price_in_force_at_the_time_counts() {
    let book = book();
    let input = |at| book.rates("openai", "o3", at).expect("a price").rates.input;
    assert_eq!(input(Timestamp(O3_CUT.millis() - 1)), 10_000_000_000_000);
    assert_eq!(input(O3_CUT), 2_000_000_000_000);
}

fn row(model: &str, input: &str) -> PriceRow {
    PriceRow {
        provider: "local".into(),
        models: vec![model.into()],
        input: input.into(),
        output: "1".into(),
        ..PriceRow::default()
    }
}

#[test]
fn overrides_replace_a_model_and_change_the_version() {
    let plain = book();
    let own = PriceRow {
        provider: "openai".into(),
        models: vec!["gpt-4o".into()],
        per_request: Some("0.01".into()),
        ..row("", "1")
    };
    let book = PriceBook::with_overrides(&[own.clone(), row("llama", "0.2")]).unwrap();
    let gpt = book.rates("openai", "gpt-4o", NEW_YEAR).expect("a price");
    // 0.01 + 1000 × 1
    assert_eq!(price(&usage(1000, 0, 0, 0, 0, 0), &gpt.rates).total.to_string(), "0.011");
    assert!(book.rates("openai", "gpt-4o-mini", NEW_YEAR).is_some());
    assert!(book.rates("local", "llama", NEW_YEAR).is_some());
    assert_ne!(book.version(), plain.version());
    assert_eq!(gpt.version, book.version());
    let other_order = PriceBook::with_overrides(&[row("llama", "0.20"), own]).unwrap();
    assert_eq!(other_order.version(), book.version());
    assert_eq!(plain.version().len(), 12);
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
}
