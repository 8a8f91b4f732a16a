//! The parts: what each of them measures, and what it needs before.
//!
//! Callgrind counts only within functions named `measured_…`, one per part, and all that they
//! call. Closures in them would have that in their names, too, and end the counting: so there are
//! none.

use crate::foreign;
use crate::traffic::{self, Canonical, PARTITION};
use std::collections::BTreeMap;
use std::hint::black_box;
use touchline::codec::canonical::{Decoded, JsonScratch, Schemas, decode_avro, decode_json};
use touchline::codec::checkpoint::{Framer, Unframer};
use touchline::codec::derived::{Encoding, Produce, encode};
use touchline::codec::flush;
use touchline::engine::state::{Checkpointed, Entry};
use touchline::engine::{Fold, Output};
use touchline::ingest::{CanonicalOut, SourceRecord, SourceTask};
use touchline::journey::{self, Journey};
use touchline::model::ids::Offset;
use touchline::model::time::EventTime;
use touchline::model::topic::Topic;
use touchline::rollup::{self, Rollup};

/// Records that are prepared, and then measured, at once.
const BATCH: usize = 1_000;
/// Batches of the parts without state, the first of which only warms up.
const STATELESS: usize = 9;
/// Batches of the folds: as many as bring them half an hour, so that sessions end and checkouts are
/// abandoned …
const WARM: usize = 16;
/// … and as many as are measured.
const MEASURED: usize = 8;
/// Batches between two checkpoints.
const CHECKPOINT: usize = 4;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    DecodeAvro,
    DecodeJson,
    MapJson,
    Journey,
    Encode,
    Rollup,
    EncodeRollup,
    Checkpoint,
    Restore,
    /// Adds up numbers: tells whether the program is optimised.
    Probe,
}

impl Part {
    /// All that are in the table, in its order.
    pub(crate) const ALL: [Part; 9] = [
        Part::DecodeAvro,
        Part::DecodeJson,
        Part::MapJson,
        Part::Journey,
        Part::Encode,
        Part::Rollup,
        Part::EncodeRollup,
        Part::Checkpoint,
        Part::Restore,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::DecodeAvro => "decode-avro",
            Part::DecodeJson => "decode-json",
            Part::MapJson => "map-json",
            Part::Journey => "journey",
            Part::Encode => "encode",
            Part::Rollup => "rollup",
            Part::EncodeRollup => "encode-rollup",
            Part::Checkpoint => "checkpoint",
            Part::Restore => "restore",
            Part::Probe => "probe",
        }
    }

    /// What the instructions are divided by.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Part::DecodeAvro | Part::DecodeJson | Part::MapJson => "record",
            Part::Journey | Part::Encode => "event",
            Part::Rollup | Part::EncodeRollup => "flush",
            Part::Checkpoint | Part::Restore => "entry",
            Part::Probe => "number",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }

    /// What is run to measure it: the folds come one behind the other, and are measured at once.
    pub(crate) const fn run(self) -> &'static str {
        match self {
            Part::DecodeAvro | Part::DecodeJson | Part::MapJson | Part::Probe => self.name(),
            _ => FOLDS,
        }
    }
}

/// Name of the run that measures all parts of the folds.
const FOLDS: &str = "folds";

/// How many units of each part were measured.
pub(crate) type Units = BTreeMap<&'static str, usize>;

/// Does one run.
pub(crate) fn run(name: &str) -> Units {
    let of = |part: Part, units| Units::from([(part.name(), units)]);
    match name {
        "decode-avro" => of(Part::DecodeAvro, decode_avro_part()),
        "decode-json" => of(Part::DecodeJson, decode_json_part()),
        "map-json" => of(Part::MapJson, map_json_part()),
        "probe" => {
            let numbers: Vec<u64> = (0..100_000).collect();
            black_box(measured_probe(black_box(&numbers)));
            of(Part::Probe, numbers.len())
        }
        FOLDS => folds_part(),
        other => panic!("there is no run {other}"),
    }
}

#[inline(never)]
fn measured_probe(numbers: &[u64]) -> u64 {
    let mut sum = 0_u64;
    for number in numbers {
        sum = sum.wrapping_add(*number);
    }
    sum
}

/// The first canonical records, as one of the encodings.
fn values(encoded: fn(&CanonicalOut) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut canonical = Canonical::new(&traffic::settings());
    let arrivals = traffic::arrivals(STATELESS * BATCH);
    arrivals.map(|(at, touchpoint)| encoded(&canonical.record(at, touchpoint))).collect()
}

fn decode_avro_part() -> usize {
    let (schemas, values) = (traffic::schemas(), values(traffic::avro));
    let (warm, rest) = values.split_at(BATCH);
    warm.iter().for_each(|value| drop(black_box(decode_avro(&schemas, value))));
    measured_decode_avro(&schemas, rest);
    rest.len()
}

#[inline(never)]
fn measured_decode_avro(schemas: &Schemas, values: &[Vec<u8>]) {
    for value in values {
        let decoded = decode_avro(schemas, value);
        assert!(black_box(&decoded).is_ok(), "canonical records can be decoded");
    }
}

