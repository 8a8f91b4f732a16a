//! Recordings with side inputs and an order of flushes: applied where they were taken, whatever the order
//! of the files, and refused where they do not belong together.

use crate::offline::{assert_same, lines};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use touchline::app::replay::{Options, replay};
use touchline::codec::flush;
use touchline::codec::inputs::{InForce, SideInput, Taken};
use touchline::codec::recorded::{RecordedLine, write_line};
use touchline::config::Settings;
use touchline::model::figures::Flush;
use touchline::model::ids::{NextOffset, Offset, PartitionId};
use touchline::model::time::Millis;

/// A multiple of every window.
const BASE: i64 = 1_772_431_200_000;
const MINUTE: i64 = 60_000;

fn settings() -> Settings {
    let yaml = "app: {name: shop}\ningest: direct\n\
                sources: {web: {topic: in, format: canonical_json, start: earliest}}\n";
    Settings::from_yaml_str("test", yaml, BTreeMap::new()).unwrap()
}

fn line(topic: &str, partition: i32, offset: i64, value: Vec<u8>) -> RecordedLine {
    RecordedLine {
        topic: topic.to_owned(),
        partition: PartitionId::new(partition),
        offset: Offset::new(offset),
        timestamp: BASE,
        key: None,
        headers: Vec::new(),
        value: Some(value),
    }
}

/// A customer is seen at a minute.
fn seen(offset: i64, customer: &str, minute: i64) -> RecordedLine {
    let value = format!(
        r#"{{"id":"{offset}","source":"web","event_time":{},"customer_id":"{customer}",
            "channel":"web","touchpoint":"page","action":"view"}}"#,
        BASE + minute * MINUTE
    );
    line("in", 0, offset, value.replace('\n', "").into_bytes())
}

fn taken(topic: &str, offset: i64, number: u64, next: i64, taken: Taken) -> RecordedLine {
    let input = SideInput { number, next: NextOffset::new(next), taken };
    line(topic, 0, offset, input.to_json())
}

fn tick(number: u64, next: i64, minutes: i64) -> RecordedLine {
    let advance = Millis::from_ms(minutes * MINUTE);
    taken("shop.journey.inputs", number as i64, number, next, Taken::Tick { advance })
}

fn turn(offset: i64, number: u64) -> RecordedLine {
    let flush = Flush {
        generation: 1,
        number,
        partition: 0,
        partitions: 1,
        clock: None,
        watermark: None,
        idle: false,
        closed: false,
        tenants: Vec::new(),
    };
    let mut value = Vec::new();
    flush::encode(&flush, &mut value);
    line("shop.rollup.repartition", 0, offset, value)
}

/// Replays files of these lines; where what comes out is, or why nothing does.
fn replayed(dir: &Path, name: &str, files: &[&[RecordedLine]]) -> Result<PathBuf, String> {
    let mut inputs = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let mut text = Vec::new();
        file.iter().for_each(|line| write_line(line, &mut text));
        inputs.push(dir.join(format!("{name}-{number}.jsonl")));
        std::fs::write(&inputs[number], text).unwrap();
    }
    let out = dir.join(name);
    let (partitions, final_only, source, close) = (1, false, None, false);
    let options = Options { inputs, out: out.clone(), partitions, final_only, source, close };
    let done = replay(&settings(), &options).map_err(|error| format!("{error:#}"));
    done.map(|_| out)
}

