//! The folds without Kafka: every journey partition and every rollup partition in one thread.
//!
//! What a flush of a journey partition says is folded by its rollup partition at once. Since no result
//! of `rollup` depends on how journey partitions interleave, this gives what the workers publish.
//!
//! There is one exception: a journey partition that was idle, was left behind by the others for it, and
//! wakes. What it says then is due at once, and when that was only the order of the flushes tells. Who
//! has it gives it ([`Offline::in_order`]); flushes then wait for their turn.

use super::parts::Parts;
use super::summary::{Summary, Totals};
use crate::engine::{Fact, Fold, Output, Tick};
use crate::journey::{self, Journey};
use crate::model::control::Control;
use crate::model::figures::Flush;
use crate::model::ids::{Offset, PartitionId};
use crate::model::touchpoint::{OriginRef, TouchpointRef};
use crate::rollup::{self, Rollup};
use std::collections::{BTreeMap, VecDeque};

/// Takes the facts in the order in which they are decided; flushes are not among them.
pub type Sink<'s> = &'s mut dyn FnMut(Fact);

/// One canonical record, where it stands and as it came.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the parts of a record")]
pub struct Recorded<'a> {
    pub partition: i32,
    pub offset: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Journey partition and number of a flush.
pub type FlushName = (i32, u64);

/// Flushes to one rollup partition, in the order in which they came.
#[derive(Default)]
struct Turns {
    next: VecDeque<FlushName>,
    waiting: BTreeMap<FlushName, Flush>,
}

/// The whole pipeline behind `touchpoints.canonical`.
pub struct Offline {
    journeys: Vec<Journey>,
    rollups: Vec<Rollup>,
    /// By rollup partition, if the order of flushes is known.
    turns: Option<Vec<Turns>>,
    totals: Totals,
    /// Reused between inputs.
    journey_out: Vec<Output>,
    rollup_out: Vec<Output>,
}

impl Offline {
    /// Starts with empty state and `journey_partitions` partitions of the canonical topic.
    pub fn new(parts: &Parts, journey_partitions: i32) -> Offline {
        let journeys = (0..journey_partitions)
            .map(|p| Journey::new(parts.journey_settings(PartitionId::new(p), journey_partitions)));
        let rollups = (0..parts.rollup_partitions)
            .map(|p| parts.rollup_task(PartitionId::new(p), journey_partitions));
        Offline {
            journeys: journeys.collect(),
            rollups: rollups.collect(),
            turns: None,
            totals: Totals::default(),
            journey_out: Vec::new(),
            rollup_out: Vec::new(),
        }
    }

    /// Says in which order the flushes came, by rollup partition.
    pub fn in_order(&mut self, mut order: BTreeMap<i32, Vec<FlushName>>) {
        let partitions = 0..i32::try_from(self.rollups.len()).expect("partition counts are small");
        let turns = partitions.map(|partition| Turns {
            next: order.remove(&partition).unwrap_or_default().into(),
            waiting: BTreeMap::new(),
        });
        self.turns = Some(turns.collect());
    }

    /// The input is at its end: what is in no order comes last.
    ///
    /// # Errors
    /// The rollup partition, and the flush of which it is known when it came, but that never came.
    pub fn end_order(&mut self, sink: Sink<'_>) -> Result<(), (i32, FlushName)> {
        let Some(turns) = self.turns.take() else { return Ok(()) };
        for (partition, mut turns) in (0..).zip(turns) {
            if let Some(missing) = turns.next.pop_front() {
                return Err((partition, missing));
            }
            for flush in turns.waiting.values() {
                self.roll_up(PartitionId::new(partition), flush, sink);
            }
        }
        Ok(())
    }

    /// The summary, once the input is at its end ([`Offline::close`] or [`Offline::flush`]).
    pub fn summary(&mut self, elapsed_s: f64) -> Summary {
        for (partition, rollup) in (0..).zip(&self.rollups) {
            self.totals.seal_rollup(PartitionId::new(partition), rollup.waiting());
        }
        self.totals.summary(elapsed_s)
    }

