//! What the kernel says of a process.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Who is measured: a name, and its pid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(Vec<(String, u32)>);

/// CPU seconds by process.
pub(crate) type Cpu = BTreeMap<String, f64>;

/// Memory of one process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    pub(crate) anon_kib: u64,
    pub(crate) peak_kib: u64,
}

impl Processes {
    pub(crate) fn add(&mut self, name: &str, pid: u32) {
        self.0.push((name.to_owned(), pid));
    }

    /// CPU time since each process began.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let hz = rustix::param::clock_ticks_per_second().max(1);
        self.0
            .iter()
            .map(|(name, pid)| {
                let path = format!("/proc/{pid}/stat");
                let text = std::fs::read_to_string(&path).with_context(|| format!("{name} (pid {pid}) is gone"))?;
                let ticks = ticks(&text).with_context(|| format!("{path} has an unexpected form"))?;
                Ok((name.clone(), ticks as f64 / hz as f64))
            })
            .collect()
    }

    pub(crate) fn memory(&self) -> anyhow::Result<BTreeMap<String, Memory>> {
        self.0
            .iter()
            .map(|(name, pid)| {
                let path = format!("/proc/{pid}/status");
                let text = std::fs::read_to_string(&path).with_context(|| format!("{name} (pid {pid}) is gone"))?;
                Ok((name.clone(), memory(&text).with_context(|| format!("{path} has an unexpected form"))?))
            })
            .collect()
    }
}

/// What was used between two readings.
pub(crate) fn used(before: &Cpu, after: &Cpu) -> Cpu {
    after.iter().map(|(name, at)| (name.clone(), at - before.get(name).copied().unwrap_or(0.0))).collect()
}

/// User and system time, in ticks. The name of the program stands in parentheses and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn memory(status: &str) -> Option<Memory> {
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { rss_kib: field("VmRSS")?, anon_kib: field("RssAnon")?, peak_kib: field("VmHWM")? })
}

/// The machine, as far as it explains figures.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) memory_kib: u64,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
}

impl Machine {
    pub(crate) fn look() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_kib: memory.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0),
            load_before: load(),
            load_after: String::new(),
        }
    }
}

/// The load average over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 5 6 20 0 9 0 1000 1 2";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn memory_is_read_from_its_lines() {
        let status = "Name:\tx\nVmHWM:\t    900 kB\nVmRSS:\t     800 kB\nRssAnon:\t     500 kB\n";
        assert_eq!(memory(status), Some(Memory { rss_kib: 800, anon_kib: 500, peak_kib: 900 }));
        assert_eq!(memory("VmRSS: 1 kB\n"), None);
    }

    #[test]
    fn this_process_is_seen_working() {
        let mut processes = Processes::default();
        processes.add("self", std::process::id());
        let before = processes.cpu().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let mut spent = 0.0;
        while spent < 0.02 && Instant::now() < until {
            spent = used(&before, &processes.cpu().unwrap())["self"];
        }
        assert!(spent >= 0.02, "{spent}");
        assert!(processes.memory().unwrap()["self"].rss_kib > 500);
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        let mut processes = Processes::default();
        processes.add("ghost", u32::MAX);
        assert!(processes.cpu().unwrap_err().to_string().contains("ghost"));
    }
}
