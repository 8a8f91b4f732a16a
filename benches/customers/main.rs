//! What a customer costs: resident memory of one process in which many are known, each idle for a day.
//!
//! ```text
//! cargo bench --bench customers                            # 10,000,000 customers
//! cargo bench --bench customers -- --customers 500000
//! ```
//!
//! Every customer makes one visit of five events, each in another series of channel and stage, then
//! nothing for 24 hours of event time; the journey fold runs with the shipped settings in one
//! partition, and its changes are taken for a checkpoint every 100,000 events, as the worker does.
//! The growth of resident memory is that from before the first event, hash table, timers and slack
//! included; a record is what the checkpoint's entry of a customer takes.
//!
//! The status is 1 if an aim is missed, 2 if something is wrong.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use touchline::app::parts::Parts;
use touchline::app::summary::Cost;
use touchline::config::Settings;
use touchline::engine::state::{Checkpointed, Entry};
use touchline::engine::{Fold, Output, Tick};
use touchline::journey::{Input, Journey};
use touchline::model::ids::{Offset, PartitionId};
use touchline::model::time::{EventTime, Millis};
use touchline::model::touchpoint::TouchpointRef;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Resident growth per customer, bytes.
const AIM_GROWTH: f64 = 320.0;
/// A customer's record, bytes.
const AIM_RECORD: f64 = 200.0;
/// Events between two checkpoints.
const CHECKPOINT: u64 = 100_000;
/// Between two events of one visit.
const PACE: Millis = Millis::from_secs(20);
/// In which all visits begin.
const SPAN: Millis = Millis::from_mins(30);
/// How long nobody does anything.
const IDLE: Millis = Millis::from_hours(24);
/// Tells the allocator to give back at once what is free, not a second later if anything happens then:
/// a day takes seconds here, and what is asked for is what the customers need.
const GIVE_BACK: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");
/// 2026-03-02, 12:00 UTC.
const START: i64 = 1_772_452_800_000;
/// One visit: channel, touchpoint and action.
const VISIT: [(&str, &str, &str); 5] = [
    ("email", "email", "open"),
    ("web", "product", "view"),
    ("app", "search", "submit"),
    ("social", "post", "view"),
    ("support", "ticket", "create"),
];

fn main() -> ExitCode {
    let (option, value) = GIVE_BACK;
    if std::env::var_os(option).is_none() {
        // The allocator reads its options before anything runs.
        let mut again = Command::new("/proc/self/exe");
        let error = again.args(std::env::args_os().skip(1)).env(option, value).exec();
        eprintln!("customers: cannot start with {option}={value}: {error}");
        return ExitCode::from(2);
    }
    match customers(std::env::args().skip(1)).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("customers: {problem}");
            ExitCode::from(2)
        }
    }
}

fn customers(words: impl Iterator<Item = String>) -> Result<u64, String> {
    // Cargo says `--bench` to every benchmark.
    let mut words = words.filter(|word| word != "--bench");
    let mut customers = 10_000_000;
    while let Some(word) = words.next() {
        let number = words.next().and_then(|value| value.parse().ok()).filter(|n| *n > 0);
        customers = match word.as_str() {
            "--customers" => number.ok_or("--customers needs a number from 1")?,
            _ => return Err(format!("there is no {word}")),
        };
    }
    Ok(customers)
}

/// The journey task and what it has said.
struct Task {
    journey: Journey,
    out: Vec<Output>,
    entries: Vec<Entry>,
    events: u64,
    /// Bytes and number of the customers' entries of the last checkpoint.
    written: (usize, usize),
}

impl Task {
    fn new() -> Result<Task, String> {
        let yaml = "ingest: direct\n\
                    sources: {visits: {topic: visits, format: canonical_json, start: earliest}}\n";
        let settings = Settings::from_yaml_str("customers.yaml", yaml, []);
        let parts = Parts::new(&settings.map_err(|problems| format!("{problems:?}"))?);
        let journey = Journey::new(parts.journey_settings(PartitionId::new(0), 1));
        Ok(Task { journey, out: Vec::new(), entries: Vec::new(), events: 0, written: (0, 0) })
    }

