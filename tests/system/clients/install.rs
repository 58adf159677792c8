//! Where clients come from: pinned in `tests/clients`, fetched by `pip` and `npm`, kept in the cache of this machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

/// The scripts of all clients, and what they need.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Python with what `tests/clients/python/<name>.txt` lists.
pub(crate) fn python(name: &str) -> PathBuf {
    let list = home().join("python").join(name).with_extension("txt");
    let venv = installed("python", name, &list, |venv| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        run(Command::new(venv.join("bin/python")).args(install).arg(&list));
    });
    venv.join("bin/python")
}

/// A `node_modules` with what `tests/clients/node/<name>` lists.
pub(crate) fn node(name: &str) -> PathBuf {
    let lists = home().join("node").join(name);
    let lock = lists.join("package-lock.json");
    let dir = installed("node", name, &lock, |dir| {
        fs::create_dir_all(dir).expect("the cache can be written");
        for list in [&lists.join("package.json"), &lock] {
            fs::copy(list, dir.join(list.file_name().expect("a file"))).expect("the cache can be written");
        }
        // What a package would run while it is installed is not needed by any of these.
        let quiet = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(quiet).current_dir(dir));
    });
    dir.join("node_modules")
}

/// A directory that was filled once on this machine, by one process at a time, for what the list says now.
fn installed(kind: &str, name: &str, list: &Path, fill: impl FnOnce(&Path)) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a cache");
    let cache = cache.join("farebox/clients");
    fs::create_dir_all(&cache).expect("the cache can be written");
    let list = fs::read(list).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    let digest = Sha256::digest(list).iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>();
    let dir = cache.join(format!("{kind}-{name}-{digest}"));
    let lock = File::create(dir.with_extension("lock")).expect("the cache can be written");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let done = dir.join("done");
    if !done.exists() {
        fill(&dir);
        fs::write(&done, "").expect("the cache can be written");
    }
    dir
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot fetch clients: {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cannot fetch clients: {command:?} failed:\n{said}");
}
