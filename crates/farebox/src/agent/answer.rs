//! Answers as text: whole ones, streamed ones, and the line that says what it took.

use std::{collections::BTreeMap, io};

use farebox_proto::v1::{self, delta, llm_response::Result as Answer, part};
use farebox_types::{Money, Usage};

use super::{
    failure::Failure,
    output::{Output, clean},
};

/// The parts of an answer, one below the other. Reasoning is not part of what was asked for.
pub(crate) fn text(completion: &v1::Completion) -> String {
    let mut text = String::new();
    for part in &completion.parts {
        match &part.kind {
            Some(part::Kind::Text(given)) => begin(&mut text).push_str(given),
            Some(part::Kind::Refusal(given)) => begin(&mut text).push_str(given),
            Some(part::Kind::ToolCall(call)) => {
                begin(&mut text).push_str(&tool_call(&call.name, &call.id, &call.arguments_json))
            }
            Some(part::Kind::Image(media)) => begin(&mut text).push_str(&medium("image", media)),
            Some(part::Kind::Audio(media)) => begin(&mut text).push_str(&medium("audio", media)),
            Some(part::Kind::Document(media)) => begin(&mut text).push_str(&medium("document", media)),
            Some(part::Kind::Reasoning(_) | part::Kind::ToolResult(_)) | None => {}
        }
    }
    text
}

/// A part begins on a line of its own.
fn begin(text: &mut String) -> &mut String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn tool_call(name: &str, id: &str, arguments: &str) -> String {
    format!("→ tool call {}({}) [{}]", clean(name), clean(arguments), clean(id))
}

fn medium(what: &str, media: &v1::Media) -> String {
    let size = match &media.source {
        Some(v1::media::Source::Data(data)) => format!("{} bytes", data.len()),
        Some(v1::media::Source::Url(url)) => clean(url),
        None => "empty".to_owned(),
    };
    format!("[{what} {}, {size}]", clean(&media.media_type))
}

/// Prints a streamed answer as it comes, and makes good at the end what was lost on the way.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    written: String,
    open: BTreeMap<u32, Open>,
    gap: bool,
}

/// A part of which pieces still come.
#[derive(Debug)]
enum Open {
    Text,
    Silent,
    ToolCall { id: String, name: String, arguments: String },
}

impl Printer {
    pub(crate) fn delta(&mut self, delta: &v1::Delta, output: &mut Output) -> io::Result<()> {
        if self.gap {
            return Ok(());
        }
        match &delta.event {
            Some(delta::Event::PartStart(start)) => {
                let open = match start.kind() {
                    delta::part_start::Kind::Text | delta::part_start::Kind::Refusal => Open::Text,
                    delta::part_start::Kind::ToolCall => Open::ToolCall {
                        id: start.tool_call_id.clone(),
                        name: start.name.clone(),
                        arguments: String::new(),
                    },
                    _ => Open::Silent,
                };
                let is_text = matches!(open, Open::Text);
                self.open.insert(start.index, open);
                if is_text { self.line_start(output) } else { Ok(()) }
            }
            Some(delta::Event::PartDelta(piece)) => match self.open.get_mut(&piece.index) {
                Some(Open::Text) => self.write(&piece.text, output),
                Some(Open::ToolCall { arguments, .. }) => {
                    arguments.push_str(&piece.text);
                    Ok(())
                }
                Some(Open::Silent) | None => Ok(()),
            },
            Some(delta::Event::PartEnd(end)) => match self.open.remove(&end.index) {
                Some(Open::ToolCall { id, name, arguments }) => {
                    self.line_start(output)?;
                    self.write(&tool_call(&name, &id, &arguments), output)
                }
                _ => Ok(()),
            },
            Some(delta::Event::Finished(_)) | None => Ok(()),
        }
    }

    /// A piece was lost: what follows would not fit to what stands there.
    pub(crate) fn gap(&mut self) {
        self.gap = true;
    }

    /// Completes the text with the whole answer, and ends the line.
    pub(crate) fn finish(&mut self, whole: &v1::Completion, output: &mut Output) -> io::Result<()> {
        let whole = text(whole);
        match whole.strip_prefix(self.written.as_str()) {
            Some(rest) => self.write(rest, output)?,
            None if self.gap => {
                self.end_line(output)?;
                output.note("a piece of the stream was lost on the way; the whole answer is:");
                self.written.clear();
                self.write(&whole, output)?;
            }
            None => {}
        }
        self.end_line(output)
    }

    /// Ends a line that was begun.
    pub(crate) fn end_line(&mut self, output: &mut Output) -> io::Result<()> {
        self.line_start(output)
    }

    fn line_start(&mut self, output: &mut Output) -> io::Result<()> {
        if self.written.is_empty() || self.written.ends_with('\n') { Ok(()) } else { self.write("\n", output) }
    }

