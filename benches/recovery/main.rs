//! How long coming back takes, and what exactly once costs, on a real broker with shipped settings.
//!
//! ```text
//! export TOUCHLINE_KAFKA_LIBS=…          # the jars that `tests/run` fetches
//! cargo bench --bench recovery            # 10,000 events/s, 5,000,000 customers, five rounds each
//! cargo bench --bench recovery -- --rate 1000 --customers 20000 --rounds 1     # a quick look
//! cargo bench --bench recovery -- --only restart,cost
//! TOUCHLINE_PROGRAM=… cargo bench …       # another build of the program
//! RECOVERY_LOG=1 cargo bench …            # with what the program says after each recovery
//! ```
//!
//! Load goes on all the time, from customers chosen evenly. *Lag* is measured from outside, ten times a
//! second, from the committed offsets of the groups: the age of the oldest source record that `ingest`
//! has not committed, plus the same of `journey` and of `rollup` on their inputs. A recovery lasts from
//! the signal until the lag is below 1 s and stays so for 2 s; the maximum of the rounds counts.
//!
//! | part | what is done | aim |
//! | --- | --- | --- |
//! | `restart` | `kill -9`, started again at once | 5 s; readers of committed records stand 10 s at most |
//! | `takeover` | `kill -9` of one of two instances | session time-out + 5 s |
//! | `standby` | the same with `standby_replicas: 1` | session time-out + 2 s |
//! | `rolling` | SIGTERM, started again when it has ended | no partition pauses for more than 2 s |
//! | `cost` | the same input exactly once and at least once, to its end | 10 % of CPU at 100 ms, 5 % at 1 s |
//!
//! The status is 0 only if every aim is met.

#[path = "../../tests/kafka/broker.rs"]
#[expect(dead_code, reason = "the tests share one broker, this has its own")]
mod broker;
mod cost;
mod load;
mod process;
mod watch;

use broker::Broker;
use load::Load;
use process::{Child, Work};
use std::collections::BTreeMap;
use std::time::Duration;
use touchline::clock::Moment;
use watch::Watch;

/// What the classic protocol's sessions last by default.
const SESSION: f64 = 10.0;
/// A recovery that takes longer than this is given up.
const PATIENCE: f64 = 600.0;

/// What is asked for on the command line.
pub(crate) struct Options {
    rate: u64,
    customers: u64,
    rounds: usize,
    events: u64,
    only: Vec<String>,
    /// More configuration, under the name of its section.
    settings: Vec<String>,
}

impl Options {
    fn parse() -> Result<Options, String> {
        let mut options = Options {
            rate: 10_000,
            customers: 5_000_000,
            rounds: 5,
            events: 2_000_000,
            only: Vec::new(),
            settings: Vec::new(),
        };
        // Cargo says `--bench` to every benchmark.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            let number = || value.parse().map_err(|_| format!("{word} needs a number"));
            match word.as_str() {
                "--rate" => options.rate = number()?,
                "--customers" => options.customers = number()?,
                "--rounds" => options.rounds = number()? as usize,
                "--events" => options.events = number()?,
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--settings" => options.settings.push(value),
                _ => return Err(format!("there is no {word}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// One line of the report.
pub(crate) struct Line {
    what: String,
    aim: f64,
    figure: f64,
    unit: &'static str,
}

/// The report.
#[derive(Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    pub(crate) fn add(&mut self, what: &str, aim: f64, figure: f64, unit: &'static str) {
        let line = Line { what: what.to_owned(), aim, figure, unit };
        println!("{}", line.text());
        self.0.push(line);
    }

    fn passed(&self) -> bool {
        self.0.iter().all(Line::passed)
    }
}

impl Line {
    fn passed(&self) -> bool {
        self.figure <= self.aim
    }

    fn text(&self) -> String {
        let Line { what, aim, figure, unit } = self;
        let verdict = if self.passed() { "pass" } else { "MISS" };
        format!("{verdict}  {what:62} aim {aim:6.1} {unit:3} figure {figure:7.2} {unit}")
    }
}

fn main() {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("recovery: {problem}");
            std::process::exit(2);
        }
    };
    let mut report = Report::default();
    let parts = ["restart", "takeover", "standby", "rolling"];
    if parts.iter().any(|part| options.wants(part)) {
        recovery(&options, &mut report);
    }
    if options.wants("cost") {
        cost::measure(&options, &mut report);
    }
    println!("\nreport:");
    report.0.iter().for_each(|line| println!("{}", line.text()));
    std::process::exit(i32::from(!report.passed()));
}

fn recovery(options: &Options, report: &mut Report) {
    let work = Work::new(Broker::start(), &options.settings);
    let instance = |name: &str, more: &str| work.configure(name, more);
    let a = instance("a", "");
    work.apply_topics(&a);
    let watch = Watch::start(&work);
    let mut first = Child::start(&a);
    let idle = first.resident_mib();
    let since = Moment::now();
    load::preload(&work, options.customers);
    println!("{} customers written in {:.0} s", options.customers, since.elapsed_secs());
    let mut load = Load::start(&work, options.rate, options.customers);
    settle(&watch, &mut [&mut first]);
    let grown = first.resident_mib().saturating_sub(idle);
    println!("state after {:.0} s: {grown} MiB of resident growth", since.elapsed_secs());
    if options.wants("restart") {
        first = restart(options, report, &watch, &a, first);
    }
    if options.wants("rolling") {
        first = rolling(options, report, &watch, &a, first);
    }
    let mut first = Some(first);
    for (part, more, aim) in
        [("takeover", "", SESSION + 5.0), ("standby", "  standby_replicas: 1", SESSION + 2.0)]
    {
        if options.wants(part) {
            if let Some(first) = first.take() {
                first.terminate();
            }
            let configs = [instance("a", more), instance("b", more)];
            takeover(options, report, (part, aim), &watch, &configs);
        }
    }
    if let Some(first) = first {
        first.terminate();
    }
    load.stop();
}

/// Waits until the pipeline keeps up.
fn settle(watch: &Watch, running: &mut [&mut Child]) {
    let since = Moment::now();
    let mut good = Moment::now();
    while good.elapsed_secs() < 5.0 {
        std::thread::sleep(Duration::from_millis(100));
        running.iter_mut().for_each(|child| child.must_run());
        let lag = watch.lag();
        if lag.total() >= 1.0 {
            good = Moment::now();
        }
        assert!(since.elapsed_secs() < 1_800.0, "the pipeline does not keep up: {lag:?}");
    }
}

/// Seconds from `kill` until the lag is below a second and stays so.
fn recovered(watch: &Watch, kill: &Moment, running: &mut Child) -> f64 {
    let mut good: Option<f64> = None;
    let mut was_bad = false;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        running.must_run();
        let (lag, now) = (watch.lag().total(), kill.elapsed_secs());
        was_bad |= lag >= 1.0;
        if lag >= 1.0 {
            good = None;
        } else if was_bad {
            let since = *good.get_or_insert(now);
            if now - since > 2.0 {
                return since;
            }
        }
        if now > PATIENCE {
            println!("given up: {:?}", watch.lag());
            return now;
        }
    }
}