    /// What has been counted so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What has been counted so far, for those who count what comes before canonical.
    pub fn totals_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }

    /// How many partitions the canonical topic has.
    pub fn partitions(&self) -> i32 {
        i32::try_from(self.journeys.len()).expect("partition counts are small")
    }

    /// Folds one touchpoint.
    pub fn touchpoint(
        &mut self,
        record: Recorded<'_>,
        origin: Option<OriginRef<'_>>,
        touchpoint: &TouchpointRef<'_>,
        sink: Sink<'_>,
    ) {
        let offset = Offset::new(record.offset);
        let (key, value) = (record.key, record.value);
        let input = journey::Input::Touchpoint { offset, origin, touchpoint, key, value };
        self.fold(record.partition, input, sink);
    }

    /// Folds one control record.
    pub fn control(&mut self, partition: i32, offset: i64, control: &Control, sink: Sink<'_>) {
        let offset = Offset::new(offset);
        self.fold(partition, journey::Input::Control { offset, control }, sink);
    }

    /// Lets time pass in one partition.
    pub fn tick(&mut self, partition: i32, tick: Tick, sink: Sink<'_>) {
        self.fold(partition, journey::Input::Tick(tick), sink);
    }

    /// Moves clock and watermark past everything, so that every window, session and checkout is decided.
    pub fn close(&mut self, sink: Sink<'_>) {
        for partition in 0..self.partitions() {
            self.fold(partition, journey::Input::Close, sink);
        }
    }

    /// Has every partition say what it has not said yet; no time passes.
    pub fn flush(&mut self, sink: Sink<'_>) {
        for partition in 0..self.partitions() {
            let at = usize::try_from(partition).expect("partitions are not negative");
            let number = self.journeys[at].last_side_input() + 1;
            self.seal(partition, number, sink);
        }
    }

    /// Has one partition say what it has not said yet.
    pub fn seal(&mut self, partition: i32, number: u64, sink: Sink<'_>) {
        self.fold(partition, journey::Input::Seal { number }, sink);
    }

    fn fold(&mut self, partition: i32, input: journey::Input<'_>, sink: Sink<'_>) {
        let mut out = std::mem::take(&mut self.journey_out);
        let at = usize::try_from(partition).expect("partitions are not negative");
        loop {
            let more = self.journeys[at].fold_part(input, &mut out);
            for output in out.drain(..) {
                self.totals.observe_journey(&output);
                match output {
                    Output::Fact(Fact::Flush(to, flush)) => self.flushed(to, *flush, sink),
                    Output::Fact(fact) => sink(fact),
                    Output::Observation(_) => {}
                }
            }
            if !more {
                break;
            }
        }
        self.journey_out = out;
    }

    fn flushed(&mut self, to: PartitionId, flush: Flush, sink: Sink<'_>) {
        let at = usize::try_from(to.get()).expect("partitions are not negative");
        let Some(turns) = &mut self.turns else { return self.roll_up(to, &flush, sink) };
        turns[at].waiting.insert((flush.partition, flush.number), flush);
        while let Some(turns) = self.turns.as_mut().map(|turns| &mut turns[at])
            && let Some(flush) = turns.next.front().and_then(|name| turns.waiting.remove(name))
        {
            turns.next.pop_front();
            self.roll_up(to, &flush, sink);
        }
    }

    fn roll_up(&mut self, to: PartitionId, flush: &Flush, sink: Sink<'_>) {
        let to = usize::try_from(to.get()).expect("partitions are not negative");
        loop {
            let more =
                self.rollups[to].fold_part(rollup::Input::Flush(flush), &mut self.rollup_out);
            for output in self.rollup_out.drain(..) {
                self.totals.observe_rollup(&output);
                if let Output::Fact(fact) = output {
                    sink(fact);
                }
            }
            if !more {
                return;
            }
        }
    }
}
