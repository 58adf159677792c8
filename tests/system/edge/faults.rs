//! What goes wrong at a provider, as each API's callers see it: an error of their own API in time, never the end of a whole
//! answer, and a row that equals the provider's bill.

use std::time::Duration;

use farebox_emulator::{Fault, Script};
use farebox_types::Money;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Api, http, rows, shared,
    wire::{self, Answer},
};
use crate::stage::{SOON, Stage, play};

/// Who hangs is given up after 2 s. The rest is for a busy machine: no timeout but those ends so soon.
const IN_TIME: Duration = Duration::from_secs(19);
const RETRY_AFTER: Duration = Duration::from_secs(7);
/// Programs look for such words.
const WORDS: &str = "This model's maximum context length is 8192 tokens. Please retry after 20 seconds.";

/// How the caller hears of it.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// Nothing was said yet: with a status of its own.
    Status(u16, &'static str),
    /// Inside the stream.
    Inside(&'static str),
}

/// One thing that goes wrong.
pub(super) struct Case {
    pub(super) name: &'static str,
    stream: bool,
    script: fn(Api) -> Script,
    told: Told,
}

const fn case(name: &'static str, stream: bool, script: fn(Api) -> Script, told: Told) -> Case {
    Case { name, stream, script, told }
}

/// In an answer of some twelve events.
fn fault(fault: Fault) -> Script {
    Script::default().fault(fault)
}

/// Within an event behind the first ones.
fn mid_frame(api: Api) -> usize {
    match api {
        Api::Chat => 700,
        Api::Responses => 2_700,
        Api::Messages => 800,
    }
}

fn error_body(api: Api) -> Script {
    let error = json!({ "message": WORDS, "type": "server_error", "param": null, "code": null });
    Script::error_body(match api {
        Api::Messages => json!({ "type": "error", "error": { "type": "api_error", "message": WORDS } }).to_string(),
        _ => json!({ "error": error }).to_string(),
    })
}

pub(super) const CASES: [Case; 19] = [
    case("hangs-before-head", false, |_| fault(Fault::HangBeforeHead), Told::Status(504, "deadline_exceeded")),
    case("hangs-before-head-s", true, |_| fault(Fault::HangBeforeHead), Told::Status(504, "deadline_exceeded")),
    case("hangs-before-body", false, |_| fault(Fault::HangAfter(0)), Told::Status(504, "deadline_exceeded")),
    case("hangs-before-token", true, |_| fault(Fault::HangAfter(0)), Told::Status(504, "deadline_exceeded")),
    case("hangs-between-tokens", true, |_| fault(Fault::HangAfter(5)), Told::Inside("deadline_exceeded")),
    case("cut-before-body", false, |_| fault(Fault::CutAfter(0)), Told::Status(502, "truncated")),
    case("cut-before-token", true, |_| fault(Fault::CutAfter(0)), Told::Status(502, "truncated")),
    case("cut-in-body", false, |_| fault(Fault::CutAtByte(60)), Told::Status(502, "truncated")),
    case("cut-mid-frame", true, |api| fault(Fault::CutAtByte(mid_frame(api))), Told::Inside("truncated")),
    case("cut-between-frames", true, |_| fault(Fault::CutAfter(5)), Told::Inside("truncated")),
    case("corrupt-body", false, |_| fault(Fault::CorruptAt(0)), Told::Status(502, "upstream")),
    case("corrupt-frame", true, |_| fault(Fault::CorruptAt(5)), Told::Inside("upstream")),
    case("no-terminal-event", true, |_| fault(Fault::NoTerminal), Told::Inside("truncated")),
    case("error-in-stream", true, |_| fault(Fault::ErrorAfter(5)), Told::Inside("upstream")),
    case("error-body", false, error_body, Told::Status(502, "upstream")),
    case("error-body-s", true, error_body, Told::Status(502, "upstream")),
    case("too-long", true, |_| Script::refuse(400, WORDS), Told::Status(400, "bad_request")),
    case("limited", false, |_| Script::rate_limited(RETRY_AFTER), Told::Status(429, "rate_limited")),
    case("limited-s", true, |_| Script::rate_limited(RETRY_AFTER), Told::Status(429, "rate_limited")),
];

impl Case {
    /// The one timeout of its models that is short.
    pub(super) fn given_up_by(&self) -> Option<&'static str> {
        match (self.script)(Api::Chat).fault {
            Fault::HangBeforeHead | Fault::HangAfter(0) => Some("first_token"),
            Fault::HangAfter(_) => Some("idle"),
            _ => None,
        }
    }

    /// Asks and checks what came. The request's id.
    async fn tell(&self, stage: &Stage, api: Api) -> String {
        let (name, model) = (format!("{api:?}/{}", self.name), api.model(self.name));
        stage.emulator.script(&model, (self.script)(api));
        let began = Instant::now();
        let request = api.request(&model, self.stream, None);
        let answer =
            timeout(IN_TIME, wire::ask(http(stage), &request)).await.unwrap_or_else(|_| panic!("{name}: silence"));
        let took = began.elapsed();
        match self.told {
            Told::Status(status, kind) => refused(&name, api, &answer, status, kind),
            Told::Inside(kind) => broken(&name, api, &answer, kind),
        }
        let said = answer.text();
        if status_of(self.told) == 429 {
            assert_eq!(answer.get("retry-after"), Some("7"), "{name}: {answer:?}");
        }
        if ["error-body", "error-body-s", "too-long"].contains(&self.name) {
            assert!(said.contains(WORDS), "{name}: {said}");
        }
        assert!(took < IN_TIME, "{name}: {took:?}");
        answer.get("farebox-request-id").unwrap_or_else(|| panic!("{name}: no id in {answer:?}")).to_owned()
    }
}

