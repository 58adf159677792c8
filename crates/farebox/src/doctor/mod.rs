//! `farebox doctor`: is this farebox in order? It asks over HTTP, as any program would.
//!
//! It checks the connection, the parts behind it, the key, and each model with a tiny real call, whole and streamed. What it
//! finds goes to standard output. Exit codes: 0 all well, 1 something is not, 2 used wrongly.

mod finding;
mod probe;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use farebox_types::Span;
use reqwest::Certificate;

use self::{
    finding::{Finding, Report},
    probe::{Edge, Way},
};
use crate::{
    addresses::Addresses,
    agent::{Failure, GivenKey, Output, failure},
    process::data_dir,
};

/// Checks a farebox over HTTP: connection, key, and each model with a tiny real call
#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// Base URL of the farebox to check; without it, the one that runs here
    #[arg(value_name = "URL", env = "FAREBOX_URL")]
    url: Option<String>,
    /// A farebox key, `fb-…`; better in the environment, where other users do not see it
    #[arg(long, value_name = "KEY", env = "FAREBOX_KEY", hide_env_values = true)]
    key: Option<GivenKey>,
    /// Checks only these models; without it, all that the key may ask for
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// How long one call may take
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: Span,
    /// File with the certificate authority of the server
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Prints the findings as JSON
    #[arg(long)]
    json: bool,
    /// Data directory of the farebox that runs here [default: $XDG_DATA_HOME/farebox]
    #[arg(long, value_name = "DIR", env = "FAREBOX_DATA")]
    data: Option<PathBuf>,
}

impl DoctorArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let mut output = Output::standard();
        match self.examine(&mut output).await {
            Ok(true) => Ok(ExitCode::SUCCESS),
            Ok(false) => Ok(ExitCode::FAILURE),
            Err(error) => failure::finish(Err(error), &mut output),
        }
    }

    /// Whether all is well.
    async fn examine(&self, output: &mut Output) -> Result<bool, Failure> {
        let url = self.url()?;
        let key = self.key.as_ref().map(|GivenKey(key)| key.trim());
        let ca = self.ca.as_deref().map(authority).transpose()?;
        let edge = Edge::new(&url, key, ca, self.timeout.get()).map_err(Failure::Usage)?;
        let mut report = Report::new(edge.url());
        let say = |finding: Finding, report: &mut Report, output: &mut Output| {
            if !self.json {
                output.line(&finding.line())?;
            }
            report.add(finding);
            Ok::<(), Failure>(())
        };
        let connection = edge.connection().await;
        let reached = connection.is_well();
        say(connection, &mut report, output)?;
        if reached {
            say(edge.parts().await, &mut report, output)?;
            let (finding, known) = edge.models().await;
            say(finding, &mut report, output)?;
            for model in if self.models.is_empty() { &known } else { &self.models } {
                let (whole, way) = edge.whole(model).await;
                let streams = way == Some(Way::Chat);
                say(whole, &mut report, output)?;
                if streams {
                    say(edge.streamed(model).await, &mut report, output)?;
                }
            }
        }
        output.line(&if self.json { report.json() } else { report.summary() })?;
        Ok(report.is_well())
    }

    fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let data = data_dir(self.data.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
        let here = Addresses::read(&data).map_err(|error| Failure::Connect(format!("{error}, or name its URL")))?;
        here.http.ok_or_else(|| {
            Failure::Connect(
                "the farebox that runs here serves no HTTP: start `farebox edge`, or name a URL".to_owned(),
            )
        })
    }
}

fn authority(file: &Path) -> Result<Certificate, Failure> {
    let unusable = |why: String| Failure::Usage(format!("the certificate in {} cannot be used: {why}", file.display()));
    let read = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    Certificate::from_pem(&read).map_err(|error| unusable(error.to_string()))
}
