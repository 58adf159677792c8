//! The provider of the storm: what its models answer, and what that costs.

use std::time::Duration;

use farebox_emulator::{Emulator, Entry, Options, Script};
use farebox_types::Money;

/// A token of output, in pico-dollars: a tenth of a cent, so that twenty dollars are a few dozen calls. The input is
/// free, and an answer that is as long as it may be costs exactly its bound.
const TOKEN: i128 = 1_000_000_000;
/// Of the model that is fallen back to.
const DEAR_TOKEN: i128 = 3 * TOKEN;
/// One call of the model that has a price for a call.
const FLAT: i128 = 250_000_000_000;

/// A token, as the emulator counts: four bytes. By other ways of counting it is more, so that what farebox estimates
/// of half an answer is no less.
const WORD: &str = "x7q ";

/// Models that callers ask for.
pub(crate) const MODELS: [&str; 6] = ["short", "middle", "long", "flat", "dear", "shaky"];

/// Tokens of the answers that have their own length.
const ANSWERS: [(&str, usize); 5] = [("short", 20), ("middle", 150), ("long", 2_000), ("flat", 40), ("dear", 100)];

/// The emulator.
pub(crate) struct Provider(pub(crate) Emulator);

impl Provider {
    pub(crate) async fn start() -> anyhow::Result<Provider> {
        let emulator = Emulator::start(Options::default()).await?;
        for (model, tokens) in ANSWERS {
            // What a provider has begun with it bills, whoever has gone meanwhile.
            let script = Script::text(WORD.repeat(tokens)).bill_on_arrival();
            let delay = Duration::from_millis(200 + 4 * u64::try_from(tokens.min(300))?);
            emulator.script(model, script.delay(delay).pace(Duration::from_millis(60)));
        }
        emulator.script("down", Script::refuse(503, "overloaded").delay(Duration::from_millis(50)));
        Ok(Provider(emulator))
    }

    /// The parts of farebox's config that are about it.
    pub(crate) fn config(&self) -> String {
        let alias = |name: &str| format!("  {name}: {{ deployments: [{{ target: emu/{name} }}], retries: 0 }}\n");
        let aliases: String = ANSWERS.iter().map(|(name, _)| alias(name)).collect();
        let price = |models: &str, token: i128, call: i128| {
            format!(
                "  - {{ provider: emu, models: [{models}], input: \"0\", output: \"{}\", per_request: \"{}\", \
                 context_window: 100000, max_output: 2000, source: storm }}\n",
                Money::from_picos(token * 1_000_000),
                Money::from_picos(call),
            )
        };
        format!(
            "providers:\n  emu: {{ kind: openai-compatible, api_base: \"{}/v1\" }}\n\
             models:\n{aliases}  shaky: {{ deployments: [{{ target: emu/down }}], fallback: [dear], retries: 0 }}\n\
             prices:\n{}{}{}",
            self.0.base_url(),
            price("short, middle, long, down", TOKEN, 0),
            price("dear", DEAR_TOKEN, 0),
            price("flat", 0, FLAT),
        )
    }

    /// What the provider charges for one request.
    pub(crate) fn bill(entry: &Entry) -> Money {
        let tokens = i128::from(entry.completion_tokens);
        Money::from_picos(match &*entry.model {
            _ if !entry.billed => 0,
            "flat" => FLAT,
            "dear" => tokens * DEAR_TOKEN,
            _ => tokens * TOKEN,
        })
    }
}