fn status_of(told: Told) -> u16 {
    match told {
        Told::Status(status, _) => status,
        Told::Inside(_) => 200,
    }
}

/// Before anything was said: the whole answer is an error.
fn refused(name: &str, api: Api, answer: &Answer, status: u16, kind: &str) {
    let said = answer.text();
    assert!(answer.whole, "{name}: {said}");
    assert_eq!((answer.status(), answer.get("farebox-error")), (status, Some(kind)), "{name}: {said}");
    assert_eq!(answer.get("content-type"), Some("application/json"), "{name}: {said}");
    let (_, message) = api.error(&answer.json());
    assert!(!message.is_empty(), "{name}: {said}");
}

/// Something was said: an error ends the stream, and nothing that says that the answer is complete.
fn broken(name: &str, api: Api, answer: &Answer, kind: &str) {
    let said = answer.text();
    assert_eq!(answer.status(), 200, "{name}: {said}");
    let events = answer.events();
    assert!(events.len() > 2, "{name}: what came before was not passed on: {said}");
    assert!(!events.iter().any(|(event, data)| api.is_end(event, data)), "{name}: sold as a whole answer: {said}");
    let error = api.broken_by(&events).unwrap_or_else(|| panic!("{name}: ends without an error: {said}"));
    match api {
        Api::Messages => assert!(!api.error(&error).0.is_empty(), "{name}: {said}"),
        // Its flat event names no type.
        Api::Responses => assert_eq!(error["code"], kind, "{name}: {said}"),
        Api::Chat => assert_eq!(error["error"]["code"], kind, "{name}: {said}"),
    }
}

#[test]
fn whatever_breaks_at_a_provider_is_an_error_of_the_callers_own_api_and_a_row() {
    play(async {
        let stage = shared().await;
        let mut asking = JoinSet::new();
        for case in &CASES {
            for api in Api::ALL {
                asking.spawn(case.tell(stage, api));
            }
        }
        let (mut told, mut wrong) = (Vec::new(), 0);
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok(id) => told.push(id),
                // It has said what.
                Err(_) => wrong += 1,
            }
        }
        assert_eq!(wrong, 0, "of {}", CASES.len() * Api::ALL.len());
        let rows = rows(stage, &told).await;
        for row in &rows {
            assert_eq!(row.outcome, "error", "{row:?}");
        }
        let free = rows.iter().filter(|row| row.cost == Money::ZERO).count();
        // Refused, or not begun: the provider bills none of them. A call that hung may have cost something.
        assert!((9..rows.len()).contains(&free), "{free} of {} cost nothing: {rows:#?}", rows.len());
    });
}

/// Every caller is told when to come back, whatever the others do.
#[test]
fn a_storm_of_429_reaches_every_caller_with_its_retry_after() {
    const CALLERS: usize = 40;
    play(async {
        let stage = shared().await;
        let mut asking = JoinSet::new();
        for number in 0..CALLERS {
            let api = Api::ALL[number % Api::ALL.len()];
            let model = api.model("storm");
            stage.emulator.script(&model, Script::rate_limited(RETRY_AFTER));
            asking.spawn(async move {
                let request = api.request(&model, number % 2 == 0, None);
                (api, timeout(SOON, wire::ask(http(stage), &request)).await.expect("no silence"))
            });
        }
        let mut ids = Vec::new();
        while let Some(answered) = asking.join_next().await {
            let (api, answer) = answered.expect("no panic");
            refused("storm", api, &answer, 429, "rate_limited");
            let after: u64 =
                answer.get("retry-after").and_then(|after| after.parse().ok()).expect("when to come again");
            assert!((1..=RETRY_AFTER.as_secs()).contains(&after), "{answer:?}");
            ids.push(answer.get("farebox-request-id").expect("an id").to_owned());
        }
        // Who was refused by farebox itself, because the provider had just said so, has no call.
        let called: usize = Api::ALL.iter().map(|api| stage.asked(&api.model("storm"))).sum();
        assert!((1..=CALLERS).contains(&called));
        let billed =
            stage.emulator.ledger().entries().into_iter().filter(|e| e.model.ends_with("storm") && e.billed).count();
        assert_eq!(billed, 0);
    });
}