    fn write(&mut self, text: &str, output: &mut Output) -> io::Result<()> {
        self.written.push_str(text);
        output.write(text)
    }
}

/// The typed content of a final answer.
pub(crate) fn completion(response: &v1::LlmResponse) -> Result<&v1::Completion, Failure> {
    match &response.result {
        Some(Answer::Completion(completion)) => Ok(completion),
        Some(Answer::Stored(body)) => {
            let size = body.object.as_ref().map_or(0, |object| object.size);
            let message = format!("the answer has {size} bytes, more than one message can carry: ask with --stream");
            Err(refused(farebox_types::ErrorKind::TooLarge, message))
        }
        Some(Answer::Error(error)) => Err(Failure::Refused(error.clone().into())),
        Some(Answer::Raw(_)) => {
            let message = "the answer to this request id was asked for as JSON: ask with --json";
            Err(refused(farebox_types::ErrorKind::Conflict, message))
        }
        None => {
            Err(refused(farebox_types::ErrorKind::Internal, "the answer is of a kind that this farebox does not know"))
        }
    }
}

fn refused(kind: farebox_types::ErrorKind, message: impl Into<String>) -> Failure {
    Failure::Refused(farebox_types::Fault::new(kind, message))
}

/// What a call took, in lines for standard error: one for the call, one for each warning.
pub(crate) fn report(response: &v1::LlmResponse) -> Vec<String> {
    let Some(report) = &response.report else { return Vec::new() };
    let usage = report.usage.map(Usage::from).unwrap_or_default();
    let cost: Money = v1::Money::of(&report.cost);
    let mut facts = vec![
        format!("{} via {}", clean(&report.model), clean(&report.provider)),
        format!("{} in / {} out tokens", usage.total_input(), usage.total_output()),
        format!("${cost}{}", if report.estimated { " (estimated)" } else { "" }),
        millis(report.latency_ms),
    ];
    if report.attempts > 1 {
        facts.push(format!("{} attempts", report.attempts));
    }
    if report.clamped {
        facts.push("clamped".to_owned());
    }
    if report.cached {
        facts.push("from the cache".to_owned());
    }
    if let Some(Answer::Completion(completion)) = &response.result {
        facts.extend(cut_short(completion.finish_reason()).map(str::to_owned));
    }
    let warnings = report.warnings.iter().map(|warning| format!("warning: {}", clean(warning)));
    std::iter::once(facts.join(" · ")).chain(left(report)).chain(warnings).collect()
}

/// What budgets and limits have left, where any hold for the call.
fn left(report: &v1::CallReport) -> Option<String> {
    let dollars = |field| v1::Money::of(field);
    let budgets = report
        .budgets
        .iter()
        .map(|b| format!("${} of ${} ({})", dollars(&b.left), dollars(&b.limit), clean(&b.budget)));
    let limits = report
        .limits
        .iter()
        .map(|l| format!("{} of {} {} ({})", l.left, l.allowed, l.measure().word(), clean(&l.limit)));
    let left: Vec<String> = budgets.chain(limits).collect();
    (!left.is_empty()).then(|| format!("left: {}", left.join(" · ")))
}

fn cut_short(reason: v1::FinishReason) -> Option<&'static str> {
    match reason {
        v1::FinishReason::Length => Some("cut at the token limit"),
        v1::FinishReason::ContentFilter => Some("stopped by the provider's content filter"),
        _ => None,
    }
}

