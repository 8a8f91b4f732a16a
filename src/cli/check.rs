//! `touchline check`: every problem of the configuration, and nothing else.

use super::{Failure, load};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Configuration files; later ones go over earlier ones.
    #[arg(long, required = true, num_args = 1..)]
    config: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = load(&self.config)?;
        crate::app::check::beyond_the_file(&settings).map_err(Failure::Usage)?;
        super::say("ok\n");
        Ok(())
    }
}