fn decode_json_part() -> usize {
    let (mut scratch, values) = (JsonScratch::new(), values(traffic::json));
    let (warm, rest) = values.split_at(BATCH);
    for value in warm {
        drop(black_box(decode_json(value, &mut scratch)));
    }
    measured_decode_json(&mut scratch, rest);
    rest.len()
}

#[inline(never)]
fn measured_decode_json(scratch: &mut JsonScratch, values: &[Vec<u8>]) {
    for value in values {
        let decoded = decode_json(value, scratch);
        assert!(black_box(&decoded).is_ok(), "canonical records can be decoded");
    }
}

fn map_json_part() -> usize {
    let mut task = traffic::task(&traffic::settings(), "mapped");
    let arrivals = traffic::arrivals(STATELESS * BATCH);
    let records: Vec<(EventTime, Vec<u8>)> =
        arrivals.filter_map(|(at, touchpoint)| Some((at, foreign::json(&touchpoint)?))).collect();
    let records: Vec<SourceRecord<'_>> = (0..)
        .zip(&records)
        .map(|(offset, (at, payload))| traffic::source_record(offset, payload, *at))
        .collect();
    let mut out = Vec::new();
    let (warm, rest) = records.split_at(BATCH);
    for record in warm {
        task.on_record(record, &mut out);
    }
    assert_eq!(out.len(), warm.len(), "the shipped mapping knows what its shop writes");
    for batch in rest.chunks(BATCH) {
        out.clear();
        measured_map_json(&mut task, batch, &mut out);
        assert_eq!(out.len(), batch.len());
    }
    rest.len()
}

