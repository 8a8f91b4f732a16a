//! States of the two folds under generated traffic: torn apart and put together at any place, they
//! say what they would have said; and the bytes that stand in the log today can be read tomorrow.

use crate::checkpoint::{all, check};
use crate::offline::{plan, settings};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use std::path::PathBuf;
use touchline::app::parts::Parts;
use touchline::codec::checkpoint::{Framer, Unframer};
use touchline::engine::state::{Checkpointed, Entry};
use touchline::engine::{Fact, Fold, Output, Tick};
use touchline::generate::{Generator, Scenario};
use touchline::journey::{self, Journey};
use touchline::model::control::{Control, Mark};
use touchline::model::figures::Flush;
use touchline::model::ids::{Offset, PartitionId};
use touchline::model::time::Millis;
use touchline::model::touchpoint::{OriginRef, Touchpoint};
use touchline::rollup;

/// What arrives, as it arrives: out of order, twice, late.
fn traffic(scenario: Scenario, seed: u64, events: u64) -> Vec<Touchpoint> {
    let generator = Generator::new(plan(scenario, seed, events, 0.15));
    generator.filter_map(|emitted| emitted.payload.touchpoint().cloned()).collect()
}

/// How records reach the journey task.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// Without `ingest`, with ticks in between.
    Direct,
    /// From two partitions of a source, with marks of a third in between.
    Ingested,
}

/// The inputs of one journey task: touchpoints, now and then something else, and the end.
struct Inputs {
    touchpoints: Vec<Touchpoint>,
    way: Way,
}

/// Every so many touchpoints something else comes.
const OTHER_EVERY: usize = 50;

impl Inputs {
    fn len(&self) -> usize {
        self.touchpoints.len() + self.touchpoints.len() / OTHER_EVERY + 1
    }

    fn feed(&self, journey: &mut Journey, input: usize, out: &mut Vec<Output>) {
        let (round, place) = (input / (OTHER_EVERY + 1), input % (OTHER_EVERY + 1));
        let number = round * OTHER_EVERY + place;
        let offset = Offset::new(input as i64);
        if input + 1 == self.len() {
            journey.fold(journey::Input::Close, out);
        } else if place < OTHER_EVERY {
            let touchpoint = &self.touchpoints[number];
            let watermark = touchpoint.event_time.minus(Millis::from_secs(5));
            let partition = (number % 2) as i32;
            let origin = OriginRef { source: "shop", partition, offset: number as i64, watermark };
            journey.fold(
                journey::Input::Touchpoint {
                    offset,
                    origin: (self.way == Way::Ingested).then_some(origin),
                    touchpoint: &touchpoint.view(),
                    key: b"key",
                    value: b"{}",
                },
                out,
            );
        } else if self.way == Way::Direct {
            let advance = Millis::from_secs(7);
            journey.fold(journey::Input::Tick(Tick { number: round as u64 + 1, advance }), out);
        } else {
            let at = self.touchpoints[number - 1].event_time;
            let of = 3;
            let mark = Mark {
                source: "shop".into(),
                partition: 2,
                watermark: Some(at.minus(Millis::from_mins(10))),
                clock: Some(at),
                idle: round % 3 != 0,
                of,
            };
            let control = &Control::Mark(mark);
            journey.fold(journey::Input::Control { offset, control }, out);
        }
    }
}

fn flushes(out: &[Output]) -> Vec<Flush> {
    let flush = |output: &Output| match output {
        Output::Fact(Fact::Flush(_, flush)) => Some((**flush).clone()),
        _ => None,
    };
    out.iter().filter_map(flush).collect()
}

fn parts(way: Way) -> Parts {
    let mut parts = Parts::new(&settings());
    parts.set_direct(way == Way::Direct);
    parts.rollup_partitions = 1;
    parts
}

fn journey_settings(way: Way) -> journey::Settings {
    let of_one = parts(way).journey_settings(PartitionId::new(0), 1);
    journey::Settings { rollup_partitions: 1, ..of_one }
}

