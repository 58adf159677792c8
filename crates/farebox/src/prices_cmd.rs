//! `farebox prices`: what models cost, what a call would, and whether a price file can be used.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use farebox_pricing::{Amount, Amounts, PriceBook, PriceRow, price, read_prices};
use farebox_types::{Clock, Money, SystemClock, Timestamp, Usage};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use crate::{
    agent::{Align, Moment, Output, render},
    config::Base,
};

/// Shows and compares prices, and checks a price file
#[derive(Args, Clone, Debug)]
pub(crate) struct PricesArgs {
    #[command(subcommand)]
    command: Command,
    /// Config file, whose prices win [default: farebox.yaml, if it is there]
    #[arg(long, value_name = "FILE", env = "FAREBOX_CONFIG", global = true)]
    config: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Shows all that is known of a model's prices, with dates and sources
    Show {
        /// A model's name, of all providers that have it, or PROVIDER/MODEL
        model: String,
        /// As JSON, one line
        #[arg(long)]
        json: bool,
    },
    /// Says what the same usage costs with several models and providers, the cheapest first
    Compare(Box<Compare>),
    /// Says everything that is wrong with a price file ([[price]] tables in TOML)
    Check { file: PathBuf },
}

#[derive(Args, Clone, Debug)]
struct Compare {
    /// Models' names, of all providers that have them, or PROVIDER/MODEL
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// What is used, by bucket, such as input=1000,cache_read=500,output=200,searches=1
    #[arg(long, value_name = "BUCKET=COUNT,…", value_parser = usage)]
    usage: Usage,
    /// The provider's word for the service tier
    #[arg(long, value_name = "WORD", default_value = "")]
    tier: String,
    /// Where it is served
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// When: a date, a time, or a span like 24h for so long ago [default: now]
    #[arg(long, value_name = "WHEN")]
    at: Option<Moment>,
    /// As JSON, one line
    #[arg(long)]
    json: bool,
}

/// What one provider's model costs.
struct Offer {
    provider: String,
    model: String,
    cost: Money,
    /// The tier that it was priced as.
    tier: &'static str,
    /// The tier asked for has no price there.
    tier_unpriced: bool,
}

fn usage(given: &str) -> Result<Usage, String> {
    let mut buckets = Map::new();
    for part in given.split(',').filter(|part| !part.is_empty()) {
        let (bucket, count) = part.split_once('=').ok_or_else(|| format!("`{part}` is no BUCKET=COUNT"))?;
        let count: u64 = count.parse().map_err(|_| format!("`{count}` is no count"))?;
        buckets.insert(bucket.to_owned(), count.into());
    }
    serde_json::from_value(Value::Object(buckets)).map_err(|error| error.to_string())
}

impl PricesArgs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.run_on(&mut Output::standard())
    }

    fn run_on(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Check { file } => check(&file, output),
            Command::Show { model, json } => {
                let book = book(self.config.as_deref())?;
                let found = named(&book, &model);
                if found.is_empty() {
                    return unknown(&model, output);
                }
                let rows: Vec<_> = found.iter().flat_map(|(provider, model)| book.rows(provider, model)).collect();
                if json {
                    let answer = json!({ "version": book.version(), "prices": rows.iter().map(|row| &**row).collect::<Vec<&PriceRow>>() });
                    output.line(&answer.to_string())?;
                } else {
                    let texts: Vec<String> = rows.iter().map(|row| described(row)).collect();
                    output.write(texts.join("\n"))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Compare(compare) => compare.run_on(&book(self.config.as_deref())?, output),
        }
    }
}

fn book(config: Option<&Path>) -> anyhow::Result<PriceBook> {
    Ok(PriceBook::with_overrides(&Base::read(config, Vec::new())?.load()?.value.prices)?)
}

/// Providers and models that a name means: one provider's where it names one, else those of all.
fn named(book: &PriceBook, name: &str) -> Vec<(String, String)> {
    let known = |(provider, model): &(&str, &str)| !book.rows(provider, model).is_empty();
    let one = name.split_once('/').filter(known);
    let all = || book.providers().into_iter().map(|provider| (provider, name)).filter(known).collect();
    let found: Vec<(&str, &str)> = one.map_or_else(all, |one| vec![one]);
    found.into_iter().map(|(provider, model)| (provider.to_owned(), model.to_owned())).collect()
}

fn unknown(model: &str, output: &mut Output) -> anyhow::Result<ExitCode> {
    output.note(&format!("error: no price is known for `{model}`: add it under `prices:` in the config"));
    Ok(ExitCode::FAILURE)
}