/// `812 ms`, and from ten seconds on `12.3 s`.
pub(crate) fn millis(millis: u64) -> String {
    if millis < 10_000 { format!("{millis} ms") } else { format!("{}.{} s", millis / 1_000, millis % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::{super::output::captured, *};
    use delta::{Event, PartDelta, PartEnd, PartStart, part_start::Kind};

    fn part(kind: part::Kind) -> v1::Part {
        v1::Part { kind: Some(kind), ..Default::default() }
    }

    fn whole() -> v1::Completion {
        let call = v1::ToolCall { id: "c1".into(), name: "look".into(), arguments_json: r#"{"q":1}"#.into() };
        v1::Completion {
            parts: vec![
                part(part::Kind::Reasoning(v1::Reasoning { text: "hm".into(), signature: String::new() })),
                part(part::Kind::Text("Hello, world".into())),
                part(part::Kind::ToolCall(call)),
            ],
            ..v1::Completion::default()
        }
    }

    fn start(index: u32, kind: Kind) -> Event {
        let (tool_call_id, name) = if kind == Kind::ToolCall { ("c1", "look") } else { ("", "") };
        Event::PartStart(PartStart { index, kind: kind.into(), tool_call_id: tool_call_id.into(), name: name.into() })
    }

    fn piece(index: u32, text: &str) -> Event {
        Event::PartDelta(PartDelta { index, text: text.into(), signature: String::new() })
    }

    fn end(index: u32) -> Event {
        Event::PartEnd(PartEnd { index })
    }

    fn events() -> Vec<Event> {
        vec![
            start(0, Kind::Reasoning),
            piece(0, "hm"),
            end(0),
            start(1, Kind::Text),
            piece(1, "Hello, "),
            piece(1, "world"),
            end(1),
            start(2, Kind::ToolCall),
            piece(2, r#"{"q""#),
            piece(2, ":1}"),
            end(2),
        ]
    }

    const SHOWN: &str = "Hello, world\n→ tool call look({\"q\":1}) [c1]\n";

    #[test]
    fn a_streamed_answer_reads_like_a_whole_one() {
        let (mut output, out, _) = captured::output();
        let mut printer = Printer::default();
        for event in events() {
            printer.delta(&v1::Delta { event: Some(event) }, &mut output).unwrap();
        }
        printer.finish(&whole(), &mut output).unwrap();
        assert_eq!(out.text(), SHOWN);
        assert_eq!(format!("{}\n", text(&whole())), SHOWN);
    }

    #[test]
    fn wherever_the_stream_stops_the_final_answer_completes_it() {
        for cut in 0..events().len() {
            let (mut output, out, err) = captured::output();
            let mut printer = Printer::default();
            for event in events().into_iter().take(cut) {
                printer.delta(&v1::Delta { event: Some(event) }, &mut output).unwrap();
            }
            printer.gap();
            printer.delta(&v1::Delta { event: Some(piece(1, "lost")) }, &mut output).unwrap();
            printer.finish(&whole(), &mut output).unwrap();
            assert_eq!((out.text().as_str(), err.text().as_str()), (SHOWN, ""), "cut after {cut}");
        }
    }

    #[test]
    fn the_report_is_one_line_and_its_warnings() {
        let report = v1::CallReport {
            model: "gpt-4".into(),
            provider: "openai".into(),
            usage: Some(v1::Usage { input: Some(10), cache_read: Some(2), output: Some(34), ..v1::Usage::default() }),
            cost: Some("0.000123".parse::<Money>().unwrap().into()),
            latency_ms: 812,
            attempts: 1,
            warnings: vec!["parameter `x`\nwas dropped".into()],
            ..v1::CallReport::default()
        };
        let mut response = v1::LlmResponse { report: Some(report), ..v1::LlmResponse::default() };
        assert_eq!(
            super::report(&response),
            [
                "gpt-4 via openai · 12 in / 34 out tokens · $0.000123 · 812 ms",
                "warning: parameter `x`\u{fffd}was dropped"
            ]
        );
        let report = response.report.as_mut().unwrap();
        let dollars = |text: &str| Some(text.parse::<Money>().unwrap().into());
        report.clamped = true;
        report.budgets = vec![v1::BudgetLeft { budget: "team".into(), limit: dollars("5"), left: dollars("0.25") }];
        report.limits = vec![v1::LimitLeft {
            limit: "slow".into(),
            measure: v1::LimitMeasure::Requests.into(),
            allowed: 100,
            left: 99,
            reset_ms: 1500,
        }];
        assert_eq!(
            super::report(&response),
            [
                "gpt-4 via openai · 12 in / 34 out tokens · $0.000123 · 812 ms · clamped",
                "left: $0.25 of $5 (team) · 99 of 100 requests (slow)",
                "warning: parameter `x`\u{fffd}was dropped"
            ]
        );
        let report = response.report.as_mut().unwrap();
        (report.clamped, report.budgets, report.limits) = (false, Vec::new(), Vec::new());
        (report.estimated, report.attempts, report.latency_ms) = (true, 3, 12_345);
        report.warnings.clear();
        response.result = Some(Answer::Completion(v1::Completion {
            finish_reason: v1::FinishReason::Length.into(),
            ..v1::Completion::default()
        }));
        assert_eq!(
            super::report(&response),
            [
                "gpt-4 via openai · 12 in / 34 out tokens · $0.000123 (estimated) · 12.3 s · 3 attempts · cut at the token limit"
            ]
        );
    }

    #[test]
    fn an_answer_that_cannot_be_shown_says_what_to_do() {
        let object = Some(v1::ObjectRef { size: 9_000_000, ..v1::ObjectRef::default() });
        let stored = v1::StoredBody { object, ..v1::StoredBody::default() };
        let response = v1::LlmResponse { result: Some(Answer::Stored(stored)), ..v1::LlmResponse::default() };
        let failure = completion(&response).unwrap_err().to_string();
        assert_eq!(failure, "the answer has 9000000 bytes, more than one message can carry: ask with --stream");
    }
}
