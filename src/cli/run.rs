//! `touchline run`: the pipeline on Kafka.

use super::{Failure, load};
use crate::app::pipeline::Role;
use crate::app::run;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct Run {
    /// Configuration files; later ones go over earlier ones.
    #[arg(long, required = true, num_args = 1..)]
    config: Vec<PathBuf>,
    /// Roles to run; all of them by default.
    #[arg(long, value_delimiter = ',', value_parser = role)]
    roles: Vec<Role>,
    /// Ends once everything that was in the source topics at the start has passed through all roles.
    #[arg(long)]
    stop_at_end: bool,
    /// Where to write the summary at a clean stop.
    #[arg(long)]
    summary: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = load(&self.config)?;
        let roles = if self.roles.is_empty() { Role::ALL.to_vec() } else { self.roles };
        if self.stop_at_end && roles != Role::ALL {
            let why = "--stop-at-end needs all roles in this process: leave out --roles";
            return Err(Failure::Usage(why.to_owned()));
        }
        let summary = run::run(&settings, &roles, self.stop_at_end)?;
        let text = summary.to_json();
        super::say(&format!("{text}\n"));
        if let Some(path) = self.summary {
            super::write(&path, &text)?;
        }
        Ok(())
    }
}

fn role(name: &str) -> Result<Role, String> {
    let known = Role::ALL.into_iter().find(|role| role.name() == name);
    known.ok_or_else(|| "roles are ingest, journey, rollup and relay".to_owned())
}
