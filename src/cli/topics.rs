//! `touchline topics`: the topics that the configuration needs, against those that exist.

use super::{Failure, load};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct Topics {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Says what `apply` would do, and which access rights are needed.
    Plan {
        /// Configuration files; later ones go over earlier ones.
        #[arg(long, required = true, num_args = 1..)]
        config: Vec<PathBuf>,
    },
    /// Creates what is missing and brings settings up to date; never deletes, never changes
    /// partition counts.
    Apply {
        /// Configuration files; later ones go over earlier ones.
        #[arg(long, required = true, num_args = 1..)]
        config: Vec<PathBuf>,
    },
}

impl Topics {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = match self.what {
            What::Plan { config } => crate::app::topics::plan(&load(&config)?)?,
            What::Apply { config } => crate::app::topics::apply(&load(&config)?)?,
        };
        super::say(&text);
        Ok(())
    }
}