/// Both folds over one traffic, cut at these places.
fn check_both(inputs: &Inputs, settings: &journey::Settings, cuts: &[Index]) {
    let make = || Journey::new(settings.clone());
    let cuts_in = |n: usize| cuts.iter().map(|cut| cut.index(n)).collect::<Vec<usize>>();
    check(make, inputs.len(), &cuts_in(inputs.len()), |journey, input, out| {
        inputs.feed(journey, input, out);
    });
    let mut journey = make();
    let mut out = Vec::new();
    for input in 0..inputs.len() {
        inputs.feed(&mut journey, input, &mut out);
    }
    let flushes = flushes(&out);
    let make = || parts(inputs.way).rollup_task(PartitionId::new(0), 1);
    check(make, flushes.len(), &cuts_in(flushes.len()), |rollup, input, out| {
        rollup.fold(rollup::Input::Flush(&flushes[input]), out);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn both_folds_torn_apart_anywhere_say_the_same(
        seed in 1_u64..1_000,
        scenario in prop::sample::select(Scenario::ALL.to_vec()),
        direct in any::<bool>(),
        by_source in any::<bool>(),
        by_event in any::<bool>(),
        dimension_cap in prop_oneof![Just(4_usize), Just(1_000)],
        cuts in prop::collection::vec(any::<Index>(), 1..8),
    ) {
        let way = if direct { Way::Direct } else { Way::Ingested };
        let inputs = Inputs { touchpoints: traffic(scenario, seed, 1_500), way };
        let settings = journey::Settings {
            sessions_by_source: by_source,
            value_of_events: by_event,
            dimension_cap,
            // Small enough that events are trimmed, dropped and settled.
            dedup_ids: 4,
            allowed_lateness: Millis::from_mins(20),
            max_recovery: Millis::from_hours(2),
            ..journey_settings(way)
        };
        check_both(&inputs, &settings, &cuts);
    }
}

/// Set to write the fixtures anew, together with a new version of what changed.
const WRITE: &str = "TOUCHLINE_WRITE_FIXTURES";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Keys and framed values, each after its length.
fn write_fixture(name: &str, entries: &[Entry]) {
    let mut framer = Framer::default();
    let mut bytes = Vec::new();
    for entry in entries {
        let mut frame = Vec::new();
        framer.entry(entry.value.as_ref().unwrap(), &mut frame);
        for part in [&entry.key, &frame] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    std::fs::write(fixture(name), bytes).unwrap();
}

fn read_fixture(name: &str) -> Vec<Entry> {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let mut left = bytes.as_slice();
    let mut part = || {
        let (length, rest) = left.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        left = rest;
        Some(part)
    };
    let mut unframer = Unframer::default();
    let mut entries = Vec::new();
    while let Some(key) = part() {
        let value = unframer.entry(part().unwrap()).unwrap();
        entries.push(Entry { key: key.to_vec(), value: Some(value.into_owned()) });
    }
    entries
}

/// A state that was written by an earlier build can be read, and would be written the same.
fn check_fixture(name: &str, mut small: impl Checkpointed, mut empty: impl Checkpointed) {
    if std::env::var_os(WRITE).is_some() {
        write_fixture(name, &all(&mut small));
    }
    let entries = read_fixture(name);
    let tags: BTreeSet<u8> = entries.iter().map(|entry| entry.key[0]).collect();
    assert_eq!(tags, (1..=10).collect(), "every kind of entry is there");
    for entry in &entries {
        empty.restore(&entry.key, entry.value.as_deref()).unwrap();
    }
    empty.restored().unwrap();
    let now = all(&mut empty);
    for (entry, now) in entries.iter().zip(&now) {
        assert_eq!(entry, now, "the format has changed: raise its version, set {WRITE}");
    }
    assert_eq!(entries.len(), now.len());
}

#[test]
fn states_of_earlier_builds_can_be_read() {
    let way = Way::Ingested;
    let inputs = Inputs { touchpoints: traffic(Scenario::Spike, 1, 200), way };
    let settings = journey::Settings {
        allowed_lateness: Millis::from_mins(5),
        dedup_ids: 4,
        ..journey_settings(way)
    };
    let make = || Journey::new(settings.clone());
    let rollup = || parts(way).rollup_task(PartitionId::new(0), 1);
    let (mut journey, mut rolled) = (make(), rollup());
    let mut out = Vec::new();
    // In the midst of a slice, so that something waits for its end.
    for input in 0.. {
        out.clear();
        inputs.feed(&mut journey, input, &mut out);
        for flush in flushes(&out) {
            rolled.fold(rollup::Input::Flush(&flush), &mut Vec::new());
        }
        if input > 150 && out.is_empty() {
            break;
        }
    }
    check_fixture("journey-state-4.bin", journey, make());
    check_fixture("rollup-state-1.bin", rolled, rollup());
}

/// What one customer costs in the log; printed with `--nocapture`.
#[test]
fn a_customer_is_small() {
    let way = Way::Direct;
    let inputs = Inputs { touchpoints: traffic(Scenario::Shop, 3, 4_000), way };
    let mut journey = Journey::new(journey_settings(way));
    for input in 0..inputs.len() - 1 {
        inputs.feed(&mut journey, input, &mut Vec::new());
    }
    let entries = all(&mut journey);
    let customers: Vec<&Entry> = entries.iter().filter(|entry| entry.key[0] == 10).collect();
    assert_eq!(customers.len(), journey.customers());
    let mut framer = Framer::default();
    let (mut raw, mut framed) = (0, Vec::new());
    for entry in &customers {
        let value = entry.value.as_ref().unwrap();
        raw += value.len();
        framer.entry(value, &mut framed);
    }
    let per = |bytes: usize| bytes / customers.len();
    println!(
        "{} customers, {} bytes each, {} framed",
        customers.len(),
        per(raw),
        per(framed.len())
    );
    assert!(per(raw) < 400, "{} bytes", per(raw));
}
