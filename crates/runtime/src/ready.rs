//! The file that says: everything answers, and here is where.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The ready file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the ready file {}: check that its directory exists and is writable", path.display())]
pub struct ReadyFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes `contents` and a newline to `path`, atomically: whoever sees the file sees all of it.
pub fn write_ready_file(path: &Path, contents: &str) -> Result<(), ReadyFileError> {
    let write = || -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(name);
        let mut file = File::create(&beside)?;
        writeln!(file, "{contents}")?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| ReadyFileError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_was_there_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        std::fs::write(&path, "an older and longer line").unwrap();
        write_ready_file(&path, r#"{"nats":"127.0.0.1:4222"}"#).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"nats\":\"127.0.0.1:4222\"}\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("no-such-dir/ready.json");
        let error = write_ready_file(&path, "{}").unwrap_err();
        assert!(error.to_string().contains("no-such-dir/ready.json"), "{error}");
    }
}
