//! What a person reads: notes while it runs, tables at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
};

use crate::{
    report::{PhaseReport, Report},
    stats::Spread,
};

/// A line about what goes on, beside the results.
pub(crate) fn note(text: &str) {
    // Whoever closed standard error does not want it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The results, on standard output.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes())
}

const LATENCY: [(&str, &str); 7] = [
    ("direct p50", "direct_p50_ms"),
    ("farebox p50", "p50_ms"),
    ("added p50", "added_p50_ms"),
    ("added p99", "added_p99_ms"),
    ("calls/s", "calls_per_s"),
    ("direct calls/s", "direct_calls_per_s"),
    ("rows after, s", "settle_s"),
];
const STREAMS: [(&str, &str); 8] = [
    ("direct first", "direct_first_p50_ms"),
    ("added first p50", "added_first_p50_ms"),
    ("added first p99", "added_first_p99_ms"),
    ("chunks/s", "chunks_per_s"),
    ("direct chunks/s", "direct_chunks_per_s"),
    ("farebox µs/chunk", "farebox_us_per_chunk"),
    ("all µs/chunk", "all_us_per_chunk"),
    ("direct µs/chunk", "direct_us_per_chunk"),
];

pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let setting = &report.setting;
    let _ = writeln!(
        text,
        "farebox bench, commit {}, {}\n{} cores ({}), load before {}, after {}\n\
         durability {}, {} callers over {} connection(s), seed {}\n\
         min/median/max over rounds (one figure where they are equal); latencies in ms",
        report.commit,
        report.at,
        report.machine.cores,
        report.machine.cpu,
        report.machine.load_before,
        report.machine.load_after,
        setting.durability,
        setting.callers,
        setting.connections,
        setting.seed,
    );
    if setting.debug_build {
        text.push_str("BUILT WITHOUT OPTIMISATION: these figures mean nothing.\n");
    }
    figures(&mut text, &report.phases, &LATENCY);
    let streams = report.phases.iter().filter(|phase| phase.summary.median("chunks_per_s").is_some());
    figures(&mut text, streams, &STREAMS);
    cpu(&mut text, report);
    memory(&mut text, report);
    verdict(&mut text, report);
    text
}

fn figures<'a>(
    text: &mut String,
    phases: impl IntoIterator<Item = &'a PhaseReport>,
    columns: &[(&'static str, &'static str)],
) {
    let mut rows = vec![header("", columns.iter().map(|(title, _)| (*title).to_owned()))];
    for phase in phases {
        let cell = |name: &str| phase.summary.figures.get(name).map_or_else(|| "-".to_owned(), spread);
        rows.push(header(&phase.name, columns.iter().map(|(_, name)| cell(name))));
    }
    grid(text, &rows);
}

fn cpu(text: &mut String, report: &Report) {
    let of = |phase: &PhaseReport| phase.summary.cpu_per_1000.clone();
    let names: BTreeSet<String> = report.phases.iter().flat_map(|phase| of(phase).into_keys()).collect();
    let names: Vec<String> = names.into_iter().filter(|name| name != "emulator-direct").collect();
    let mut rows = vec![header("CPU-s per 1000 calls", names.iter().cloned())];
    for phase in &report.phases {
        let spreads = of(phase);
        rows.push(header(&phase.name, names.iter().map(|n| spreads.get(n).map_or_else(|| "-".to_owned(), spread))));
    }
    if let Some(long) = &report.long_cpu_per_1000 {
        let cell = |name: &String| long.get(name).map_or_else(|| "-".to_owned(), |seconds| number(*seconds));
        rows.push(header("long, to its last row", names.iter().map(cell)));
    }
    let idle = |name: &String| format!("{:.1} %", 100.0 * report.idle_cpu.get(name).copied().unwrap_or(0.0));
    rows.push(header("idle, of a core", names.iter().map(idle)));
    grid(text, &rows);
}

fn memory(text: &mut String, report: &Report) {
    let names: BTreeSet<&String> = report.memory.iter().flat_map(|s| s.processes.keys()).collect();
    let names: Vec<&String> = names.into_iter().filter(|name| *name != "emulator-direct").collect();
    let titles = std::iter::once("calls".to_owned()).chain(names.iter().map(|name| (*name).clone()));
    let mut rows = vec![header("RSS, MiB", titles)];
    for snapshot in &report.memory {
        let mib = |name: &&String| snapshot.rss_mib(name).map_or_else(|| "-".to_owned(), |mib| format!("{mib:.1}"));
        let cells = std::iter::once(snapshot.calls.to_string()).chain(names.iter().map(mib));
        rows.push(header(&snapshot.when, cells));
    }
    grid(text, &rows);
}

fn verdict(text: &mut String, report: &Report) {
    text.push('\n');
    let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
    for leg in report.phases.iter().flat_map(|phase| &phase.rounds).flat_map(|r| r.direct.iter().chain([&r.farebox])) {
        if let Some(error) = &leg.first_error {
            *errors.entry(error).or_default() += leg.failed;
        }
    }
    for (error, count) in errors {
        let _ = writeln!(text, "{count} call(s) failed, the first: {error}");
    }
    for goal in &report.targets {
        let met = if goal.met { "met" } else { "NOT MET" };
        let _ = writeln!(text, "goal {met}: {} (goal {}, measured {:.3})", goal.what, goal.limit, goal.figure);
    }
    if let Some(check) = &report.check {
        let _ = writeln!(
            text,
            "books: {} answers, {} rows, {} billed by the emulator; {} + {} tokens, {} USD; last row {:.1} s after \
             the last call",
            check.calls,
            check.rows.rows,
            check.bill.billed,
            check.rows.input_tokens,
            check.rows.output_tokens,
            check.rows.cost_usd,
            check.settled_after_s,
        );
        for difference in &check.differences {
            let _ = writeln!(text, "BOOKS DISAGREE: {difference}");
        }
    }
    if let Some(error) = &report.error {
        let _ = writeln!(text, "NOT FINISHED: {error}");
    }
    text.push_str(if report.is_good() { "the books agree\n" } else { "FAILED\n" });
}

fn header(first: &str, rest: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(rest).collect()
}

/// As many digits as say something.
fn number(figure: f64) -> String {
    match figure.abs() {
        size if size >= 1_000.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn spread(spread: &Spread) -> String {
    let [min, median, max] = [spread.min, spread.median, spread.max].map(number);
    if min == max { median } else { format!("{min}/{median}/{max}") }
}

/// Columns as wide as their widest cell; the first to the left, the others to the right. A table without rows is none.
fn grid(text: &mut String, rows: &[Vec<String>]) {
    if rows.len() < 2 {
        return;
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    text.push('\n');
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut text = String::new();
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        grid(&mut text, &[row(["name", "ms"]), row(["a", "12.50"])]);
        assert_eq!(text, "\nname     ms\na     12.50\n");
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!([0.0123, 1.234, 45.678, 8_700.4].map(number), ["0.012", "1.23", "45.7", "8700"]);
    }
}