#[inline(never)]
fn measured_map_json(
    task: &mut SourceTask,
    records: &[SourceRecord<'_>],
    out: &mut Vec<CanonicalOut>,
) {
    for record in records {
        black_box(task.on_record(record, out));
    }
}

/// Both folds one behind the other, and what flows between them.
struct Folds {
    journey: Journey,
    rollup: Rollup,
    framer: Framer,
    /// What the folds have said since the last batch.
    said: Vec<Output>,
    produced: Vec<Produce>,
    entries: Vec<Entry>,
    units: Units,
}

/// Every part that needs the folds.
fn folds_part() -> Units {
    let settings = traffic::settings();
    let parts = traffic::parts(&settings);
    let make = || {
        let journey = Journey::new(parts.journey_settings(PARTITION, 1));
        (journey, parts.rollup_task(PARTITION, 1))
    };
    let (journey, rollup) = make();
    let mut folds = Folds {
        journey,
        rollup,
        framer: Framer::default(),
        said: Vec::new(),
        produced: Vec::new(),
        entries: Vec::new(),
        units: Units::new(),
    };
    let (schemas, mut canonical) = (traffic::schemas(), Canonical::new(&settings));
    let control = &canonical.mark();
    folds
        .journey
        .fold(journey::Input::Control { offset: Offset::new(0), control }, &mut folds.said);
    let mut arrivals = traffic::arrivals((WARM + MEASURED) * BATCH);
    for number in 0..WARM + MEASURED {
        let records: Vec<(Vec<u8>, Vec<u8>)> = arrivals
            .by_ref()
            .take(BATCH)
            .map(|(at, touchpoint)| canonical.record(at, touchpoint))
            .map(|record| (traffic::avro(&record), record.key))
            .collect();
        folds.batch(&schemas, &records, 1 + number * BATCH, number >= WARM);
    }
    let (journey, rollup) = make();
    folds.restore(journey, rollup);
    folds.units
}

impl Folds {
    /// Folds one batch, whose first record is at offset `first`.
    fn batch(
        &mut self,
        schemas: &Schemas,
        records: &[(Vec<u8>, Vec<u8>)],
        first: usize,
        measured: bool,
    ) {
        let decoded: Vec<Decoded<'_>> = records
            .iter()
            .map(|(value, _)| decode_avro(schemas, value).expect("it has just been encoded"))
            .collect();
        let inputs: Vec<journey::Input<'_>> = (first as i64..)
            .zip(records.iter().zip(&decoded))
            .filter_map(|(offset, ((value, key), decoded))| {
                let offset = Offset::new(offset);
                let Decoded::Touchpoint { origin, touchpoint } = decoded else { return None };
                Some(journey::Input::Touchpoint { offset, origin: *origin, touchpoint, key, value })
            })
            .collect();
        if measured {
            self.add(Part::Journey, inputs.len());
            self.add(Part::Encode, inputs.len());
            measured_journey(&mut self.journey, &inputs, &mut self.said);
            measured_encode(&mut self.said, &mut self.produced);
        } else {
            fold_journey(&mut self.journey, &inputs, &mut self.said);
            encode_all(&mut self.said, &mut self.produced);
        }
        let produced = self.produced.drain(..).filter(|p| p.topic == Topic::Rollup);
        let flushes: Vec<Vec<u8>> = produced.filter_map(|p| p.value).collect();
        if measured {
            self.add(Part::Rollup, flushes.len());
            self.add(Part::EncodeRollup, flushes.len());
            measured_rollup(&mut self.rollup, &flushes, &mut self.said);
            measured_encode_rollup(&mut self.said, &mut self.produced);
        } else {
            fold_rollup(&mut self.rollup, &flushes, &mut self.said);
            self.said.clear();
        }
        self.produced.clear();
        if (first / BATCH + 1).is_multiple_of(CHECKPOINT) {
            self.checkpoint(measured);
        }
    }

    fn add(&mut self, part: Part, units: usize) {
        *self.units.entry(part.name()).or_default() += units;
    }

    fn checkpoint(&mut self, measured: bool) {
        let mut frames = Vec::new();
        let Folds { journey, rollup, framer, entries, .. } = self;
        if measured {
            measured_checkpoint(journey, rollup, framer, entries, &mut frames);
            self.add(Part::Checkpoint, frames.len());
        } else {
            write_down(journey, rollup, framer, entries, &mut frames);
        }
    }

    /// Makes both folds again from everything that there is.
    fn restore(&mut self, mut journey: Journey, mut rollup: Rollup) {
        let mut unframer = Unframer::default();
        let pairs: [(&mut dyn Checkpointed, &mut dyn Checkpointed); 2] =
            [(&mut self.journey, &mut journey), (&mut self.rollup, &mut rollup)];
        for (old, new) in pairs {
            old.mark_all();
            old.take_dirty(&mut self.entries);
            let mut frames = Vec::new();
            for entry in &self.entries {
                // A tombstone is no state.
                let Some(value) = &entry.value else { continue };
                let mut frame = Vec::new();
                self.framer.entry(value, &mut frame);
                frames.push((entry.key.clone(), frame));
            }
            measured_restore(new, &mut unframer, &frames);
            new.mark_all();
            let mut again = Vec::new();
            new.take_dirty(&mut again);
            assert_eq!(again.len(), frames.len(), "all of it has been restored");
            *self.units.entry(Part::Restore.name()).or_default() += frames.len();
            self.entries.clear();
        }
    }
}

#[inline(always)]
fn fold_journey(journey: &mut Journey, inputs: &[journey::Input<'_>], said: &mut Vec<Output>) {
    for input in inputs {
        journey.fold(*input, said);
    }
}

#[inline(never)]
fn measured_journey(journey: &mut Journey, inputs: &[journey::Input<'_>], said: &mut Vec<Output>) {
    fold_journey(journey, inputs, said);
}

/// What is no fact is for the metrics.
#[inline(always)]
fn encode_all(said: &mut Vec<Output>, produced: &mut Vec<Produce>) {
    for output in said.drain(..) {
        if let Output::Fact(fact) = output {
            encode(&fact, &Encoding::Json, "touchline", produced);
        }
    }
}

#[inline(never)]
fn measured_encode(said: &mut Vec<Output>, produced: &mut Vec<Produce>) {
    encode_all(said, produced);
}

#[inline(never)]
fn measured_encode_rollup(said: &mut Vec<Output>, produced: &mut Vec<Produce>) {
    // Else the compiler finds it equal to the other one, and makes one function of both.
    black_box(&mut *said);
    encode_all(said, produced);
}

#[inline(always)]
fn fold_rollup(rollup: &mut Rollup, flushes: &[Vec<u8>], said: &mut Vec<Output>) {
    for bytes in flushes {
        let flush = flush::decode(bytes).expect("the journey's own flush");
        rollup.fold(rollup::Input::Flush(&flush), said);
    }
}

#[inline(never)]
fn measured_rollup(rollup: &mut Rollup, flushes: &[Vec<u8>], said: &mut Vec<Output>) {
    fold_rollup(rollup, flushes, said);
}

/// A frame per entry, none for a tombstone.
#[inline(always)]
fn write_down(
    journey: &mut Journey,
    rollup: &mut Rollup,
    framer: &mut Framer,
    entries: &mut Vec<Entry>,
    frames: &mut Vec<Option<Vec<u8>>>,
) {
    journey.take_dirty(entries);
    rollup.take_dirty(entries);
    for entry in entries.drain(..) {
        let Some(value) = &entry.value else {
            frames.push(None);
            continue;
        };
        let mut frame = Vec::with_capacity(value.len() + 16);
        framer.entry(value, &mut frame);
        frames.push(Some(frame));
    }
}

#[inline(never)]
fn measured_checkpoint(
    journey: &mut Journey,
    rollup: &mut Rollup,
    framer: &mut Framer,
    entries: &mut Vec<Entry>,
    frames: &mut Vec<Option<Vec<u8>>>,
) {
    write_down(journey, rollup, framer, entries, frames);
}

#[inline(never)]
fn measured_restore(
    fold: &mut dyn Checkpointed,
    unframer: &mut Unframer,
    frames: &[(Vec<u8>, Vec<u8>)],
) {
    for (key, frame) in frames {
        let value = unframer.entry(frame).expect("a frame of our own");
        fold.restore(key, Some(&value)).expect("an entry of our own");
    }
    fold.restored().expect("everything is there");
}
