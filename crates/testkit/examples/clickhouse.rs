//! The launcher of this crate's own tests; everybody else's is the `farebox` binary.

use std::path::PathBuf;

use anyhow::Context as _;
use farebox_parts::{ServeOptions, serve_chdb};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)).context("an argument");
    serve_chdb(&ServeOptions {
        lib: PathBuf::from(value("--lib")?),
        data_dir: PathBuf::from(value("--path")?),
        http_port: value("--http-port")?.parse()?,
        tcp_port: None,
        args: Vec::new(),
    })?;
    Ok(())
}
