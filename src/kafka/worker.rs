//! One worker: a thread that owns a consumer, a producer and the tasks of its partitions.
//!
//! One round: serve the client's events; answer rebalances; take acknowledgements; unless too many
//! bytes are in flight, take a batch, fold it, let tasks act on silence, seal what is at its end, and
//! hand outputs and positions to the commit step as one. Nothing waits longer than the time between
//! two servings of the client, so that heartbeats and rebalances never starve.

use super::batch::{BatchConsumer, Change, Event, SERVE_EVERY_MS};
use super::client::list_of;
use super::commit::{CommitStep, Step};
use super::error::Error;
use super::group::{Resume, Settings, Shared, Sight};
use super::health::Monitor;
use super::observer::WorkerObserver;
use super::reader::fatal;
use super::slot::{Folded, Slot};
use super::start::Starts;
use super::task::{Produced, Record, TaskFactory, TopicPartition};
use crate::clock::Moment;
use crate::model::ids::PartitionId;
use crate::model::time::Millis;
use rdkafka::{Offset, TopicPartitionList};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long a revocation or a stop may wait for acknowledgements: below the session time-out.
const FLUSH_WITHIN: Millis = Millis::from_secs(8);
const TELL_EVERY: Millis = Millis::from_secs(1);
const WAIT: Duration = Duration::from_millis(SERVE_EVERY_MS as u64);
/// With outputs in flight acknowledgements are looked for more often.
const WAIT_BUSY: Duration = Duration::from_millis(5);

/// What all workers of a role share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) settings: Arc<Settings>,
    pub(super) starts: Arc<Starts>,
    pub(super) shared: Arc<Shared>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) factory: Arc<dyn TaskFactory>,
    pub(super) observer: Arc<dyn WorkerObserver>,
}

/// What was full, so that a worker read no further.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Full {
    pub(super) outputs: bool,
    pub(super) memory: bool,
}

impl Full {
    pub(super) fn tell(self, role: &'static str, observer: &dyn WorkerObserver) {
        observer.full(role, "outputs", self.outputs);
        observer.full(role, "memory", self.memory);
    }
}

/// A worker.
pub(super) struct Worker<C> {
    around: Surroundings,
    consumer: BatchConsumer,
    commit: C,
    slots: Vec<Slot>,
    out: Produced,
    step: Step,
    /// True if the group assigns partitions.
    by_group: bool,
    full: Full,
    idled: Moment,
    told: Moment,
}

impl<C: CommitStep> Worker<C> {
    pub(super) fn new(around: Surroundings, consumer: BatchConsumer, commit: C) -> Worker<C> {
        Worker {
            around,
            consumer,
            commit,
            slots: Vec::new(),
            out: Produced::default(),
            step: Step::default(),
            full: Full::default(),
            by_group: true,
            idled: Moment::now(),
            told: Moment::now(),
        }
    }

    /// Reads exactly these partitions.
    pub(super) fn assign_fixed(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.by_group = false;
        let list = self.take_over(partitions)?;
        self.consumer.assign_fixed(&list).map_err(|e| Error::broker("assigning partitions", e))
    }

    /// Works until it is told to stop, a bounded run is over, or something fails.
    pub(super) fn run(&mut self) -> Result<(), Error> {
        loop {
            self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
            self.answer_changes()?;
            self.take_acknowledgements(Duration::ZERO)?;
            if self.around.shared.is_stopped() {
                return self.flush();
            }
            if self.is_over() {
                return self.flush();
            }
            if self.commit.bytes_in_flight() >= self.around.settings.in_flight_bytes {
                self.full.outputs = true;
                self.take_acknowledgements(WAIT_BUSY)?;
                continue;
            }
            if self.around.settings.memory.is_full() {
                self.full.memory = true;
                self.slots.iter_mut().for_each(Slot::pauses);
                self.hand_over()?;
                self.tell();
                std::thread::sleep(WAIT_BUSY);
                continue;
            }
            self.retry()?;
            self.fold()?;
            self.idle()?;
            self.seal()?;
            self.hand_over()?;
            self.tell();
        }
    }

    /// Makes tasks for partitions that come; returns them with the offsets to read from.
    fn take_over(&mut self, partitions: &[TopicPartition]) -> Result<TopicPartitionList, Error> {
        let Surroundings { settings, starts, shared, factory, observer, .. } = &self.around;
        let mut list = TopicPartitionList::new();
        for at in partitions {
            // A partition that was added since the start is read as a whole.
            let mut start = starts.get(at).copied().unwrap_or(Offset::Beginning);
            if settings.resume == Resume::AtPosition
                && let Some(next) = shared.done(at)
            {
                start = Offset::Offset(next.get());
            }
            let task = factory.create(&at.topic, at.partition).map_err(|reason| Error::Task {
                role: settings.role.to_owned(),
                at: at.clone(),
                reason,
            })?;
            list.add_partition_offset(&at.topic, at.partition.get(), start)
                .map_err(|e| Error::broker("assigning partitions", e))?;
            shared.owned(at, true);
            self.slots.push(Slot::new(at.clone(), task, start));
        }
        observer.rebalanced(settings.role, true, partitions.len());
        Ok(list)
    }