#[test]
fn side_inputs_are_applied_where_they_were_taken() {
    let dir = TempDir::new().unwrap();
    // The offsets between are of markers.
    let log = [seen(0, "anna", 0), seen(5, "bert", 20), seen(9, "cleo", 21)];
    let sessions = |name: &str, files: &[&[RecordedLine]]| {
        let out = replayed(dir.path(), name, files).unwrap();
        lines(&out.join("journeys.sessions.jsonl"))
    };
    let ended = |name: &str, ticks: &[RecordedLine]| -> Vec<String> {
        let found = sessions(name, &[&log, ticks]).into_iter().map(|line| {
            let session: serde_json::Value = serde_json::from_str(&line).unwrap();
            session["customer"].as_str().unwrap().to_owned()
        });
        found.collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(ended("none", &[]), none);
    // Anna's session ends after 30 minutes: at the tick, and at the one that passes its end.
    assert_eq!(ended("short", &[tick(1, 1, 29)]), none);
    assert_eq!(ended("early", &[tick(1, 1, 31)]), ["anna"]);
    assert_eq!(ended("twice", &[tick(1, 10, 9), tick(2, 10, 1)]), ["anna"]);
    assert_eq!(ended("all", &[tick(1, 10, 31)]), ["anna", "bert", "cleo"]);
    // Between two records, anywhere between their offsets.
    let one = replayed(dir.path(), "one", &[&log, &[tick(1, 6, 31)]]).unwrap();
    let other = replayed(dir.path(), "other", &[&[tick(1, 9, 31)], &log]).unwrap();
    assert_same(&one, &other);
    assert_ne!(
        sessions("one", &[&log, &[tick(1, 6, 31)]]),
        sessions("all", &[&log, &[tick(1, 10, 31)]])
    );
}

#[test]
fn what_was_sealed_is_sealed_there_and_nowhere_else() {
    let dir = TempDir::new().unwrap();
    let log = [seen(0, "anna", 0), seen(1, "bert", 1)];
    let seal =
        |offset, number, next| taken("shop.journey.inputs", offset, number, next, Taken::Seal);
    let flushes = |name: &str, inputs: &[RecordedLine], turns: &[RecordedLine]| {
        replayed(dir.path(), name, &[&log, inputs, turns]).map(|_| ())
    };
    let turns =
        |upto: u64| -> Vec<RecordedLine> { (1..=upto).map(|n| turn(n as i64, n)).collect() };
    let two = [seal(0, 1, 1), seal(1, 2, 2)];
    // Each record ends a slice, each seal is a flush.
    assert_eq!(flushes("all", &two, &turns(4)), Ok(()));
    let check = |inputs: &[RecordedLine], last: u64| {
        let missing = flushes("missing", inputs, &turns(last)).unwrap_err();
        let named = format!("flush {last} of journey partition 0 to 0 is recorded");
        assert!(missing.starts_with(&named), "{missing}");
    };
    check(&two, 5);
    check(&two[..1], 4);
    // With nothing said of the end, it is sealed.
    assert_eq!(flushes("none", &[], &turns(3)), Ok(()));
    check(&[], 4);
}

#[test]
fn what_does_not_belong_together_is_refused_by_place() {
    let dir = TempDir::new().unwrap();
    let log = [seen(0, "anna", 0), seen(5, "bert", 20)];
    #[track_caller]
    fn check(dir: &Path, log: &[RecordedLine], inputs: &[RecordedLine], part: &str) {
        let said = replayed(dir, "refused", &[log, inputs]).unwrap_err();
        assert!(said.contains(part), "{said}");
    }
    let check = |inputs: &[RecordedLine], part: &str| check(dir.path(), &log, inputs, part);
    check(&[tick(2, 1, 1)], "shop.journey.inputs/0 offset 2: side input 2 follows 0");
    check(&[tick(1, 1, 1), tick(3, 1, 1)], "side input 3 follows 1");
    check(&[tick(1, 1, 1), tick(1, 1, 1)], "side input 1 follows 1");
    check(&[tick(1, 5, 1), tick(2, 1, 1)], "side input 2 follows 1");
    let other = taken("other.journey.inputs", 0, 1, 1, Taken::Seal);
    check(&[other], "is of another application than shop.journey.inputs");
    let other = line("other.rollup.repartition", 0, 0, Vec::new());
    check(&[other], "is of another application than shop.rollup.repartition");
    check(&[line("shop.journey.inputs", 0, 7, b"{}".to_vec())], "shop.journey.inputs/0 offset 7");
    let switch = Taken::Switch { from: InForce::new(1, 2), to: InForce::new(1, 3) };
    check(
        &[taken("shop.rollup.inputs", 4, 0, 33, switch)],
        "shop.rollup.inputs/0 offset 4: at offset 33 of its input shop.rollup was switched",
    );
}
