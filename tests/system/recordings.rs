//! Recorded exchanges, each played byte for byte as the upstream of a running farebox: the answer that a caller in
//! OpenAI's JSON gets and the row in ClickHouse must say what the raw recording says.
//!
//! Plays `tests/tapes`, and the directory that `RECORDINGS` names, in the same file form. What cannot be played is
//! counted with its reason. The request is always the same: what an upstream answers is in the recording.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use farebox_recordings::{
    exchange::{self, Exchange},
    family::{Family, Host},
    meaning::{self, Meaning, Said, Tokens, openai_choices, openai_chunks},
};
use farebox_testkit::Tape;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, fresh_id, picos, play_within};

/// Pico-dollars for a token. Each bucket has its own, so that a token in the wrong one shows in the cost.
const PRICES: [(&str, i128); 10] = [
    ("input", 1_010_000),
    ("cache_read", 130_000),
    ("cache_write_5m", 1_370_000),
    ("cache_write_1h", 2_030_000),
    ("output", 5_030_000),
    ("reasoning", 7_070_000),
    ("audio_input", 3_170_000),
    ("audio_output", 11_090_000),
    ("image_input", 530_000),
    ("image_output", 13_010_000),
];

const CONFIG: &str = r#"
nats: { listen: "127.0.0.1:0" }
clickhouse: { listen: "127.0.0.1:0" }
listen: { http: "127.0.0.1:0", grpc: "127.0.0.1:0" }
providers:
  openai: { api_base: "EMULATOR/v1", api_key: os.environ/SYSTEM_TEST_KEY }
  anthropic: { api_base: "EMULATOR", api_key: os.environ/SYSTEM_TEST_KEY }
models:
  openai: { deployments: [{ target: openai/recorded }], retries: 0 }
  anthropic: { deployments: [{ target: anthropic/recorded }], retries: 0 }
prices:
  - { provider: openai, models: [recorded], max_output: 1000000, PRICES }
  - { provider: anthropic, models: [recorded], max_output: 1000000, PRICES }
"#;

/// What one exchange should have left behind.
struct Played {
    name: String,
    request_id: String,
    meaning: Meaning,
    status: u16,
    stream: bool,
}

#[derive(Default)]
struct Tally {
    seen: usize,
    played: Vec<Played>,
    skipped: BTreeMap<String, Vec<String>>,
    faults: Vec<String>,
}

#[test]
fn recorded_exchanges_mean_and_cost_what_they_say() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tapes");
    let given = env::var_os("RECORDINGS").map(PathBuf::from);
    // A directory from outside may hold any number of them.
    let limit = if given.is_some() { Duration::from_secs(1800) } else { Duration::from_secs(90) };
    play_within(limit, async move {
        let prices =
            PRICES.map(|(bucket, price)| format!("{bucket}: \"{}.{:06}\"", price / 1_000_000, price % 1_000_000));
        let stage = Stage::with_config(&CONFIG.replace("PRICES", &prices.join(", ")), &[], |up| up).await;
        let ours = run(&stage, &kept).await;
        assert_eq!(ours.skipped.len(), 0, "what is kept here can be played: {:?}", ours.skipped);
        let mut faults = ours.faults;
        if let Some(given) = given {
            faults.extend(run(&stage, &given).await.faults);
        }
        assert!(faults.is_empty(), "{} mismatches:\n{}", faults.len(), faults.join("\n"));
    });
}

async fn run(stage: &Stage, root: &Path) -> Tally {
    let mut tally = Tally::default();
    for file in exchange::files(root).expect("a directory of recordings") {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        tally.seen += 1;
        match exchange(stage, &name, &file, &mut tally.faults).await {
            Ok(played) => tally.played.push(played),
            Err(reason) => tally.skipped.entry(reason).or_default().push(name),
        }
    }
    assert!(!tally.played.is_empty(), "{} holds no exchange that can be played", root.display());
    let rows = rows(stage, &tally.played).await;
    for played in &tally.played {
        let of_this: Vec<&Value> = rows.iter().filter(|row| row["request_id"] == *played.request_id).collect();
        match of_this[..] {
            [row] => played.check_row(row, &mut tally.faults),
            _ => tally.faults.push(format!("{}: {} rows instead of one", played.name, of_this.len())),
        }
    }
    tally.print(root);
    tally
}

