//! `touchline config`: the effective configuration, masked; its JSON Schema.

use super::{Failure, load_offline};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// The effective configuration as YAML, secrets masked.
    Show {
        /// Configuration files; none: the defaults.
        #[arg(long, num_args = 1..)]
        config: Vec<PathBuf>,
    },
    /// The JSON Schema of configuration files, for editors.
    Schema,
}

impl Config {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Schema => super::say(&format!("{}\n", crate::config::json_schema())),
            What::Show { config } if config.is_empty() => {
                super::say(crate::config::default_yaml());
            }
            What::Show { config } => super::say(load_offline(&config)?.effective_yaml()),
        }
        Ok(())
    }
}
