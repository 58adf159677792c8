//! Compiles `proto/farebox/v1` with protox: no protoc needed.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let root = PathBuf::from("../../proto");
    let mut files: Vec<PathBuf> =
        fs::read_dir(root.join("farebox/v1"))?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "proto"));
    files.sort();
    println!("cargo:rerun-if-changed=../../proto");

    let descriptors = protox::compile(&files, [&root]).map_err(io::Error::other)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    fs::write(out.join("farebox.v1.binpb"), prost::Message::encode_to_vec(&descriptors))?;
    let mut config = prost_build::Config::new();
    // Maps in order: equal messages have equal bytes.
    config.bytes(["."]).btree_map(["."]);
    for entry in ["LedgerEntry.entry", "GraceEntry.entry"] {
        let mostly = "#[expect(clippy::large_enum_variant, reason = \"most entries are of the largest kind\")]";
        config.enum_attribute(format!("farebox.v1.{entry}"), mostly);
    }
    config.compile_fds(descriptors)
}
