//! `touchline replay`: the same folds over files, without Kafka.

use super::{Failure, load_offline};
use crate::app::replay::{self, Options};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct Replay {
    /// Configuration files; none: the defaults.
    #[arg(long, num_args = 1..)]
    config: Vec<PathBuf>,
    /// Recorded lines, Avro containers, or bare canonical objects, one a line.
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Directory for one JSON lines file per derived topic, and `summary.json`.
    #[arg(long)]
    out: PathBuf,
    /// Partitions of the canonical topic, for bare canonical objects and foreign records.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1_024))]
    partitions: i32,
    /// Only the last revision per key, without what depends on partitions, sorted.
    #[arg(long = "final")]
    final_only: bool,
    /// The input is that of this source: it goes through ingest first.
    #[arg(long)]
    source: Option<String>,
    /// Leaves clock and watermark where the input leaves them, as `run --stop-at-end` does.
    #[arg(long)]
    no_close: bool,
}

impl Replay {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = load_offline(&self.config)?;
        let options = Options {
            inputs: self.input,
            out: self.out,
            partitions: self.partitions,
            final_only: self.final_only,
            source: self.source,
            close: !self.no_close,
        };
        let summary = replay::replay(&settings, &options)?;
        super::say(&format!("{}\n", summary.to_json()));
        Ok(())
    }
}
