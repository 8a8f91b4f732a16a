//! How many instructions the steps of the pipeline take, counted by valgrind's callgrind: the same
//! in every run, however busy the machine is. Seeds of hash maps differ from run to run, and with
//! them the folds by less than 0.1 %.
//!
//! ```text
//! cargo bench --bench micro                               # all parts, compared with the baseline
//! cargo bench --bench micro -- --only journey,rollup
//! cargo bench --bench micro -- --rounds 3                 # each three times, with their spread
//! cargo bench --bench micro -- --record                   # writes the baseline
//! ```
//!
//! | part | what is counted | per |
//! | --- | --- | --- |
//! | `decode-avro` | a canonical record in Confluent framing, as `journey` decodes it | record |
//! | `decode-json` | the same in JSON | record |
//! | `map-json` | a shop's own JSON through `config/mappings/shop.yaml` and the rules | record |
//! | `journey` | the journey fold, decoding left out | event |
//! | `encode` | what it says, flushes included, to records in JSON | event |
//! | `rollup` | flushes decoded and folded, alerts included | flush |
//! | `encode-rollup` | what that says, to records in JSON | flush |
//! | `checkpoint` | what changed in both folds, taken and framed, every 4,000 events | entry |
//! | `restore` | both folds made again from all frames | entry |
//!
//! The input is a shop's traffic by `touchline::generate` (out of order, late and repeated events,
//! carts, checkouts, all channels) through one partition of everything, with the shipped
//! configuration. Folds have seen 16,000 events, half an hour, before the 8,000 that are counted.
//! The program's own allocator is counted with them.
//!
//! The status is 1 if a part takes over 5 % more instructions per unit than in `baseline.json`, or
//! is not in there; 2 if something is wrong. Another compiler or architecture gives other counts:
//! the comparison says so. Nothing is known here of caches: fewer instructions are not always less
//! time.

mod baseline;
mod foreign;
mod parts;
mod traffic;
mod valgrind;

use baseline::{Baseline, Environment};
use parts::Part;
use std::collections::BTreeMap;
use valgrind::{Count, MEASURE, count};

/// The program's own: what it takes is part of every figure.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A part that takes more than this of its baseline has got worse.
const ALLOWED: f64 = 1.05;

/// What is asked for on the command line.
struct Options {
    only: Vec<Part>,
    rounds: usize,
    record: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { only: Part::ALL.to_vec(), rounds: 1, record: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--only" => {
                    let part = |name| Part::by_name(name).ok_or_else(|| unknown(name));
                    options.only = value()?.split(',').map(part).collect::<Result<_, _>>()?;
                }
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|n| *n > 0);
                    options.rounds = rounds.ok_or("--rounds needs a number from 1")?;
                }
                "--record" => options.record = true,
                _ => return Err(format!("there is no {word}")),
            }
        }
        Ok(options)
    }
}

fn unknown(name: &str) -> String {
    let known = Part::ALL.map(Part::name).join(", ");
    format!("there is no part {name}; there are {known}")
}

fn main() {
    // Cargo says `--bench` to every benchmark.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench").peekable();
    if words.next_if(|word| word == MEASURE).is_some() {
        let units = parts::run(&words.next().expect("the parent names a run"));
        units.iter().for_each(|(part, units)| println!("{part} {units}"));
        return;
    }
    let passed = Options::parse(words).and_then(|options| run(&options));
    match passed {
        Ok(passed) => std::process::exit(i32::from(!passed)),
        Err(problem) => {
            eprintln!("micro: {problem}");
            std::process::exit(2);
        }
    }
}

/// Counts, compares or records; false if a part has got worse.
fn run(options: &Options) -> Result<bool, String> {
    let here = Environment::here()?;
    let known = Baseline::read()?;
    if options.record {
        return record(options, here, known).map(|()| true);
    }
    let known = known.ok_or("there is no baseline yet: write one with --record")?;
    let differences = here.differences(&known.environment);
    println!("{:14} {:8} {:>14} {:>14} {:>7}", "part", "unit", "instructions", "baseline", "ratio");
    let (mut worse, mut runs) = (Vec::new(), Runs::new(options.rounds));
    for part in &options.only {
        let (measured, per_unit, spread) = runs.figure(*part)?;
        let (name, unit) = (part.name(), part.unit());
        let Some(before) = known.parts.get(name) else {
            println!("{name:14} {unit:8} {per_unit:14.1} {:>14} {:>7}  NEW{spread}", "-", "-");
            worse.push(name);
            continue;
        };
        let baseline = before.instructions_per_unit;
        let ratio = per_unit / baseline;
        let verdict = if ratio > ALLOWED { "  WORSE" } else { "" };
        if ratio > ALLOWED {
            worse.push(name);
        }
        // Then it is not the same work, and the ratio tells less.
        let units = if measured.units == before.units {
            String::new()
        } else {
            format!("  {} units, were {}", measured.units, before.units)
        };
        println!(
            "{name:14} {unit:8} {per_unit:14.1} {baseline:14.1} {ratio:7.3}{verdict}{units}{spread}"
        );
    }
    for difference in &differences {
        println!("not the baseline's {difference}");
    }
    if !worse.is_empty() {
        println!("over 5 % above the baseline, or not in it: {}", worse.join(", "));
    }
    Ok(worse.is_empty())
}

/// Runs that have been done, each as often as asked for.
struct Runs {
    rounds: usize,
    done: BTreeMap<&'static str, Vec<BTreeMap<String, Count>>>,
}

impl Runs {
    fn new(rounds: usize) -> Runs {
        Runs { rounds, done: BTreeMap::new() }
    }

    /// One part: what was counted last, the mean per unit, and the spread as text.
    fn figure(&mut self, part: Part) -> Result<(Count, f64, String), String> {
        let run = part.run();
        if !self.done.contains_key(run) {
            let counted = (0..self.rounds).map(|_| count(run)).collect::<Result<_, _>>()?;
            self.done.insert(run, counted);
        }
        let counts: Vec<Count> =
            self.done[run].iter().filter_map(|c| c.get(part.name())).copied().collect();
        let last = counts.last().ok_or_else(|| format!("{} was not measured", part.name()))?;
        let figures = || counts.iter().map(|c| c.per_unit());
        let mean = figures().sum::<f64>() / counts.len() as f64;
        let spread = figures().fold(0.0, f64::max) - figures().fold(f64::INFINITY, f64::min);
        let spread = match self.rounds {
            1 => String::new(),
            _ => format!("  spread {:.3} %", 100.0 * spread / mean),
        };
        Ok((*last, mean, spread))
    }
}

fn record(options: &Options, here: Environment, known: Option<Baseline>) -> Result<(), String> {
    if !here.is_optimised() {
        return Err(format!("no baseline is recorded of a build that is {}", here.profile));
    }
    // Parts that are not asked for keep their figures, if these are of the same kind.
    let same = known.as_ref().is_none_or(|known| known.environment == here);
    if options.only.len() < Part::ALL.len() && !same {
        return Err("compiler, profile or architecture have changed: record all parts".to_owned());
    }
    let all = options.only.len() == Part::ALL.len();
    let parts = known.filter(|_| !all).map_or_else(BTreeMap::new, |known| known.parts);
    let mut baseline = Baseline { environment: here, parts };
    let mut runs = Runs::new(options.rounds);
    for part in &options.only {
        let (measured, per_unit, spread) = runs.figure(*part)?;
        println!("{:14} {:8} {per_unit:14.1}{spread}", part.name(), part.unit());
        baseline.set(*part, measured, per_unit);
    }
    baseline.write()
}