    fn visit(&mut self, customer: &str, step: usize, at: EventTime) {
        let (channel, touchpoint, action) = VISIT[step];
        let mut id = String::with_capacity(16);
        write!(id, "{:x}", self.events).expect("a string takes all");
        let touchpoint = TouchpointRef {
            id: &id,
            source: "visits",
            event_time: at,
            customer_id: Some(customer),
            channel,
            touchpoint,
            action,
            ..TouchpointRef::EMPTY
        };
        let offset = Offset::new(self.events as i64);
        self.fold(Input::Touchpoint {
            offset,
            origin: None,
            touchpoint: &touchpoint,
            key: b"",
            value: b"",
        });
        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT) {
            self.checkpoint();
        }
    }

    fn fold(&mut self, input: Input<'_>) {
        self.journey.fold(input, &mut self.out);
        self.out.clear();
    }

    fn checkpoint(&mut self) {
        self.journey.take_dirty(&mut self.entries);
        // Beside those of customers there are a few of the task's own.
        let sizes = self.entries.drain(..).filter_map(|entry| Some(entry.value?.len()));
        self.written = sizes.fold((0, 0), |(bytes, n), size| (bytes + size, n + 1));
    }
}

/// Prints what it took; false if an aim was missed.
fn run(customers: u64) -> Result<bool, String> {
    let mut task = Task::new()?;
    let (empty, begun) = (resident()?, Cost::of_this_process().cpu_s);
    // Visits overlap: while the first customers are at their last step, others begin.
    let pace = |n: u64| Millis::from_ms((SPAN.as_ms() as u64 * n / customers) as i64);
    let apart = (customers * PACE.as_ms() as u64).div_ceil(SPAN.as_ms() as u64);
    for turn in 0..customers + apart * (VISIT.len() as u64 - 1) {
        for step in 0..VISIT.len() {
            let Some(number) = turn.checked_sub(apart * step as u64) else { break };
            if number < customers {
                // Hashes as keys, as real ones: neighbours in time are none in any table.
                let name = format!("c{:012x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
                task.visit(&name, step, EventTime::from_ms(START).plus(pace(turn)));
            }
        }
    }
    let folded = Cost::of_this_process().cpu_s - begun;
    let minutes = (IDLE.as_ms() / Millis::from_mins(1).as_ms()) as u64;
    for number in 1..=minutes {
        task.fold(Input::Tick(Tick { number, advance: Millis::from_mins(1) }));
        if number % 10 == 0 {
            task.checkpoint();
        }
    }
    let known = task.journey.customers() as u64;
    if known != customers {
        return Err(format!("{known} of {customers} customers are known"));
    }
    let growth = (resident()? - empty) / customers as f64;
    task.journey.mark_all();
    task.checkpoint();
    let record = task.written.0 as f64 / task.written.1 as f64;
    println!("{customers} customers, {} events, each idle for 24 h of event time", task.events);
    println!("| what | aim | figure | |\n| --- | --- | --- | --- |");
    let mut passed = true;
    for (what, aim, figure) in [
        ("resident growth per customer, bytes", AIM_GROWTH, growth),
        ("a customer's record, bytes", AIM_RECORD, record),
    ] {
        passed &= figure <= aim;
        let verdict = if figure <= aim { "pass" } else { "MISS" };
        println!("| {what} | {aim} | {figure:.0} | {verdict} |");
    }
    println!("{:.0} events per CPU-second", task.events as f64 / folded);
    Ok(passed)
}

/// Resident memory of this process, bytes.
fn resident() -> Result<f64, String> {
    let bytes = touchline::kafka::memory::told("self", "VmRSS");
    bytes.map(|bytes| bytes as f64).ok_or_else(|| "no VmRSS in /proc/self/status".to_owned())
}