    fn answer_changes(&mut self) -> Result<(), Error> {
        for change in self.consumer.take_changes() {
            match change {
                Change::Assign(partitions) => {
                    let list = self.take_over(&partitions)?;
                    self.consumer
                        .assign(&list)
                        .map_err(|e| Error::broker("taking over partitions", e))?;
                }
                Change::Revoke { partitions, lost } => self.give_up(&partitions, lost)?,
            }
        }
        Ok(())
    }

    /// Lets partitions go once what was folded of them is published and committed.
    fn give_up(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Error> {
        let role = self.around.settings.role;
        if lost {
            tracing::warn!(role, partitions = partitions.len(), "partitions were lost");
        } else if let Err(error) = self.flush() {
            // Whoever takes them over must not wait for us: our outputs stay with the client.
            tracing::warn!(role, %error, "partitions are given up with outputs in flight");
        }
        self.commit.forget(partitions);
        for at in partitions {
            self.slots.retain(|slot| slot.at != *at);
            self.around.shared.owned(at, false);
            self.around.monitor.forget(at);
        }
        self.around.observer.rebalanced(role, false, partitions.len());
        self.consumer
            .unassign(&list_of(partitions))
            .map_err(|e| Error::broker("giving partitions up", e))
    }

    /// Publishes and commits everything that was folded.
    fn flush(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        let since = Moment::now();
        while !self.commit.is_idle() {
            self.take_acknowledgements(WAIT)?;
            if since.elapsed() > FLUSH_WITHIN {
                let what = "waiting for the acknowledgement of outputs";
                return Err(Error::broker(what, "the brokers did not answer in time"));
            }
        }
        self.take_acknowledgements(Duration::ZERO)?;
        let left = Millis::from_ms(FLUSH_WITHIN.as_ms() - since.elapsed().as_ms());
        self.commit.commit_now(&self.consumer, left)
    }

    fn take_acknowledgements(&mut self, wait: Duration) -> Result<(), Error> {
        let done = self.commit.advance(&self.consumer, wait)?;
        let Surroundings { settings, shared, observer, .. } = &self.around;
        for step in &done {
            observer.committed(settings.role, step.took_secs);
            for (at, next) in &step.positions {
                shared.set_done(at, *next);
            }
        }
        if self.commit.is_idle() {
            for slot in &mut self.slots {
                if slot.acknowledged() {
                    shared.set_sealed(&slot.at);
                }
            }
        }
        Ok(())
    }

    /// True if the bounded run is over for this worker.
    fn is_over(&self) -> bool {
        let Surroundings { starts, shared, .. } = &self.around;
        match shared.ends() {
            None => false,
            // A member that leaves early would move its partitions to the others.
            Some(_) if self.by_group => starts.keys().all(|at| shared.is_sealed(at)),
            Some(_) => self.slots.iter().all(Slot::is_sealed),
        }
    }

    fn retry(&mut self) -> Result<(), Error> {
        for slot in &mut self.slots {
            if slot.retry(&mut self.consumer)? {
                self.around.monitor.goes_on(&slot.at);
            }
        }
        Ok(())
    }

    fn fold(&mut self) -> Result<(), Error> {
        let Surroundings { settings, monitor, observer, .. } = &self.around;
        let role = settings.role;
        let wait = if self.commit.is_idle() { WAIT } else { WAIT_BUSY };
        let polling = Moment::now();
        let got = self.consumer.poll(wait);
        observer.polled(role, got, polling.elapsed_secs());
        if got == 0 {
            return Ok(());
        }
        let folding = Moment::now();
        let (slots, out) = (&mut self.slots, &mut self.out);
        let (commit, step) = (&mut self.commit, &mut self.step);
        let mut last = 0;
        let mut folded = 0;
        let mut failed = None;
        loop {
            if let Some(next) = self.consumer.upcoming()
                && let Some(slot) = find(slots, &mut last, next.topic, next.partition)
            {
                slot.fetch(&next);
            }
            let goes_on = self.consumer.drain_some(|event| {
                if failed.is_some() {
                    return ControlFlow::Continue(());
                }
                match event {
                    Event::Record(record) => {
                        let Some(slot) = find(slots, &mut last, record.topic, record.partition)
                        else {
                            return ControlFlow::Continue(());
                        };
                        // No position rests on a part alone: it is handed over by itself.
                        let part = |out: &mut Produced| {
                            std::mem::swap(&mut step.outputs, &mut out.records);
                            commit.hand_over(step)
                        };
                        match fold_wholly(slot, role, &record, out, part) {
                            Ok(Folded::Yes) => folded += 1,
                            Ok(Folded::Skipped | Folded::InPart) => {}
                            Ok(Folded::Waits(reason)) => {
                                monitor.waits(&slot.at, &reason);
                                observer.retrying(role, record.topic, record.partition, &reason);
                            }
                            Err(error) => failed = Some(error),
                        }
                    }
                    Event::End { topic, partition, next } => {
                        if let Some(slot) = find(slots, &mut last, topic, partition) {
                            slot.end_seen(next);
                        }
                    }
                    Event::Failed { topic, partition, code } => {
                        let at = TopicPartition::new(topic, partition);
                        monitor.note(&format!("reading {at}: {code}"));
                        failed = fatal(at, code);
                    }
                }
                ControlFlow::Continue(())
            });
            if !goes_on {
                break;
            }
        }
        observer.folded(role, folded, folding.elapsed_secs());
        failed.map_or(Ok(()), Err)
    }

    fn idle(&mut self) -> Result<(), Error> {
        if self.idled.elapsed() < self.around.settings.idle_check {
            return Ok(());
        }
        self.idled = Moment::now();
        for slot in &mut self.slots {
            if let Err(reason) = slot.idle(&mut self.out) {
                return Err(task_error(self.around.settings.role, slot, reason));
            }
        }
        Ok(())
    }

    /// Seals the tasks that have reached the end of a bounded run.
    fn seal(&mut self) -> Result<(), Error> {
        let Some(ends) = self.around.shared.ends() else { return Ok(()) };
        for slot in &mut self.slots {
            slot.stop_at(ends.of(&slot.at));
            if !slot.wants_seal() {
                continue;
            }
            match slot.seal(&mut self.out) {
                Ok(true) => slot.pause(&self.consumer)?,
                Ok(false) => {}
                Err(reason) => return Err(task_error(self.around.settings.role, slot, reason)),
            }
        }
        Ok(())
    }

    /// Hands outputs and positions of this round to the commit step.
    fn hand_over(&mut self) -> Result<(), Error> {
        let Surroundings { settings, shared, observer, .. } = &self.around;
        std::mem::swap(&mut self.step.outputs, &mut self.out.records);
        self.step.positions.extend(self.slots.iter_mut().filter_map(Slot::take_position));
        shared.seen(self.slots.iter().map(|slot| Sight {
            at: &slot.at,
            folded: slot.next(),
            caught_up: slot.caught_up(),
            restoring: false,
        }));
        if self.step.outputs.is_empty() && self.step.positions.is_empty() {
            return Ok(());
        }
        let records = self.step.outputs.len();
        let bytes = self.step.outputs.iter().map(super::OutRecord::len).sum();
        let producing = Moment::now();
        self.commit.hand_over(&mut self.step)?;
        if records > 0 {
            observer.produced(settings.role, records, bytes, producing.elapsed_secs());
        }
        Ok(())
    }

    fn tell(&mut self) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Moment::now();
        let Surroundings { settings, observer, .. } = &self.around;
        std::mem::take(&mut self.full).tell(settings.role, &**observer);
        for slot in &self.slots {
            let (topic, partition) = (&slot.at.topic, slot.at.partition);
            if let Some((records, secs)) = slot.lag(&self.consumer) {
                observer.lag(topic, partition, records, secs);
            }
            observer.watermark(settings.role, topic, partition, &slot.task().progress());
        }
    }
}

/// Folds a record, part by part; `hand_over` makes room between two of them.
fn fold_wholly(
    slot: &mut Slot,
    role: &str,
    record: &Record<'_>,
    out: &mut Produced,
    mut hand_over: impl FnMut(&mut Produced) -> Result<(), Error>,
) -> Result<Folded, Error> {
    loop {
        match slot.fold(record, out) {
            Ok(Folded::InPart) => hand_over(out)?,
            Ok(folded) => return Ok(folded),
            Err(reason) => return Err(task_error(role, slot, reason)),
        }
    }
}

/// The slot of a partition; records come in runs, so the last one is looked at first.
fn find<'s>(
    slots: &'s mut [Slot],
    last: &mut usize,
    topic: &str,
    partition: PartitionId,
) -> Option<&'s mut Slot> {
    let is = |slot: &Slot| slot.at.partition == partition && *slot.at.topic == *topic;
    if !slots.get(*last).is_some_and(is) {
        *last = slots.iter().position(is)?;
    }
    slots.get_mut(*last)
}

fn task_error(role: &str, slot: &Slot, reason: String) -> Error {
    Error::Task { role: role.to_owned(), at: slot.at.clone(), reason }
}
