//! Worlds of workers, brokers and groups in memory, run from seeds; and the judge of what comes out.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | one world: who acts when, what goes wrong, and the phases of a run |
//! | `worker`, `committer` | drive the product's decisions as its threads on Kafka do |
//! | `broker`, `group` | logs, transactions, markers, committed offsets; members and generations |
//! | `folds` | two small folds with every rule of the real ones |
//! | `oracle` | the uninterrupted folds, and the comparison |
//!
//! `tests/sim --seeds 1000` runs many seeds and all mutations; `cargo test` a few seeds.

pub mod broker;
pub mod committer;
pub mod env;
pub mod folds;
pub mod group;
pub mod oracle;
pub mod rng;
pub mod worker;
pub mod world;

#[test]
fn worlds_of_some_seeds_end_as_if_nothing_had_happened() {
    let seeds = std::env::var("TOUCHLINE_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(40) {
        if let Err(error) = world::run(seed, None, false) {
            panic!("seed {seed}: {error}\nreplay it with: tests/sim --seed {seed}");
        }
    }
}
