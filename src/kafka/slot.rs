//! One partition of a worker: its task, and how far it is.

use super::batch::BatchConsumer;
use super::error::Error;
use super::observer::age_secs;
use super::task::{Produced, Record, Task, TaskError, TopicPartition, Upcoming};
use super::waits;
use crate::clock::Moment;
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use rdkafka::Offset;
use rdkafka::error::KafkaResult;

/// What a slot is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Running,
    /// Its task asked for a retry: records are skipped, and read again from `next` later.
    Waiting {
        paused: bool,
    },
    /// Its task is sealed; the outputs are on their way.
    Sealing,
    /// Its task is sealed and the outputs are acknowledged.
    Sealed,
}

/// A partition and its task.
pub(super) struct Slot {
    pub(super) at: TopicPartition,
    task: Box<dyn Task>,
    state: State,
    /// Offset to fold next; `None` until something came, if the start is "the oldest".
    next: Option<NextOffset>,
    /// Where to stop, in a bounded run.
    end: Option<NextOffset>,
    /// True if `next` moved since the last step.
    moved: bool,
    caught_up: bool,
    /// When the last record came, or the partition.
    since: Moment,
    /// When the task last asked for a retry, and how long to wait from then on.
    asked: Moment,
    delay: Millis,
    last_timestamp: i64,
}

/// What folding a record came to.
pub(super) enum Folded {
    Yes,
    /// Not wholly yet: again, once the outputs so far are handed over.
    InPart,
    /// It was not wanted now, or not any more.
    Skipped,
    /// The task waits for something from now on.
    Waits(String),
}

impl Slot {
    pub(super) fn new(at: TopicPartition, task: Box<dyn Task>, start: Offset) -> Slot {
        let next = match start {
            Offset::Offset(n) => Some(NextOffset::new(n)),
            _ => None,
        };
        Slot {
            at,
            task,
            state: State::Running,
            next,
            end: None,
            moved: false,
            caught_up: false,
            since: Moment::now(),
            asked: Moment::now(),
            delay: Millis::ZERO,
            last_timestamp: -1,
        }
    }

    pub(super) fn task(&self) -> &dyn Task {
        &*self.task
    }

    pub(super) fn next(&self) -> Option<NextOffset> {
        self.next
    }

    /// Nothing is read for a while: that nothing comes says nothing about what there is.
    pub(super) fn pauses(&mut self) {
        self.caught_up = false;
    }

