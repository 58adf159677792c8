//! The processes that this crate's tests need beside their own: a ClickHouse launcher, and a parent to be killed.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use farebox_parts::{Child, ChildSpec, ServeOptions, serve_chdb};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => serve(&args),
        Some("hold") => hold(&args),
        _ => bail!("serve or hold?"),
    }
}

fn serve(args: &[String]) -> anyhow::Result<()> {
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    serve_chdb(&ServeOptions {
        lib: PathBuf::from(value("--lib").context("--lib?")?),
        data_dir: PathBuf::from(value("--path").context("--path?")?),
        http_port: value("--http-port").context("--http-port?")?.parse()?,
        tcp_port: value("--tcp-port").map(|p| p.parse()).transpose()?,
        args: Vec::new(),
    })?;
    Ok(())
}

/// Starts `program args…` as a child, writes its pid to a file, and waits to be killed.
fn hold(args: &[String]) -> anyhow::Result<()> {
    let [_, pid_file, log, program, rest @ ..] = args else { bail!("hold PID_FILE LOG PROGRAM ARGS…") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let child = Child::spawn(ChildSpec::new(program, log).args(rest)).await?;
        std::fs::write(pid_file, child.pid().to_string())?;
        child.wait().await;
        Ok(())
    })
}
