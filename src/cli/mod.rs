//! The command line: one file per command.
//!
//! Exit status 0 for a clean stop, 1 for a failure, 2 for bad usage or configuration. Errors go to
//! standard error as one sentence that says what to do.

mod check;
mod config;
mod demo;
mod generate;
mod replay;
mod run;
mod schemas;
mod state;
mod topics;

use crate::config::{Problem, Settings};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Follows customer touchpoints on Kafka: rolling engagement figures and alerts, exactly.
#[derive(Parser, Debug)]
#[command(name = "touchline", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Log lines to standard error: a level, or a filter as RUST_LOG has it.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// Log lines as JSON objects.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the pipeline on Kafka.
    Run(run::Run),
    /// Shows the whole pipeline with an embedded broker and generated shop traffic.
    Demo(demo::Demo),
    /// Writes traffic with known truth.
    Generate(generate::Generate),
    /// Runs the same folds over files, without Kafka.
    Replay(replay::Replay),
    /// Validates configuration files and prints every problem.
    Check(check::Check),
    /// Compares the topics that the configuration needs with those that exist.
    Topics(topics::Topics),
    /// Shows, seals or resets the state of the folds.
    State(state::State),
    /// Shows the effective configuration or its JSON Schema.
    Config(config::Config),
    /// Shows the schemas of the topics.
    Schemas(schemas::Schemas),
}

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage or configuration: exit status 2.
    Usage(String),
    /// Anything else: exit status 1.
    Failed(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        // The whole chain in one sentence: what failed, then why.
        Failure::Failed(format!("{error:#}"))
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Failure {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::Usage(lines.join("\n"))
    }
}

/// Parses the arguments, runs one command, says how it ended.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let format = match arguments.log_json {
        true => crate::telemetry::LogFormat::Json,
        false => crate::telemetry::LogFormat::Text,
    };
    let quiet = matches!(arguments.command, Command::Demo(_)) && arguments.log == "info";
    crate::telemetry::init(format, if quiet { "error" } else { &arguments.log });
    let ended = match arguments.command {
        Command::Run(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Topics(command) => command.run(),
        Command::State(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Schemas(command) => command.run(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => end(&message, 2),
        Err(Failure::Failed(message)) => end(&message, 1),
    }
}

fn end(message: &str, status: u8) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(status)
}

/// Loads the configuration from `files`, over the defaults and under the environment.
fn load(files: &[PathBuf]) -> Result<Settings, Failure> {
    Ok(crate::config::load(files, std::env::vars())?)
}

/// The same for commands that read no source topics: `sources` may be empty.
fn load_offline(files: &[PathBuf]) -> Result<Settings, Failure> {
    Ok(crate::config::load_offline(files, std::env::vars())?)
}

/// Writes a whole file.
fn write(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    let failed = |e| Failure::Failed(format!("{} cannot be written: {e}", path.display()));
    std::fs::write(path, format!("{text}\n")).map_err(failed)
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure of ours.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
