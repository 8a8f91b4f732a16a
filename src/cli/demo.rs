//! `touchline demo`: the whole pipeline in one process, with an embedded broker.

use super::Failure;
use crate::app::demo::{self, Options};
use crate::model::time::Millis;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Until {
    /// Every alert that fired has been resolved after the last injected fault.
    Resolved,
}

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// How long it runs (`90s`, `2m`).
    #[arg(long = "for", value_parser = crate::config::duration, default_value = "3m")]
    run_for: Millis,
    /// Ends as soon as this is so; if it never is: status 1 and the reason.
    #[arg(long)]
    until: Option<Until>,
    /// What happens: spike (checkout breaks and is repaired), calm, promotion.
    #[arg(long, default_value = "spike")]
    scenario: String,
    /// The same seed gives the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory to record the canonical topic and every derived one to, as recorded lines.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Where to write the summary.
    #[arg(long)]
    summary: Option<PathBuf>,
    /// Address of page and metrics.
    #[arg(long, default_value = "127.0.0.1:9464")]
    listen: String,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = Options {
            run_for: self.run_for,
            until_resolved: self.until == Some(Until::Resolved),
            scenario: self.scenario,
            seed: self.seed,
            record: self.record,
            listen: self.listen,
        };
        let (text, ended) = demo::demo(&options)?;
        super::say(&format!("{text}\n"));
        if let Some(path) = self.summary {
            super::write(&path, &text)?;
        }
        ended.map_err(Failure::Failed)
    }
}
