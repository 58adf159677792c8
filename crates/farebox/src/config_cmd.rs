//! stub, replaced by its owner
use std::process::ExitCode;
#[derive(clap::Args)] pub(crate) struct ConfigArgs {}
impl ConfigArgs { pub(crate) fn run(self) -> anyhow::Result<ExitCode> { Ok(ExitCode::SUCCESS) } }
