//! What exactly once costs against at least once on the same input, and what state costs in bytes.

use super::broker::Broker;
use super::process::{SOURCE, Work, command};
use super::{Options, Report};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use touchline::app::generate::record;
use touchline::clock;
use touchline::generate::{Generator, Plan, Scenario};
use touchline::kafka::reader::{Go, Tail, Tailed};
use touchline::kafka::writer::Writer;
use touchline::kafka::{Connection, Source, Start};
use touchline::model::time::{EventTime, Millis};

struct Run {
    cpu: f64,
    wall: f64,
}

/// Runs take turns, so that whatever else the machine does meets all of them.
const WAYS: [(&str, &str); 3] = [
    ("least", "  mode: at_least_once"),
    ("ms100", "  commit_interval: 100ms"),
    ("s1", "  commit_interval: 1s"),
];

pub(crate) fn measure(options: &Options, report: &mut Report) {
    let work = Work::new(Broker::start(), &options.settings);
    let input = write(&work, options.events);
    println!("{} records, {input} bytes of standard traffic", options.events);
    let mut runs: [Vec<Run>; 3] = Default::default();
    let mut changelogs = 0;
    for round in 1..=options.rounds.min(3) {
        for ((name, lines), runs) in WAYS.iter().zip(&mut runs) {
            let app = format!("{name}-{round}");
            let config = work.configure_app(&app, "bench", lines);
            work.apply_topics(&config);
            let run = run(&work, &config);
            println!("{name} {round}: {:.2} CPU-s, {:.2} s", run.cpu, run.wall);
            runs.push(run);
            if *name == "s1" && round == 1 {
                let topics = ["journey", "rollup"].map(|role| format!("{app}.{role}.changelog"));
                changelogs = bytes(&work.connection(), &topics);
            }
        }
    }
    let median = |of: &[Run], f: fn(&Run) -> f64| {
        let mut all: Vec<f64> = of.iter().map(f).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let [least, rest @ ..] = &runs;
    for ((what, aim), of) in [("100 ms", 10.0), ("1 s", 5.0)].iter().zip(rest) {
        let more = |f: fn(&Run) -> f64| (median(of, f) / median(least, f) - 1.0) * 100.0;
        report.add(
            &format!("CPU of exactly once at {what}, more than at least once"),
            *aim,
            more(|run| run.cpu),
            "%",
        );
        println!("      wall of exactly once at {what}: {:+.1} %", more(|run| run.wall));
    }
    println!("      changelogs: {:.3} bytes per byte of input", changelogs as f64 / input as f64);
}

fn write(work: &Work, events: u64) -> u64 {
    let mut plan = Plan::new(Scenario::Shop, 1);
    plan.events = Some(events);
    // As if it had just happened; how long it takes depends on the time of day.
    let hours = (events as f64 / plan.rate / 3_600.0).ceil() as i64 * 2 + 24;
    plan = plan.starting(EventTime::from_ms(clock::now().as_ms()).minus(Millis::from_hours(hours)));
    let writer = Writer::new(&work.connection(), 16 << 20).expect("a writer");
    let topic: Arc<str> = SOURCE.into();
    let mut bytes = 0;
    for emitted in Generator::new(plan) {
        let record = record(&topic, &emitted.payload);
        bytes += record.len() as u64;
        writer.send(&record).expect("the broker takes it");
    }
    writer.flush(Millis::from_mins(5)).expect("the broker takes everything");
    bytes
}

fn run(work: &Work, config: &Path) -> Run {
    let summary = work.path("summary.json");
    let status = command()
        .args([Path::new("run"), Path::new("--stop-at-end"), Path::new("--summary"), &summary])
        .args([Path::new("--config"), config])
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("the program is there").success(), "a run to the end");
    let text = std::fs::read_to_string(summary).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |name: &str| summary[name].as_f64().unwrap_or(0.0);
    Run { cpu: number("cpu_s"), wall: number("elapsed_s") }
}

/// Bytes of keys and values of all that was ever written to `topics` and is still there.
fn bytes(connection: &Connection, topics: &[String]) -> u64 {
    let sources: Vec<Source> =
        topics.iter().map(|topic| Source::new(topic, Start::Earliest)).collect();
    let all: usize = topics
        .iter()
        .map(|topic| {
            touchline::kafka::client::end_offsets(connection, topic).map_or(0, |e| e.len())
        })
        .sum();
    let (sum, mut ended) = (Arc::new(std::sync::Mutex::new(0_u64)), Vec::new());
    let kept = sum.clone();
    let tail = Tail::start("bytes", connection, &sources, move |tailed| match tailed {
        Tailed::Record(record) => {
            let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
            *kept.lock().expect("no panic while held") += length(record.key) + length(record.value);
            Go::On
        }
        Tailed::End { topic, partition, .. } => {
            let at = (topic.to_owned(), partition);
            if !ended.contains(&at) {
                ended.push(at);
            }
            if ended.len() == all { Go::Stop } else { Go::On }
        }
    });
    tail.expect("a reader").join().expect("read to its end");
    let sum = sum.lock().expect("no panic while held");
    *sum
}