fn restart(
    options: &Options,
    report: &mut Report,
    watch: &Watch,
    config: &std::path::Path,
    mut running: Child,
) -> Child {
    let (mut worst, mut stood) = (0.0_f64, 0.0_f64);
    for round in 1..=options.rounds {
        settle(watch, &mut [&mut running]);
        watch.forget();
        let kill = Moment::now();
        running.kill();
        running = Child::start(config);
        let took = recovered(watch, &kill, &mut running);
        let standing = watch.stood();
        println!("restart {round}: {took:.2} s; committed readers stood {standing:.2} s");
        running.tell();
        (worst, stood) = (worst.max(took), stood.max(standing));
    }
    report.add("(a) kill -9, restarted at once", 5.0, worst, "s");
    report.add("(e) longest stand of a committed reader in (a)", 10.0, stood, "s");
    running
}

fn rolling(
    options: &Options,
    report: &mut Report,
    watch: &Watch,
    config: &std::path::Path,
    mut running: Child,
) -> Child {
    let mut worst = 0.0_f64;
    for round in 1..=options.rounds {
        settle(watch, &mut [&mut running]);
        watch.forget();
        let (since, term) = (Moment::now(), Moment::now());
        running.terminate();
        let ended = term.elapsed_secs();
        running = Child::start(config);
        recovered_or_quiet(watch, &since, &mut running);
        let pauses: BTreeMap<&str, f64> = watch.pauses();
        let most = pauses.values().copied().fold(0.0, f64::max);
        println!("rolling {round}: ended after {ended:.2} s, longest pause {pauses:.2?}");
        running.tell();
        worst = worst.max(most);
    }
    report.add("(d) SIGTERM and start: longest pause of a partition", 2.0, worst, "s");
    running
}

/// Ten seconds at least, and then until the lag is small.
fn recovered_or_quiet(watch: &Watch, since: &Moment, running: &mut Child) {
    while since.elapsed_secs() < 10.0 || watch.lag().total() >= 1.0 {
        std::thread::sleep(Duration::from_millis(100));
        running.must_run();
        assert!(since.elapsed_secs() < PATIENCE, "it does not come back: {:?}", watch.lag());
    }
}

fn takeover(
    options: &Options,
    report: &mut Report,
    (part, aim): (&str, f64),
    watch: &Watch,
    configs: &[std::path::PathBuf; 2],
) {
    let mut running = [Child::start(&configs[0]), Child::start(&configs[1])];
    let mut worst = 0.0_f64;
    for round in 1..=options.rounds {
        let [a, b] = &mut running;
        settle(watch, &mut [a, b]);
        // What is to be ready needs its time: a session, and a checkpoint or two.
        std::thread::sleep(Duration::from_secs(25));
        let [a, b] = &mut running;
        settle(watch, &mut [a, b]);
        let dies = round % 2;
        let kill = Moment::now();
        running[dies].kill();
        let took = recovered(watch, &kill, &mut running[1 - dies]);
        println!("{part} {round}: {took:.2} s");
        running[1 - dies].tell();
        worst = worst.max(took);
        running[dies] = Child::start(&configs[dies]);
    }
    let what = match part {
        "standby" => "(c) kill -9, another instance with a standby takes over",
        _ => "(b) kill -9, another instance takes over",
    };
    report.add(what, aim, worst, "s");
    // One of them has only just been started, and may not take signals yet.
    running.into_iter().for_each(drop);
}
