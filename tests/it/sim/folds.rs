//! Two small folds, shaped like the real ones: the first keeps state and timers per key, ticks, and
//! flushes cells by slice with numbers without gaps; the second applies cells when their step is due,
//! and says windows and alerts. Small enough to see through, and every rule of the real ones in them.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use touchline::codec::inputs::Taken;
use touchline::engine::mutation::Mutation;
use touchline::engine::state::{Checkpointed, Entry, StateError, decode, encode};
use touchline::kafka::{OutRecord, Produced, Record, Task, TaskError};
use touchline::model::ids::PartitionId;
use touchline::model::time::Millis;

pub(crate) const FACTS: &str = "facts";
pub(crate) const REPARTITION: &str = "repartition";
pub(crate) const WINDOWS: &str = "windows";
pub(crate) const ALERTS: &str = "alerts";
/// Milliseconds of event time.
pub(crate) const SLICE: i64 = 1_000;
const PATIENCE: i64 = 2_500;
const ALERT_FROM: u64 = 4;
const IDLE: i64 = 900;

/// A record of the first input.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) amount: u64,
}

/// What the first fold hands to the second.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Flush {
    pub(crate) generation: u64,
    pub(crate) number: u64,
    pub(crate) partition: i32,
    pub(crate) clock: i64,
    /// Slice, step in which it is due, amount.
    pub(crate) cells: Vec<(i64, i64, u64)>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct Visitor {
    count: u64,
    sum: u64,
    due: Option<i64>,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct Place {
    clock: i64,
    flush: u64,
    side_input: u64,
    flushed: i64,
    /// By slice and due.
    cells: BTreeMap<(i64, i64), u64>,
}

/// The first fold.
pub(crate) struct Visits {
    partition: PartitionId,
    generation: u64,
    rollups: i32,
    /// What the configuration says.
    factor: u64,
    place: Place,
    visitors: BTreeMap<Vec<u8>, Visitor>,
    timers: BTreeSet<(i64, Vec<u8>)>,
    dirty: BTreeSet<Vec<u8>>,
    dirty_place: bool,
    ticked: Millis,
    topics: (Arc<str>, Arc<str>),
}

impl Visits {
    pub(crate) fn new(
        partition: PartitionId,
        generation: u64,
        rollups: i32,
        factor: u64,
    ) -> Visits {
        Visits {
            partition,
            generation,
            rollups,
            factor,
            place: Place::default(),
            visitors: BTreeMap::new(),
            timers: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dirty_place: true,
            ticked: Millis::ZERO,
            topics: (FACTS.into(), REPARTITION.into()),
        }
    }

    fn say(&self, out: &mut Produced, key: &[u8], what: String) {
        out.records.push(OutRecord::new(&self.topics.0, key.to_vec(), Some(what.into_bytes())));
    }

    /// Moves the clock and fires what is due, in order.
    fn advance(&mut self, to: i64, id: &str, out: &mut Produced) {
        self.place.clock = self.place.clock.max(to);
        let mut due: Vec<(i64, Vec<u8>)> = Vec::new();
        while self.timers.first().is_some_and(|(at, _)| *at <= self.place.clock) {
            due.extend(self.timers.pop_first());
        }
        if Mutation::TimersInHashOrder.is_on() {
            due.sort_by_key(|(_, key)| touchline::codec::murmur2::murmur2(key));
        }
        for (ordinal, (at, key)) in due.into_iter().enumerate() {
            let visitor = self.visitors.get_mut(&key).expect("a timer has its visitor");
            visitor.due = None;
            let (count, sum) = (visitor.count, visitor.sum);
            self.say(out, &key, format!("gone {at} {count} {sum} {id}/{ordinal}"));
            // Every third is forgotten: a tombstone.
            if count % 3 == 0 {
                self.visitors.remove(&key);
            }
            self.dirty.insert(key);
        }
    }

    fn flush(&mut self, out: &mut Produced) {
        self.place.flush += 1;
        self.place.flushed = self.place.clock / SLICE;
        let cells: Vec<((i64, i64), u64)> =
            std::mem::take(&mut self.place.cells).into_iter().collect();
        for to in 0..self.rollups {
            let of = |slice: i64| slice.rem_euclid(i64::from(self.rollups)) == i64::from(to);
            let cells = cells.iter().filter(|((slice, _), _)| of(*slice));
            let flush = Flush {
                generation: self.generation,
                number: self.place.flush,
                partition: self.partition.get(),
                clock: self.place.clock,
                cells: cells.map(|((slice, due), sum)| (*slice, *due, *sum)).collect(),
            };
            let mut record = OutRecord::new(
                &self.topics.1,
                self.partition.get().to_be_bytes().to_vec(),
                Some(encode(1, &flush)),
            );
            record.partition = Some(PartitionId::new(to));
            out.records.push(record);
        }
        out.urgent = true;
    }

    fn flush_if_due(&mut self, out: &mut Produced) {
        if self.place.clock / SLICE > self.place.flushed {
            self.flush(out);
        }
    }
}

impl Task for Visits {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        self.ticked = Millis::ZERO;
        let event: Event = decode("event", 1, record.value.unwrap_or_default())
            .map_err(|e| TaskError::Fatal(e.to_string()))?;
        let key = record.key.unwrap_or_default().to_vec();
        let id = format!("{}/{}", self.partition, record.offset);
        self.dirty_place = true;
        self.advance(event.at, &id, out);
        let visitor = self.visitors.entry(key.clone()).or_default();
        visitor.count += 1;
        visitor.sum += event.amount * self.factor;
        if let Some(due) = visitor.due.replace(event.at + PATIENCE) {
            self.timers.remove(&(due, key.clone()));
        }
        self.timers.insert((event.at + PATIENCE, key.clone()));
        let Visitor { count, sum, .. } = *visitor;
        self.say(out, &key, format!("seen {} {count} {sum} {id}", event.at));
        self.dirty.insert(key);
        let slice = event.at / SLICE;
        let due = slice.max(self.place.clock / SLICE);
        *self.place.cells.entry((slice, due)).or_default() += event.amount * self.factor;
        self.flush_if_due(out);
        Ok(())
    }

    fn idle(
        &mut self,
        waited: Millis,
        caught_up: bool,
        out: &mut Produced,
    ) -> Result<(), TaskError> {
        if !caught_up || waited.as_ms() - self.ticked.as_ms() < IDLE || self.place.clock == 0 {
            return Ok(());
        }
        let advance = waited.as_ms() - self.ticked.as_ms();
        self.ticked = waited;
        self.place.side_input += 1;
        out.side_input = Some(Taken::Tick { advance: Millis::from_ms(advance) });
        self.dirty_place = true;
        let id = format!("{} tick {}", self.partition, self.place.side_input);
        self.advance(self.place.clock + advance, &id, out);
        self.flush(out);
        Ok(())
    }

    fn seal(&mut self, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        Some(self)
    }

    fn side_inputs(&self) -> u64 {
        self.place.side_input
    }
}

