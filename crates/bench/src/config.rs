//! The config of the farebox that is measured. Everything that the bench assumes about farebox's config stands here.

use std::net::SocketAddr;

use farebox_types::Money;

use crate::{cli::Durability, emulator::MODELS};

/// The table that the books are checked against.
pub(crate) const CALLS_TABLE: &str = "farebox.calls";

/// US dollars for a million tokens; both are whole pico-dollars for one token, so that no rounding hides a difference.
const INPUT_PRICE: &str = "0.15";
const OUTPUT_PRICE: &str = "0.60";
const INPUT_PICOS: i128 = 150_000;
const OUTPUT_PICOS: i128 = 600_000;

/// Every call counts in four budgets and two limits, which are there to be reserved and settled, not to be reached.
const RULES: &str = "\
projects: { bench: {} }
keys:
  bench: { key: os.environ/BENCH_KEY, project: bench }
budgets:
  - { name: all, scope: everything, limit: 1000000 USD, period: day, hard: true }
  - { name: per-project, scope: project, limit: 1000000 USD, period: month, hard: true }
  - { name: per-key, scope: key, limit: 1000000 USD, period: day, hard: true }
  - { name: per-task, scope: task, limit: 1000000 USD, hard: true }
limits:
  - { name: requests, scope: key, requests: 1000000000, per: minute, strategy: sliding-window }
  - { name: tokens, scope: project, tokens: 1000000000, per: minute, strategy: token-bucket }
";

/// The key that calls are made with, in the variable that the config names.
pub(crate) const KEY: (&str, &str) = ("BENCH_KEY", "fb-bench-0123456789abcdef0123456789abcdef");

/// The YAML for `farebox up`.
pub(crate) fn yaml(emulator: SocketAddr, durability: Durability, threads: Option<u16>) -> String {
    let durability = durability.as_str();
    let models: String = MODELS.iter().map(|model| format!("  {}: emu/{}\n", model.alias, model.name)).collect();
    let priced = MODELS.map(|model| model.name).join(", ");
    let process = threads.map(|threads| format!("process: {{ threads: {threads} }}\n")).unwrap_or_default();
    format!(
        "nats: {{ listen: 127.0.0.1:0, durability: {durability} }}\n\
         clickhouse: {{ listen: 127.0.0.1:0 }}\n\
         listen: {{ http: 127.0.0.1:0, grpc: 127.0.0.1:0 }}\n\
         providers:\n  emu: {{ kind: openai-compatible, api_base: \"http://{emulator}/v1\" }}\n\
         models:\n{models}\
         prices:\n  - {{ provider: emu, models: [{priced}], input: \"{INPUT_PRICE}\", \
         output: \"{OUTPUT_PRICE}\", context_window: 128000, max_output: 4096, source: bench }}\n\
         {RULES}{process}"
    )
}

/// What so many tokens cost by the prices above.
pub(crate) fn cost(input: u64, output: u64) -> Money {
    Money::from_picos(i128::from(input) * INPUT_PICOS + i128::from(output) * OUTPUT_PICOS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_that_of_the_prices() {
        let million = |price: &str| price.parse::<Money>().unwrap();
        assert_eq!(cost(1_000_000, 0), million(INPUT_PRICE));
        assert_eq!(cost(0, 1_000_000), million(OUTPUT_PRICE));
    }

    #[test]
    fn the_config_names_the_emulator_and_the_mode() {
        let text = yaml("127.0.0.1:4711".parse().unwrap(), Durability::Power, Some(2));
        assert!(text.contains("http://127.0.0.1:4711/v1"), "{text}");
        assert!(text.contains("durability: power"), "{text}");
        assert!(text.ends_with("process: { threads: 2 }\n"), "{text}");
    }
}
