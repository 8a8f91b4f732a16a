//! `touchline generate`: traffic with known truth, to a file or to Kafka.

use super::{Failure, load};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[group(id = "where", required = true, multiple = false)]
struct Target {
    /// File to write; the truth goes beside it, to FILE.truth/.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Configuration: writes to the topic of its first source that takes canonical JSON.
    #[arg(long, num_args = 1..)]
    config: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    /// What happens: shop, shop-late, spike, calm, promotion, silent, pending, pending-spike.
    #[arg(long)]
    scenario: String,
    /// The same seed gives the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many touchpoints.
    #[arg(long)]
    events: Option<u64>,
    /// Touchpoints per second of event time, on average.
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    target: Target,
}

impl Generate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let plan = crate::app::generate::plan(&self.scenario, self.seed, self.events, self.rate)
            .map_err(Failure::Usage)?;
        match self.target.out {
            Some(out) => {
                let settings = super::load_offline(&[])?;
                crate::app::generate::to_files(plan, &settings, &out)?;
            }
            None => crate::app::generate::to_kafka(plan, &load(&self.target.config)?)?,
        }
        Ok(())
    }
}
