//! The process that the ClickHouse library lives in while this crate's tests run.

use std::path::PathBuf;

use anyhow::Context as _;
use farebox_parts::{ServeOptions, serve_chdb};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    serve_chdb(&ServeOptions {
        lib: PathBuf::from(value("--lib").context("--lib?")?),
        data_dir: PathBuf::from(value("--path").context("--path?")?),
        http_port: value("--http-port").context("--http-port?")?.parse()?,
        tcp_port: value("--tcp-port").map(|port| port.parse()).transpose()?,
        args: Vec::new(),
    })?;
    Ok(())
}