impl Tally {
    #[expect(clippy::print_stderr, reason = "the count is what a run over a directory is for")]
    fn print(&self, root: &Path) {
        let count = |what: fn(&Played) -> bool| self.played.iter().filter(|played| what(played)).count();
        eprintln!("recordings: {} of {} played from {}", self.played.len(), self.seen, root.display());
        eprintln!(
            "recordings:   {} whole, {} streamed; {} of them errors, {} without usage; {} mismatches",
            count(|p| !p.stream),
            count(|p| p.stream),
            count(|p| p.meaning.error.is_some()),
            count(|p| p.meaning.error.is_none() && p.meaning.tokens.is_empty()),
            self.faults.len(),
        );
        for (reason, names) in &self.skipped {
            eprintln!("recordings:   {} skipped: {reason}", names.len());
        }
    }
}

/// Plays one exchange and checks its answer. `Err`: why it cannot be played.
async fn exchange(stage: &Stage, name: &str, file: &Path, faults: &mut Vec<String>) -> Result<Played, String> {
    let tape = Tape::load(file).map_err(|_| "not in the form of a recorded exchange".to_owned())?;
    if tape.response.events.is_some() {
        return Err("payloads of a stream without its framing".to_owned());
    }
    let exchange = Exchange::load(file)?;
    let (family, host) = Family::of(&exchange)?;
    let alias = match (family, host) {
        (Family::Chat, Host::Own) => "openai",
        (Family::Anthropic, Host::Own) if tape.provider == "anthropic" => "anthropic",
        _ => return Err(format!("the API {} of {}", tape.endpoint, tape.provider)),
    };
    let meaning = meaning::read(&exchange, family, host)?;
    stage.emulator.push("recorded", tape.script().map_err(|error| error.to_string())?);
    let request_id = fresh_id("recording");
    let body = json!({
        "model": alias,
        "messages": [{ "role": "user", "content": "Say what was said." }],
        "max_completion_tokens": 200_000,
        "farebox": { "request_id": request_id },
    });
    let played =
        Played { name: name.to_owned(), request_id, meaning, status: tape.response.status, stream: tape.is_stream() };
    if played.stream {
        let (chunks, last) = stage.stream(&body).await;
        played.check_chunks(&openai_chunks(&chunks), faults);
        played.check_answer(&last, faults);
    } else {
        played.check_answer(&stage.ask(&body).await, faults);
    }
    Ok(played)
}

/// The rows of all of them, once they are all there.
async fn rows(stage: &Stage, played: &[Played]) -> Vec<Value> {
    let ids: Vec<String> = played.iter().map(|played| format!("'{}'", played.request_id)).collect();
    let ids = ids.join(", ");
    let count = format!("SELECT count() FROM farebox.calls WHERE request_id IN ({ids})");
    farebox_testkit::eventually(SOON, "a row of every call", || async {
        stage.clickhouse(&count).await.trim().parse::<usize>().expect("a number") >= played.len()
    })
    .await;
    let sql = format!(
        "SELECT *, toString(cost) AS cost_usd, toString(bound) AS bound_usd FROM farebox.calls WHERE request_id IN \
         ({ids}) SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow"
    );
    stage.clickhouse(&sql).await.lines().map(|row| serde_json::from_str(row).expect("a row")).collect()
}

fn cost(tokens: &Tokens) -> i128 {
    PRICES.iter().map(|(bucket, price)| i128::from(tokens.get(bucket).copied().unwrap_or(0)) * price).sum()
}

/// OpenAI's word for it.
fn openai_word(finish: &str) -> &str {
    match finish {
        "stop_sequence" => "stop",
        "pause" => "length",
        "refusal" => "content_filter",
        other => other.strip_prefix("other: ").unwrap_or(other),
    }
}

