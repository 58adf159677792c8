//! The count over a directory.

use std::{collections::BTreeMap, io, path::Path};

use crate::{
    check::{self, Verdict},
    exchange::{self, Exchange},
};

/// More of one exchange's differences are not shown.
const SHOWN: usize = 6;

#[derive(Clone, Copy, Default)]
struct Count {
    matching: usize,
    supported: usize,
    unsupported: usize,
}

#[derive(Default)]
pub struct Report {
    places: BTreeMap<String, Count>,
    unsupported: BTreeMap<String, Vec<String>>,
    not_there: BTreeMap<String, usize>,
    mismatches: Vec<(String, Vec<String>)>,
}

impl Report {
    pub fn of(root: &Path) -> io::Result<Report> {
        let mut report = Report::default();
        for file in exchange::files(root)? {
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            match Exchange::load(&file) {
                Ok(exchange) => {
                    let place = format!("{}/{}", exchange.provider, exchange.endpoint);
                    report.add(&name, place, check::check(&exchange));
                }
                Err(reason) => report.add(&name, "no exchange".to_owned(), Verdict::Unsupported(reason)),
            }
        }
        Ok(report)
    }

    fn add(&mut self, name: &str, place: String, verdict: Verdict) {
        let count = self.places.entry(place).or_default();
        match verdict {
            Verdict::Unsupported(reason) => {
                count.unsupported += 1;
                self.unsupported.entry(reason).or_default().push(name.to_owned());
                return;
            }
            Verdict::Match => count.matching += 1,
            Verdict::Mismatch(faults) => self.mismatches.push((name.to_owned(), faults)),
            Verdict::NotThere(dialect) => *self.not_there.entry(dialect.to_string()).or_default() += 1,
        }
        count.supported += 1;
    }

    fn sum(&self) -> Count {
        self.places.values().fold(Count::default(), |sum, count| Count {
            matching: sum.matching + count.matching,
            supported: sum.supported + count.supported,
            unsupported: sum.unsupported + count.unsupported,
        })
    }

    /// At least 98 of 100 that are supported match, and at most 4 of 100 of all are not supported.
    pub fn passes(&self) -> bool {
        let Count { matching, supported, unsupported } = self.sum();
        supported > 0 && matching * 100 >= supported * 98 && unsupported * 100 <= (supported + unsupported) * 4
    }

    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for (name, faults) in &self.mismatches {
            writeln!(out, "{name}")?;
            for fault in faults.iter().take(SHOWN) {
                writeln!(out, "    {fault}")?;
            }
            if faults.len() > SHOWN {
                writeln!(out, "    and {} more", faults.len() - SHOWN)?;
            }
        }
        writeln!(out, "\n{:40} {:>8} {:>9} {:>11}", "", "matching", "supported", "unsupported")?;
        for (place, count) in &self.places {
            writeln!(out, "{place:40} {:8} {:9} {:11}", count.matching, count.supported, count.unsupported)?;
        }
        for (reason, names) in &self.unsupported {
            writeln!(out, "unsupported: {} ({}): {reason}", names.len(), names.first().map_or("", String::as_str))?;
        }
        for (dialect, count) in &self.not_there {
            writeln!(out, "not there yet: {count} of {dialect}")?;
        }
        let Count { matching, supported, .. } = self.sum();
        writeln!(out, "{matching} of {supported}")
    }
}