    pub(super) fn caught_up(&self) -> bool {
        self.caught_up
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.state == State::Sealed
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Running | State::Waiting { .. })
    }

    /// Sets where to stop.
    pub(super) fn stop_at(&mut self, end: NextOffset) {
        self.end = Some(end);
    }

    /// True if everything up to the end has been folded, and the task is not sealed yet.
    pub(super) fn wants_seal(&self) -> bool {
        let Some(end) = self.end else { return false };
        let reached = end.get() <= 0 || self.next.is_some_and(|next| next >= end);
        reached && self.state == State::Running
    }

    /// What comes next: what is kept for it is brought into the cache. Changes nothing.
    pub(super) fn fetch(&self, next: &Upcoming<'_>) {
        if self.state == State::Running {
            self.task.fetch(&next.keys);
        }
    }

    pub(super) fn fold(
        &mut self,
        record: &Record<'_>,
        out: &mut Produced,
    ) -> Result<Folded, String> {
        if self.state != State::Running {
            return Ok(Folded::Skipped);
        }
        if let Some(end) = self.end
            && record.offset.get() >= end.get()
        {
            // Everything before it has come: this is the first record that is not wanted any more.
            self.move_to(end);
            return Ok(Folded::Skipped);
        }
        if self.next.is_some_and(|next| record.offset.get() < next.get()) {
            return Ok(Folded::Skipped);
        }
        let mark = out.mark();
        match self.task.record(record, out) {
            Ok(()) if self.task.has_more() => Ok(Folded::InPart),
            Ok(()) => {
                self.move_to(record.offset.next());
                self.caught_up = false;
                self.since = Moment::now();
                self.last_timestamp = record.timestamp;
                self.delay = Millis::ZERO;
                Ok(Folded::Yes)
            }
            Err(TaskError::Fatal(reason)) => Err(reason),
            Err(TaskError::Retry { reason }) => {
                out.rewind(mark);
                // The start may have been "the oldest": from now on it must be exactly here.
                self.next = Some(NextOffset::new(record.offset.get()));
                self.caught_up = false;
                self.state = State::Waiting { paused: false };
                self.asked = Moment::now();
                self.delay = waits::after(self.delay);
                waits::tell(&self.at, self.delay, &reason);
                Ok(Folded::Waits(reason))
            }
        }
    }

    fn move_to(&mut self, next: NextOffset) {
        if self.next < Some(next) {
            self.next = Some(next);
            self.moved = true;
        }
    }

    /// The partition has been read to its end, which may lie behind control records.
    pub(super) fn end_seen(&mut self, next: NextOffset) {
        if self.is_open() && self.state == State::Running {
            self.move_to(next);
            self.caught_up = true;
        }
    }

    /// Tells the task how long nothing came.
    pub(super) fn idle(&mut self, out: &mut Produced) -> Result<(), String> {
        if !self.is_open() {
            return Ok(());
        }
        let mark = out.mark();
        match self.task.idle(self.since.elapsed(), self.caught_up, out) {
            Ok(()) => Ok(()),
            Err(TaskError::Fatal(reason)) => Err(reason),
            Err(TaskError::Retry { reason }) => {
                tracing::debug!(at = %self.at, reason, "idle check is repeated later");
                out.rewind(mark);
                Ok(())
            }
        }
    }

    /// Seals the task; false if it must be tried again.
    pub(super) fn seal(&mut self, out: &mut Produced) -> Result<bool, String> {
        let mark = out.mark();
        match self.task.seal(out) {
            Ok(()) => {
                self.state = State::Sealing;
                Ok(true)
            }
            Err(TaskError::Fatal(reason)) => Err(reason),
            Err(TaskError::Retry { reason }) => {
                tracing::debug!(at = %self.at, reason, "sealing is repeated later");
                out.rewind(mark);
                Ok(false)
            }
        }
    }

    /// Everything that was handed over is acknowledged; true if that completes the seal.
    pub(super) fn acknowledged(&mut self) -> bool {
        let completes = self.state == State::Sealing;
        if completes {
            self.state = State::Sealed;
        }
        completes
    }

    /// The position to commit with the next step, if it moved.
    pub(super) fn take_position(&mut self) -> Option<(TopicPartition, NextOffset)> {
        let moved = std::mem::take(&mut self.moved);
        self.next.filter(|_| moved).map(|next| (self.at.clone(), next))
    }

    /// Stops reading while the task waits, and reads on from `next` when it is time to try again.
    /// True if the slot goes on.
    pub(super) fn retry(&mut self, consumer: &mut BatchConsumer) -> Result<bool, Error> {
        let State::Waiting { paused } = self.state else { return Ok(false) };
        if !paused {
            self.paused(consumer.pause(&self.at))?;
            self.state = State::Waiting { paused: true };
            return Ok(false);
        }
        if !self.task.may_go_on().unwrap_or(self.asked.elapsed() >= self.delay) {
            return Ok(false);
        }
        let next = self.next.expect("set when the task asked for a retry");
        let offset = Offset::Offset(next.get());
        if let Err(error) = consumer.seek(&self.at, offset) {
            tracing::warn!(at = %self.at, %error, "reading on is tried again later");
            self.asked = Moment::now();
            return Ok(false);
        }
        self.paused(consumer.resume(&self.at))?;
        self.state = State::Running;
        Ok(true)
    }

    /// Stops reading for good.
    pub(super) fn pause(&self, consumer: &BatchConsumer) -> Result<(), Error> {
        self.paused(consumer.pause(&self.at))
    }

    fn paused(&self, result: KafkaResult<()>) -> Result<(), Error> {
        result.map_err(|e| Error::Read { at: self.at.clone(), reason: e.to_string() })
    }

    /// Records not read yet, and the age of the last one read; `None` if nothing is known.
    pub(super) fn lag(&self, consumer: &BatchConsumer) -> Option<(i64, f64)> {
        // Behind a transaction's marker "next" stays below the log end for ever.
        if self.caught_up || !self.is_open() {
            return Some((0, 0.0));
        }
        let end = consumer.known_end(&self.at)?;
        let records = (end.get() - self.next?.get()).max(0);
        Some((records, age_secs(self.last_timestamp)))
    }
}

#[cfg(test)]
mod tests;