impl Compare {
    fn run_on(self, book: &PriceBook, output: &mut Output) -> anyhow::Result<ExitCode> {
        let at = self.instant(SystemClock.now())?;
        let mut offers = Vec::new();
        for name in &self.models {
            let found = named(book, name).into_iter().filter_map(|(provider, model)| {
                let priced = book.card(&provider, &model, at, self.region.as_deref())?;
                let cost = price(&self.usage, &priced.card, &self.tier);
                let (tier, tier_unpriced) = (cost.tier.as_str(), cost.tier_unpriced);
                Some(Offer { provider, model, cost: cost.total, tier, tier_unpriced })
            });
            let before = offers.len();
            offers.extend(found);
            if offers.len() == before {
                return unknown(name, output);
            }
        }
        offers.sort_by(|a, b| (a.cost, &a.provider, &a.model).cmp(&(b.cost, &b.provider, &b.model)));
        if self.json {
            let offers: Vec<Value> = offers.iter().map(Offer::as_json).collect();
            output.line(&json!({ "version": book.version(), "costs": offers }).to_string())?;
        } else {
            let columns =
                [("COST USD", Align::Left), ("PROVIDER", Align::Left), ("MODEL", Align::Left), ("TIER", Align::Left)];
            let rows: Vec<Vec<String>> = offers.iter().map(Offer::as_row).collect();
            output.write(render(&columns, &rows))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn instant(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let Some(at) = self.at else { return Ok(now) };
        at.resolve(now, &TimeZone::system()).map_err(anyhow::Error::msg)
    }
}

impl Offer {
    fn as_json(&self) -> Value {
        json!({
            "provider": self.provider,
            "model": self.model,
            "cost_usd": self.cost.to_string(),
            "tier": self.tier,
            "tier_unpriced": self.tier_unpriced,
        })
    }

    fn as_row(&self) -> Vec<String> {
        let note = if self.tier_unpriced { " (the one asked for has no price here)" } else { "" };
        vec![self.cost.to_string(), self.provider.clone(), self.model.clone(), format!("{}{note}", self.tier)]
    }
}

fn check(file: &Path, output: &mut Output) -> anyhow::Result<ExitCode> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| anyhow::anyhow!("cannot read {name}: {error}"))?;
    match read_prices(&text) {
        Ok(rows) => {
            output.line(&format!("ok: {name}: {} prices", rows.len()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(faults) => {
            for fault in &faults {
                output.note(&format!("{name}:{}: {}", fault.line, fault.message));
            }
            output.note(&format!("error: {name} cannot be used, it has {} faults", faults.len()));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A row for a person: what it is, a line for each set of amounts, where it is from.
fn described(row: &PriceRow) -> String {
    let mut head = format!("{}/{}", row.provider, row.models.join(", "));
    if let Some(region) = &row.region {
        head = format!("{head} in {region}");
    }
    if let Some(from) = row.from {
        head = format!("{head} from {from}");
    }
    if let Some(until) = row.until {
        head = format!("{head} until {until}");
    }
    let mut lines = vec![head, format!("  standard: {}", listed(&row.amounts))];
    for (size, cost) in &row.search_context {
        lines.push(format!("  search with {} context: {cost}", word(size)));
    }
    for tier in &row.tiers {
        let name = if tier.service_tier.is_empty() { "standard" } else { &tier.service_tier };
        let bound = match (tier.above, tier.inclusive) {
            (0, _) => String::new(),
            (above, false) => format!(" above {above} input tokens"),
            (above, true) => format!(" from {above} input tokens on"),
        };
        lines.push(format!("  {name}{bound}: {}", listed(&tier.amounts)));
    }
    for window in &row.windows {
        let days: Vec<String> = window.weekdays.iter().map(u8::to_string).collect();
        let days = if days.is_empty() { String::new() } else { format!(" on weekdays {}", days.join(" ")) };
        let what = window.factor.as_ref().map_or_else(|| listed(&window.amounts), |factor| format!("× {factor}"));
        lines.push(format!("  at {} UTC{days}: {what}", window.hours.join(" ")));
    }
    for region in &row.regions {
        lines.push(format!("  in {}: × {}", region.region, region.factor));
    }
    let mut facts = Vec::new();
    facts.extend(row.mode.map(|mode| word(&mode)));
    facts.extend(row.context_window.map(|tokens| format!("context {tokens}")));
    facts.extend(row.max_output.map(|tokens| format!("output {tokens}")));
    facts.extend(row.capabilities.iter().map(word));
    facts.extend(row.deprecated.map(|day| format!("deprecated {day}")));
    if !facts.is_empty() {
        lines.push(format!("  {}", facts.join(", ")));
    }
    let checked = row.checked.map(|day| format!(", checked {day}")).unwrap_or_default();
    lines.push(format!("  source: {}{checked}", row.source));
    lines.join("\n") + "\n"
}

/// Amounts in the order of the buckets.
fn listed(amounts: &Amounts) -> String {
    let one = |amount: Amount| Some(format!("{} {}", amount.as_str(), amounts.get(&amount)?));
    Amount::ALL.into_iter().filter_map(one).collect::<Vec<_>>().join(", ")
}

/// How a price file spells it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::agent::captured;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PricesArgs,
    }

    const CONFIG: &str = r#"
prices:
  - provider: acme
    models: [one, one-mini]
    input: "1"
    output: "2"
    tiers: [{ service_tier: flex, input: "0.5", output: "1" }, { above: 200, input: "3", output: "4" }]
    windows: [{ hours: ["01:00-02:00"], weekdays: [7], factor: "0.5" }]
    regions: [{ region: eu, factor: "1.1" }]
    source: a contract
  - { provider: other, models: [one], input: "10", output: "0" }
"#;

    fn run(line: &[&str]) -> (ExitCode, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("farebox.yaml");
        std::fs::write(&file, CONFIG).unwrap();
        let words = [&["prices"], line, &["--config", file.to_str().unwrap()]].concat();
        let args = Line::try_parse_from(words).unwrap().args;
        let (mut output, out, err) = captured::output();
        let code = args.run_on(&mut output).unwrap();
        (code, out.text(), err.text())
    }

    #[test]
    fn shows_every_part_of_a_price() {
        let (code, out, _) = run(&["show", "acme/one"]);
        assert_eq!(code, ExitCode::SUCCESS);
        insta::assert_snapshot!(out, @r"
        acme/one, one-mini
          standard: input 1, output 2
          flex: input 0.5, output 1
          standard above 200 input tokens: input 3, output 4
          at 01:00-02:00 UTC on weekdays 7: × 0.5
          in eu: × 1.1
          source: a contract
        ");
        // A name without a provider is every provider's.
        let (_, out, _) = run(&["show", "one", "--json"]);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["prices"].as_array().map(Vec::len), Some(2));
        assert_eq!(answer["prices"][0]["tiers"][0]["input"], "0.5");
    }

    #[test]
    fn compares_all_that_a_name_means() {
        let line = ["compare", "one", "--usage", "input=100,output=10", "--at", "2026-11-18T12:00:00Z"];
        let (code, out, _) = run(&line);
        assert_eq!(code, ExitCode::SUCCESS);
        insta::assert_snapshot!(out, @r"
        COST USD  PROVIDER  MODEL  TIER
        0.00012   acme      one    standard
        0.001     other     one    standard
        ");
        let (_, out, _) = run(&[&line[..], &["--tier", "flex", "--region", "eu", "--json"]].concat());
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["costs"][0]["cost_usd"], "0.000066");
        assert_eq!(answer["costs"][1]["tier_unpriced"], true);
    }

    #[test]
    fn an_unknown_model_is_a_failure() {
        let (code, out, err) = run(&["show", "nothing-at-all"]);
        assert_eq!((code, out.as_str()), (ExitCode::FAILURE, ""));
        assert!(err.contains("`nothing-at-all`"), "{err}");
        assert_eq!(run(&["compare", "one", "nothing-at-all", "--usage", "input=1"]).0, ExitCode::FAILURE);
    }

    #[test]
    fn usage_is_read_strictly() {
        assert_eq!(usage("input=1,searches=2").unwrap().searches, Some(2));
        assert!(usage("inptu=1").unwrap_err().contains("inptu"));
        assert!(usage("input").is_err() && usage("input=1.5").is_err());
    }

    #[test]
    fn a_price_file_is_checked_with_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prices.toml");
        let name = file.to_str().unwrap();
        std::fs::write(&file, "[[price]]\nprovider = \"p\"\nmodels = [\"m\"]\ninput = \"1\"\noutput = \"1\"\n")
            .unwrap();
        let (code, out, _) = run(&["check", name]);
        assert_eq!((code, out), (ExitCode::SUCCESS, format!("ok: {name}: 1 prices\n")));
        std::fs::write(&file, "\n[[price]]\nprovider = \"p\"\nmodels = [\"m\"]\ninput = \"1,0\"\n").unwrap();
        let (code, _, err) = run(&["check", name]);
        assert_eq!(code, ExitCode::FAILURE);
        assert!(err.starts_with(&format!("{name}:2: the price of p/m has a bad `input`")), "{err}");
    }
}
