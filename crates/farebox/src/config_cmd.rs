//! `farebox config`: checks, shows and describes the config, and changes that of a farebox that runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use crate::{
    agent::Output,
    config::{Base, Config},
    explain::ExplainArgs,
    manage::ConfigCommand,
    process::block_on,
};

/// Checks, shows or describes the config, and changes that of a farebox that runs
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
    /// Config file [default: farebox.yaml, if it is there]
    #[arg(long, value_name = "FILE", env = "FAREBOX_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// A value that overrides file and environment, such as guard.lease=6s; may be given several times
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment, global = true)]
    set: Vec<(String, String)>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Says everything that is wrong with the config
    Check,
    /// Prints the whole effective config and where each value came from; secrets stay references
    Show,
    /// Prints the JSON schema of the config, for editors
    Schema,
    /// Says which route, budgets and limits a request would meet, and why; nothing is sent or spent
    Explain(Box<ExplainArgs>),
    #[command(flatten)]
    OfRunning(Box<ConfigCommand>),
}

fn assignment(given: &str) -> Result<(String, String), String> {
    match given.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok((path.to_owned(), value.to_owned())),
        _ => Err(format!("`{given}` sets nothing: write PATH=VALUE")),
    }
}

impl ConfigArgs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if let Command::OfRunning(command) = self.command {
            return block_on(1, command.run());
        }
        self.run_on(&mut Output::standard())
    }

    fn run_on(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        if let Command::Schema = self.command {
            let schema = serde_json::to_string_pretty(&farebox_config::schema::<Config>())?;
            output.line(&schema)?;
            return Ok(ExitCode::SUCCESS);
        }
        match self.printed() {
            Ok(text) => {
                output.write(&text)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                output.note(&format!("error: {error:#}"));
                Ok(ExitCode::FAILURE)
            }
        }
    }

    fn printed(self) -> anyhow::Result<String> {
        if let Command::Explain(request) = &self.command
            && request.running
        {
            return block_on(1, Box::pin(request.by_running()));
        }
        let file = self.config.as_deref();
        let loaded = Base::read(file, self.set)?.load()?;
        match self.command {
            Command::Explain(request) => request.by_config(&loaded.value),
            Command::Show => Ok(loaded.show()?),
            _ => Ok(format!("ok: {}\n", checked(file))),
        }
    }
}

/// What was checked, as [`Base::read`] chooses it.
fn checked(file: Option<&Path>) -> String {
    let default = Path::new("farebox.yaml");
    match file.or_else(|| default.exists().then_some(default)) {
        Some(file) => file.display().to_string(),
        None => "no config file, only defaults, environment and flags".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::agent::captured;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ConfigArgs,
    }

    /// The code, standard output and standard error of a line about a file with this text.
    fn run(text: &str, line: &[&str]) -> (ExitCode, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("farebox.yaml");
        std::fs::write(&file, text).unwrap();
        let name = file.display().to_string();
        let words = [&["config"], line, &["--config", &name]].concat();
        let args = Line::try_parse_from(words).unwrap().args;
        let (mut output, out, err) = captured::output();
        let code = args.run_on(&mut output).unwrap();
        (code, out.text().replace(&name, "FILE"), err.text().replace(&name, "FILE"))
    }

    #[test]
    fn a_good_config_is_ok() {
        let text = "process: { threads: 2 }\n";
        assert_eq!(run(text, &["check"]), (ExitCode::SUCCESS, "ok: FILE\n".to_owned(), String::new()));
    }

    #[test]
    fn all_faults_are_said_with_their_lines() {
        let (code, out, err) = run("process:\n  thread: 2\nnats: { url: nowhere }\n", &["check"]);
        assert_eq!((code, out.as_str()), (ExitCode::FAILURE, ""));
        assert!(err.starts_with("error: the config cannot be used, it has 2 faults:\n"), "{err}");
        assert!(err.contains("FILE:2:3") && err.contains("thread"), "{err}");
        assert!(err.contains("FILE:3:") && err.contains("nats.url"), "{err}");
    }

    #[test]
    fn shows_where_a_value_came_from() {
        let (code, out, err) = run("process: { threads: 2 }\n", &["show", "--set", "process.drain_timeout=30s"]);
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
        assert!(out.contains("threads: 2  # FILE:1:"), "{out}");
        assert!(out.contains("drain_timeout: 30s  # flag "), "{out}");
        assert!(out.contains("start_timeout: 60s  # default") || out.contains("start_timeout: 1m  # default"), "{out}");
    }

    #[test]
    fn a_request_is_explained_without_being_sent() {
        let text = r#"
            providers: { openai: { api_key: os.environ/K } }
            models: { gpt: openai/gpt-x }
            prices: [{ provider: openai, models: [gpt-x], input: "0", output: "1000" }]
            projects: { acme: {} }
            keys: { ci: { key: os.environ/CI, project: acme, pins: { actor: ci } } }
            budgets:
              - { name: everything, limit: 100, period: total, hard: true }
              - { name: tasks, scope: task, limit: 5 }
              - { name: other, scope: { actor: writer }, limit: 5, period: day }
            limits:
              - { name: each, scope: key, requests: 5, per: minute, default: true }
              - { name: its-own, scope: { key: ci }, requests: 9, per: minute }
        "#;
        let body = r#"{"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000}"#;
        let (code, out, err) = run(text, &["explain", body, "--key", "ci", "--task", "t1"]);
        assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""), "{out}");
        for line in [
            "  1. openai/gpt-x (model `gpt`): costs 1 USD at most",
            "  everything: applies: 100 USD in all (total), hard, shared",
            "  tasks: applies [acme/t1]: 5 USD in all (lifetime), soft",
            "  other: does not apply: its actor is ci, not writer",
            "  each: does not apply: it is a default, and `its-own` holds instead",
            "  its-own: applies: 9 requests in 1m, fixed window",
        ] {
            assert!(out.lines().any(|said| said.starts_with(line)), "{line} is missing in:\n{out}");
        }
        assert_eq!(out.matches("shared").count(), 1, "{out}");
        let (code, _, err) = run(text, &["explain", &body.replace("gpt", "gone")]);
        assert_eq!(code, ExitCode::FAILURE);
        assert!(err.contains("it would be refused") && err.contains("gone"), "{err}");
        assert!(run(text, &["explain", body, "--key", "nobody"]).2.contains("no key `nobody`"));
    }

    #[test]
    fn the_schema_needs_no_config() {
        let (code, out, _) = run("not: [a config", &["schema"]);
        let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(schema["properties"]["models"].is_object(), "{out}");
    }

    #[test]
    fn an_assignment_has_a_path() {
        assert_eq!(assignment("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(assignment("=1").unwrap_err().contains("PATH=VALUE"));
        assert!(assignment("a").is_err());
    }
}
