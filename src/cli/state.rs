//! `touchline state`: what the folds have on the cluster.

use super::{Failure, load};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct State {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Shows committed offsets, checkpoints, sizes and open transactions, partition by partition.
    Show {
        /// Configuration files; later ones go over earlier ones.
        #[arg(long, required = true, num_args = 1..)]
        config: Vec<PathBuf>,
    },
    /// Folds what is there and stops with a checkpoint at every committed offset, so that another
    /// version or configuration can take over.
    Seal {
        /// Configuration files; later ones go over earlier ones.
        #[arg(long, required = true, num_args = 1..)]
        config: Vec<PathBuf>,
    },
    /// Deletes the state and what is committed: the next run starts anew.
    Reset {
        /// Configuration files; later ones go over earlier ones.
        #[arg(long, required = true, num_args = 1..)]
        config: Vec<PathBuf>,
        /// Says what would be done, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl State {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = match self.what {
            What::Show { config } => crate::app::state::show(&load(&config)?)?,
            What::Seal { config } => crate::app::state::seal(&load(&config)?)?,
            What::Reset { config, dry_run } => crate::app::state::reset(&load(&config)?, dry_run)?,
        };
        super::say(&text);
        Ok(())
    }
}
