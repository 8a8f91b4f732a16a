//! Worlds of workers, brokers and groups in memory, run from seeds; and the judge of what comes out.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | one world: who acts when, what goes wrong, and the phases of a run |
//! | `worker`, `committer` | drive the product's decisions as its threads on Kafka do |
//! | `broker`, `group` | logs, transactions, markers, committed offsets; members and generations |
//! | `folds` | two small folds with every rule of the real ones |
//! | `real` | the tasks of the product itself, in worlds of seeds from 1,000,000 on |
//! | `oracle` | the uninterrupted folds, and the comparison |
//!
//! `tests/sim --seeds 1000` runs many seeds and all mutations; `cargo test` a few seeds.

pub(crate) mod broker;
pub(crate) mod committer;
pub(crate) mod env;
pub(crate) mod folds;
pub(crate) mod group;
pub(crate) mod oracle;
pub(crate) mod real;
pub(crate) mod rng;
pub(crate) mod worker;
pub(crate) mod world;

#[test]
fn worlds_of_some_seeds_end_as_if_nothing_had_happened() {
    let seeds = std::env::var("TOUCHLINE_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let (mut checked, mut commits, mut alerts, mut faults) = (0, 0, 0, 0);
    for seed in 0..seeds.unwrap_or(40) {
        match world::run(seed, None, false) {
            Ok(report) => {
                checked += report.checked;
                commits += report.commits;
                alerts += report.alerts;
                faults += report.cover.values().sum::<u64>();
            }
            Err(error) => panic!("seed {seed}: {error}\nreplay it with: tests/sim --seed {seed}"),
        }
    }
    assert!(checked > 10_000 && commits > 1_000 && alerts > 100 && faults > 1_000);
}
