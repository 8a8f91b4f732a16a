//! `tests/sim`: many seeds, all mutations, and what they met.

#[path = "mod.rs"]
mod sim;

use sim::world::{self, Report};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use touchline::engine::mutation::Mutation;

/// Each fault must happen in so many of 1000 seeds.
const SEEDS_PER_FAULT: u64 = 50;
/// Of 1000 seeds so many must have an alert.
const SEEDS_WITH_ALERT: u64 = 900;
/// A mutation must be caught within so many seeds.
const SEEDS_PER_MUTATION: u64 = 400;

fn main() -> ExitCode {
    // What stops a worker is reported by its world.
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)
    };
    let number = |name: &str| value(name).map(|text| text.parse().expect("a number"));
    let named = value("--mutation").map(|name| {
        let found = Mutation::ALL.into_iter().find(|m| format!("{m:?}") == *name);
        found.expect("a mutation: see src/engine/mutation.rs")
    });
    if let Some(seed) = number("--seed") {
        let trace = args.iter().any(|arg| arg == "--trace");
        return match world::run(seed, named, trace) {
            Ok(report) => {
                println!("seed {seed} is fine: {report:?}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("seed {seed}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let seeds = number("--seeds").unwrap_or(1_000);
    if args.iter().any(|arg| arg == "--real") {
        let fine = run_seeds(world::REAL_FROM, seeds);
        return if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let seeds_fine = run_seeds(0, seeds);
    let mutations: Vec<Mutation> = named.map_or(Mutation::ALL.to_vec(), |m| vec![m]);
    let caught = run_mutations(&mutations);
    if seeds_fine && caught { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Calls `work` with 0, 1, … below `end` on all cores, until it says that it is enough.
fn on_all_cores(end: u64, work: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end || !work(number) {
                        return;
                    }
                }
            });
        }
    });
}

fn run_seeds(from: u64, seeds: u64) -> bool {
    let done: Mutex<Vec<(u64, Result<Report, String>)>> = Mutex::default();
    on_all_cores(seeds, |number| {
        let seed = from + number;
        let result = world::run(seed, None, false);
        done.lock().expect("no panic while held").push((seed, result));
        true
    });
    let mut done = done.into_inner().expect("all have ended");
    done.sort_by_key(|(seed, _)| *seed);
    let (mut failed, mut checked, mut commits, mut alerts) = (0, 0, 0, 0);
    let mut cover: BTreeMap<&str, u64> = BTreeMap::new();
    for (seed, result) in &done {
        match result {
            Ok(report) => {
                checked += report.checked;
                commits += report.commits;
                alerts += u64::from(report.alerts > 0);
                for fault in report.cover.keys() {
                    *cover.entry(fault).or_default() += 1;
                }
            }
            Err(error) => {
                failed += 1;
                println!("seed {seed}: {error}\n  replay it with: tests/sim --seed {seed}");
            }
        }
    }
    println!("{seeds} seeds, {failed} failed; {commits} transactions, {checked} records compared");
    let per_mille = |count: u64| count * 1_000 / seeds.max(1);
    let mut rare = false;
    for fault in world::FAULTS {
        cover.entry(fault).or_default();
    }
    for (fault, count) in &cover {
        let enough = !world::FAULTS.contains(fault) || per_mille(*count) >= SEEDS_PER_FAULT;
        rare |= !enough;
        println!("  {count:>5} seeds: {fault}{}", if enough { "" } else { "  TOO FEW" });
    }
    let enough = per_mille(alerts) >= SEEDS_WITH_ALERT;
    println!("  {alerts:>5} seeds: an alert{}", if enough { "" } else { "  TOO FEW" });
    failed == 0 && (seeds < 1_000 || !rare && enough)
}

/// Runs seeds with each mutation until the judge notices.
fn run_mutations(mutations: &[Mutation]) -> bool {
    type Caught = (Mutation, Option<(u64, String)>);
    let lines: Mutex<Vec<Caught>> = Mutex::default();
    on_all_cores(mutations.len() as u64, |place| {
        let mutation = mutations[place as usize];
        let caught = (0..SEEDS_PER_MUTATION).find_map(|seed| {
            let result = std::panic::catch_unwind(|| world::run(seed, Some(mutation), false));
            let error = match result {
                Ok(result) => result.err()?,
                Err(_) => "a panic".to_owned(),
            };
            Some((seed, error.lines().next().unwrap_or_default().to_owned()))
        });
        lines.lock().expect("no panic while held").push((mutation, caught));
        true
    });
    let mut lines = lines.into_inner().expect("all have ended");
    lines.sort_by_key(|(mutation, _)| *mutation);
    let mut all = true;
    for (mutation, caught) in lines {
        match caught {
            Some((seed, error)) => {
                let error: String = error.chars().take(90).collect();
                println!("  {mutation:?} caught by seed {seed}: {error}");
            }
            None => {
                all = false;
                println!("  {mutation:?} NOT CAUGHT within {SEEDS_PER_MUTATION} seeds");
            }
        }
    }
    all
}