fn key(tag: u8, rest: &[u8]) -> Vec<u8> {
    [&[tag], rest].concat()
}

impl Checkpointed for Visits {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        if std::mem::take(&mut self.dirty_place) {
            out.push(Entry { key: vec![1], value: Some(encode(1, &self.place)) });
        }
        for name in std::mem::take(&mut self.dirty) {
            let value = self.visitors.get(&name).map(|visitor| encode(1, visitor));
            out.push(Entry { key: key(2, &name), value });
        }
    }

    fn mark_all(&mut self) {
        self.dirty_place = true;
        self.dirty.extend(self.visitors.keys().cloned());
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        match (key, value) {
            ([1], Some(value)) => self.place = decode("place", 1, value)?,
            ([2, name @ ..], Some(value)) => {
                self.visitors.insert(name.to_vec(), decode("visitor", 1, value)?);
            }
            ([2, name @ ..], None) => {
                self.visitors.remove(name);
            }
            _ => return Err(StateError::Key(key.escape_ascii().to_string())),
        }
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        self.dirty.clear();
        self.dirty_place = false;
        let due = |(name, v): (&Vec<u8>, &Visitor)| Some((v.due?, name.clone()));
        self.timers = self.visitors.iter().filter_map(due).collect();
        Ok(())
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
struct Head {
    applied: i64,
    /// By source partition: last number, clock.
    sources: BTreeMap<i32, (u64, i64)>,
    /// By due and slice.
    waiting: BTreeMap<(i64, i64), u64>,
}

/// The second fold.
pub(crate) struct Totals {
    partition: PartitionId,
    generation: u64,
    sources: usize,
    head: Head,
    /// By slice: amount, revision.
    windows: BTreeMap<i64, (u64, u32)>,
    dirty: BTreeSet<i64>,
    dirty_head: bool,
    topics: (Arc<str>, Arc<str>),
}

impl Totals {
    pub(crate) fn new(partition: PartitionId, generation: u64, sources: usize) -> Totals {
        Totals {
            partition,
            generation,
            sources,
            head: Head::default(),
            windows: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_head: true,
            topics: (WINDOWS.into(), ALERTS.into()),
        }
    }

    fn apply(&mut self, upto: i64, out: &mut Produced) {
        while self.head.applied < upto {
            let step = self.head.applied;
            let later = self.head.waiting.split_off(&(step + 1, i64::MIN));
            let due = std::mem::replace(&mut self.head.waiting, later);
            let mut touched = BTreeSet::new();
            for ((_, slice), amount) in due {
                self.windows.entry(slice).or_default().0 += amount;
                touched.insert(slice);
            }
            for slice in touched {
                let (amount, revision) = self.windows.get_mut(&slice).expect("touched above");
                *revision += 1;
                let text = format!("{} {slice} {amount} r{revision} at {step}", self.partition);
                let is_alert = *amount >= ALERT_FROM;
                let key = slice.to_be_bytes().to_vec();
                let value = Some(text.into_bytes());
                let mut record = OutRecord::new(&self.topics.0, key, value);
                out.records.push(record.clone());
                if is_alert {
                    record.topic = self.topics.1.clone();
                    out.records.push(record);
                    out.urgent = true;
                }
                self.dirty.insert(slice);
            }
            self.head.applied = if self.head.waiting.is_empty() {
                upto
            } else {
                let first = self.head.waiting.keys().next().expect("not empty");
                first.0.max(step + 1).min(upto)
            };
        }
        // Long final: forgotten.
        let old = self.head.applied - 40;
        while let Some((slice, _)) = self.windows.first_key_value().filter(|(s, _)| **s < old) {
            let slice = *slice;
            self.windows.remove(&slice);
            self.dirty.insert(slice);
        }
    }
}

impl Task for Totals {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        let flush: Flush = decode("flush", 1, record.value.unwrap_or_default())
            .map_err(|e| TaskError::Fatal(e.to_string()))?;
        if flush.generation != self.generation && !Mutation::GenerationIgnored.is_on() {
            return Err(TaskError::Fatal(format!("foreign generation {}", flush.generation)));
        }
        let last = self.head.sources.entry(flush.partition).or_default();
        if flush.number > last.0 + 1 && !Mutation::GenerationIgnored.is_on() {
            return Err(TaskError::Fatal(format!("gap: {} follows {}", flush.number, last.0)));
        }
        if flush.number <= last.0 && !Mutation::FlushNumberIgnored.is_on() {
            return Ok(());
        }
        *last = (flush.number.max(last.0), flush.clock.max(last.1));
        self.dirty_head = true;
        for (slice, due, amount) in flush.cells {
            // Past its step: due now.
            let due = due.max(self.head.applied);
            *self.head.waiting.entry((due, slice)).or_default() += amount;
        }
        let clock = self.head.sources.values().map(|(_, clock)| *clock).min().unwrap_or_default();
        if Mutation::CellsAtArrival.is_on() {
            self.apply(flush.clock / SLICE + 1, out);
        } else if self.head.sources.len() == self.sources {
            self.apply(clock / SLICE, out);
        }
        Ok(())
    }

    fn idle(&mut self, _: Millis, _: bool, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }

    fn seal(&mut self, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        Some(self)
    }
}

impl Checkpointed for Totals {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        if std::mem::take(&mut self.dirty_head) {
            out.push(Entry { key: vec![1], value: Some(encode(1, &self.head)) });
        }
        for slice in std::mem::take(&mut self.dirty) {
            let value = self.windows.get(&slice).map(|window| encode(1, window));
            out.push(Entry { key: key(2, &slice.to_be_bytes()), value });
        }
    }

    fn mark_all(&mut self) {
        self.dirty_head = true;
        self.dirty.extend(self.windows.keys());
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let wrong = || StateError::Key(key.escape_ascii().to_string());
        match (key, value) {
            ([1], Some(value)) => self.head = decode("head", 1, value)?,
            ([2, slice @ ..], value) => {
                let slice = i64::from_be_bytes(slice.try_into().map_err(|_| wrong())?);
                match value {
                    Some(value) => {
                        self.windows.insert(slice, decode("window", 1, value)?);
                    }
                    None => {
                        self.windows.remove(&slice);
                    }
                }
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        self.dirty.clear();
        self.dirty_head = false;
        Ok(())
    }
}