impl Played {
    fn check<T: PartialEq + std::fmt::Debug>(&self, what: &str, is: &T, should: &T, faults: &mut Vec<String>) {
        if is != should {
            faults.push(format!("{}: {what} is {is:?} instead of {should:?}", self.name));
        }
    }

    fn is_ok(&self) -> bool {
        self.meaning.error.is_none() && self.meaning.ended
    }

    fn check_choices(&self, what: &str, is: &BTreeMap<u64, Said>, faults: &mut Vec<String>) {
        let should = &self.meaning.choices;
        self.check(&format!("the choices of {what}"), &is.len(), &should.len(), faults);
        for (index, should) in should {
            let Some(is) = is.get(index) else { continue };
            self.check(&format!("the text of {what}"), &is.text, &should.text, faults);
            self.check(&format!("the refusal of {what}"), &is.refusal, &should.refusal, faults);
            self.check(&format!("the tool calls of {what}"), &is.tools, &should.tools, faults);
            let word = |said: &Said| said.finish.as_deref().map(openai_word).map(str::to_owned);
            self.check(&format!("the finish of {what}"), &word(is), &word(should), faults);
        }
    }

    fn check_chunks(&self, is: &BTreeMap<u64, Said>, faults: &mut Vec<String>) {
        if self.is_ok() {
            self.check_choices("the chunks", is, faults);
            return;
        }
        let text = |said: &BTreeMap<u64, Said>| said.values().map(|said| said.text.as_str()).collect::<String>();
        self.check("the text until it broke off", &text(is), &text(&self.meaning.choices), faults);
    }

    fn check_answer(&self, answer: &Value, faults: &mut Vec<String>) {
        if self.is_ok() {
            if answer["error"].is_object() {
                faults.push(format!("{}: answered with an error: {}", self.name, answer["error"]));
                return;
            }
            self.check_choices("the answer", &openai_choices(answer), faults);
            if !self.meaning.tokens.is_empty() {
                let is = picos(&answer["farebox"]["cost_usd"]);
                self.check("the answer's cost", &is, &cost(&self.meaning.tokens), faults);
            }
            return;
        }
        let error = &answer["error"];
        let kind = error["type"].as_str().unwrap_or("none");
        match &self.meaning.error {
            None => self.check("the error", &kind, &"truncated", faults),
            Some(no) => {
                if !error["message"].as_str().is_some_and(|message| message.contains(&no.message)) {
                    faults.push(format!("{}: `{error}` does not say `{}`", self.name, no.message));
                }
                if self.status >= 400 {
                    self.check("the error", &kind, &no.kind(self.status), faults);
                    self.check("its status", &error["provider_status"], &json!(self.status), faults);
                } else if !["upstream", "rate_limited", "bad_request", "not_found"].contains(&kind) {
                    faults.push(format!("{}: an error of the provider became `{error}`", self.name));
                }
            }
        }
    }

    fn check_row(&self, row: &Value, faults: &mut Vec<String>) {
        let (is, bound) = (picos(&row["cost_usd"]), picos(&row["bound_usd"]));
        if is > bound {
            faults.push(format!("{}: the row's cost {is} is above its bound {bound}", self.name));
        }
        let outcome = if self.is_ok() { "ok" } else { "error" };
        self.check("the row's outcome", &row["outcome"], &json!(outcome), faults);
        self.check("the row's stream", &row["stream"], &json!(self.stream), faults);
        let refused = self.meaning.error.is_some() && !self.stream;
        let estimated = !refused && (!self.is_ok() || self.meaning.tokens.is_empty());
        self.check("the row's estimated", &row["estimated"], &json!(estimated), faults);
        let due = cost(&self.meaning.tokens);
        if estimated {
            if is < due || is == 0 {
                faults.push(format!("{}: the estimate {is} is not above what was reported, {due}", self.name));
            }
            return;
        }
        self.check("the row's cost", &is, &due, faults);
        for (bucket, _) in PRICES {
            let is = row[format!("{bucket}_tokens")].as_u64();
            self.check(&format!("{bucket} of the row"), &is, &self.meaning.tokens.get(bucket).copied(), faults);
        }
    }
}
