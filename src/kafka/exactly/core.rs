//! The decisions of one worker: what it reads, folds, commits and restores.
//!
//! No client, no clock, no thread: whoever drives it tells it what happened and at what time of the
//! worker's own monotonic clock, and does what it asks for ([`Command`], [`Transaction`]). The worker
//! on Kafka and the simulation of the tests are two such drivers.

use super::metadata::Committed;
use super::pending::{Pending, SlotId};
pub use super::slot::Bounds;
use super::slot::{Phase, Restored, Restoring, Slot};
use crate::codec::checkpoint::{CHECKPOINT_KEY, Checkpoint, Framer, Unframer};
use crate::engine::mutation::Mutation;
use crate::engine::state::Entry;
use crate::kafka::error::Error;
use crate::kafka::task::{
    OutRecord, Produced, Record, TaskError, TaskFactory, TaskProgress, TopicPartition,
};
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use compact_str::CompactString;
use std::sync::Arc;

const RETRY_FIRST: Millis = Millis::from_ms(100);
const RETRY_MOST: Millis = Millis::from_secs(10);
/// Between two questions for a committed offset.
const ASK_EVERY: Millis = Millis::from_ms(200);
/// A committed offset that must be there is asked for so often.
const ASK_MOST: u32 = 25;
/// How long a changelog without an open transaction may lack what was committed.
const CHANGELOG_WITHIN: Millis = Millis::from_secs(30);
/// How often tasks are told that nothing came.
const IDLE_CHECK: Millis = Millis::from_ms(250);

/// What a state belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Generation of the state.
    pub generation: u64,
    /// Identity of the input topic, as the broker has it; empty if it has none.
    pub topic_id: CompactString,
    /// Version of the fold.
    pub fold_version: u32,
    /// Fingerprint of the configuration that the fold sees.
    pub fingerprint: u128,
    /// Partitions of the input topic.
    pub input_partitions: i32,
}

/// Settings of a worker's decisions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the role, for messages.
    pub role: &'static str,
    /// Transactional id.
    pub committer: CompactString,
    /// Topic that keeps the state; `None` for tasks without any.
    pub changelog: Option<Arc<str>>,
    /// What the state belongs to.
    pub identity: Identity,
    /// Time between two commits.
    pub commit_interval: Millis,
    /// Time between two checkpoints of a partition.
    pub checkpoint_interval: Millis,
    /// Bytes of outputs that are not acknowledged, beyond which nothing more is read.
    pub in_flight_bytes: usize,
}

/// Where reading a partition starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Where the configuration says.
    Configured,
    /// At this offset.
    At(NextOffset),
}

/// What the driver has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Ask for the committed offset, as one that no transaction can change any more, and for the
    /// bounds of the input; answered by [`Core::committed`] or [`Core::not_answered`].
    AskCommitted(TopicPartition),
    /// Read this partition of the changelog from its beginning, as committed: [`Core::entry`],
    /// [`Core::changelog_end`].
    ReadChangelog(TopicPartition),
    /// Stop reading the changelog of this partition.
    CloseChangelog(TopicPartition),
    /// Read the input from here on.
    Read(TopicPartition, Start),
    /// Stop reading the input.
    Pause(TopicPartition),
}

/// An offset to be committed with a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetToCommit {
    /// Partition of the input.
    pub at: TopicPartition,
    /// Its outputs up to here are in this or an earlier transaction.
    pub next: NextOffset,
    /// What stands beside it.
    pub metadata: String,
}

/// One transaction: begin, produce, offsets, commit, in one burst.
#[derive(Clone, Debug)]
pub struct Transaction {
    outputs: Arc<Pending>,
    /// Offsets of every partition that outputs or checkpoints belong to.
    pub offsets: Vec<OffsetToCommit>,
}

impl Transaction {
    /// Records to produce, in order.
    pub fn outputs(&self) -> &[OutRecord] {
        self.outputs.records()
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is committed: nothing but an ok from the commit says so.
    Committed,
    /// It is aborted: nothing of it will ever be read.
    Aborted,
    /// Nobody knows. The driver has initialised its producer again, so that nothing is pending.
    Unknown,
}

/// What folding a record came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folded {
    /// It is in the state.
    Yes,
    /// It was not wanted now, or not any more.
    Skipped,
    /// Its task waits for something.
    Waits,
}

/// A transaction under way: what it carries is kept.
struct Flight {
    outputs: Arc<Pending>,
    /// Slot, number of its commit, position.
    slots: Vec<(SlotId, TopicPartition, u64, NextOffset)>,
    begun: Millis,
    /// Its outcome is to be found out by the committed offset of a slot that is still owned.
    unknown: bool,
    /// How often that was asked for in vain.
    asked: u32,
}

/// A partition as the driver may show it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The partition.
    pub at: &'a TopicPartition,
    /// The offset to fold next.
    pub next: Option<NextOffset>,
    /// True if its end has been seen and nothing came since.
    pub caught_up: bool,
    /// True while its state is being restored.
    pub restoring: bool,
    /// True if it is sealed for good.
    pub sealed: bool,
    /// Timestamp of the last record in ms; −1 if there is none.
    pub last_timestamp: i64,
}

/// The decisions of one worker.
pub struct Core {
    settings: Settings,
    factory: Arc<dyn TaskFactory>,
    slots: Vec<Slot>,
    /// Where the last record was: records come in runs.
    last: usize,
    slot_ids: SlotId,
    pending: Pending,
    flight: Option<Flight>,
    commands: Vec<Command>,
    /// Something waits that a reader waits for.
    urgent: bool,
    begun: Millis,
    idled: Millis,
    produced: Produced,
    entries: Vec<Entry>,
    framer: Framer,
    unframer: Unframer,
}

impl Core {
    /// A worker without partitions.
    pub fn new(settings: Settings, factory: Arc<dyn TaskFactory>) -> Core {
        Core {
            settings,
            factory,
            slots: Vec::new(),
            last: 0,
            slot_ids: 0,
            pending: Pending::default(),
            flight: None,
            commands: Vec::new(),
            urgent: false,
            begun: Millis::ZERO,
            idled: Millis::ZERO,
            produced: Produced::default(),
            entries: Vec::new(),
            framer: Framer::default(),
            unframer: Unframer::default(),
        }
    }

    /// Settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its partitions.
    pub fn partitions(&self) -> impl Iterator<Item = View<'_>> {
        self.slots.iter().map(|slot| View {
            at: &slot.at,
            next: slot.next,
            caught_up: slot.caught_up,
            restoring: matches!(slot.phase, Phase::Asking { .. } | Phase::Restoring(_)),
            sealed: matches!(slot.phase, Phase::Sealed),
            last_timestamp: slot.last_timestamp,
        })
    }

    /// How far the task of a partition is.
    pub fn progress(&self, at: &TopicPartition) -> Option<TaskProgress> {
        Some(self.slots.iter().find(|slot| slot.at == *at)?.task.progress())
    }

    /// True if more input may be read: outputs that are not acknowledged are bounded.
    pub fn has_room(&self) -> bool {
        let flying = self.flight.as_ref().map_or(0, |flight| flight.outputs.bytes());
        self.pending.bytes() + flying < self.settings.in_flight_bytes
    }

    /// True while a transaction is under way.
    pub fn is_flying(&self) -> bool {
        self.flight.is_some()
    }

    /// True if nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.flight.is_none()
            && self.pending.is_empty()
            && !self.slots.iter().any(|slot| slot.moved && slot.is_live())
    }

    fn slot(&mut self, at: &TopicPartition) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.at == *at)
    }

    fn failed(&self, at: &TopicPartition, reason: String) -> Error {
        Error::Task { role: self.settings.role.to_owned(), at: at.clone(), reason }
    }

    /// A partition comes. It is not read before [`Command::Read`].
    ///
    /// # Errors
    /// If there is no task for it.
    pub fn assign(&mut self, at: TopicPartition, now: Millis) -> Result<(), Error> {
        let task = self
            .factory
            .create(&at.topic, at.partition)
            .map_err(|reason| self.failed(&at, reason))?;
        self.slot_ids += 1;
        self.slots.push(Slot::new(self.slot_ids, at, task, now));
        Ok(())
    }

    /// A partition goes, and with it its state and what it has not published.
    pub fn revoke(&mut self, at: &TopicPartition) {
        let Some(place) = self.slots.iter().position(|slot| slot.at == *at) else { return };
        let slot = self.slots.remove(place);
        self.pending.drop_slot(slot.id);
        if matches!(slot.phase, Phase::Restoring(_)) {
            self.commands.push(Command::CloseChangelog(slot.at));
        }
    }

    /// Partitions are about to go: the next transaction leaves a checkpoint of them at their position.
    pub fn checkpoint(&mut self, partitions: &[TopicPartition]) {
        for slot in self.slots.iter_mut().filter(|slot| partitions.contains(&slot.at)) {
            slot.must_checkpoint |= slot.changed;
            self.urgent |= slot.changed;
        }
    }

    /// In a bounded run: where a partition ends.
    pub fn stop_at(&mut self, ends: impl Fn(&TopicPartition) -> NextOffset) {
        for slot in &mut self.slots {
            slot.end = Some(ends(&slot.at));
        }
    }

    /// What is to be done now.
    pub fn commands(&mut self, now: Millis) -> Vec<Command> {
        let flying: Vec<&TopicPartition> =
            self.flight.iter().flat_map(|f| f.slots.iter().map(|(_, at, ..)| at)).collect();
        for slot in &mut self.slots {
            match &mut slot.phase {
                // What is under way may still commit an offset of the partition's last stay here.
                Phase::Asking { asked, after }
                    if !*asked && *after <= now && !flying.contains(&&slot.at) =>
                {
                    *asked = true;
                    self.commands.push(Command::AskCommitted(slot.at.clone()));
                }
                Phase::Waiting { at } if *at <= now => {
                    let next = slot.next.expect("set when the task asked for a retry");
                    slot.phase = Phase::Running;
                    self.commands.push(Command::Read(slot.at.clone(), Start::At(next)));
                }
                _ => {}
            }
        }
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.unknown) {
            let owned =
                flight.slots.iter().find(|(id, ..)| self.slots.iter().any(|slot| slot.id == *id));
            match owned {
                Some((_, at, ..)) if self.begun.as_ms() + ASK_EVERY.as_ms() <= now.as_ms() => {
                    self.begun = now;
                    self.commands.push(Command::AskCommitted(at.clone()));
                }
                Some(_) => {}
                None => {
                    // Nothing of it is ours any more: whoever owns the partitions finds out.
                    self.flight = None;
                }
            }
        }
        std::mem::take(&mut self.commands)
    }

    /// The question for a committed offset was not answered: it is asked again.
    pub fn not_answered(&mut self, at: &TopicPartition, now: Millis) {
        if let Some(slot) = self.slot(at)
            && let Phase::Asking { asked, after } = &mut slot.phase
        {
            *asked = false;
            *after = Millis::from_ms(now.as_ms() + ASK_EVERY.as_ms());
        }
    }

    /// The committed offset of a partition, and the bounds of the input.
    ///
    /// # Errors
    /// If what is committed cannot be gone on from.
    pub fn committed(
        &mut self,
        at: &TopicPartition,
        committed: Option<Committed>,
        bounds: Bounds,
        now: Millis,
    ) -> Result<(), Error> {
        // The answer may be for both: what is under way, and a partition that has just come.
        if self.flight.as_ref().is_some_and(|flight| flight.unknown) {
            self.resolve(at, committed.as_ref())?;
        }
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == *at) else { return Ok(()) };
        match &mut slot.phase {
            Phase::Asking { asked: true, .. } => {}
            Phase::Restoring(restoring) => {
                // Asked again, as there must be one.
                restoring.committed = committed;
                restoring.bounds = bounds;
                return Ok(());
            }
            _ => return Ok(()),
        }
        if slot.task.state().is_some() {
            let restoring =
                Restoring { committed, bounds, found: None, since: now, asked: 1, asked_at: now };
            slot.phase = Phase::Restoring(Box::new(restoring));
            self.commands.push(Command::ReadChangelog(at.clone()));
            return Ok(());
        }
        let start = slot.resume(committed.as_ref(), bounds);
        slot.phase = Phase::Running;
        slot.since = now;
        self.commands.push(Command::Read(at.clone(), start));
        Ok(())
    }

    /// One record of the changelog of a partition that is being restored.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn entry(
        &mut self,
        at: &TopicPartition,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == *at) else { return Ok(()) };
        let Phase::Restoring(restoring) = &mut slot.phase else { return Ok(()) };
        let state = slot.task.state().expect("only tasks with state are restored");
        let taken = if key == CHECKPOINT_KEY {
            let found = self.unframer.checkpoint(value.unwrap_or_default());
            found.map(|found| restoring.found = Some(found)).map_err(|e| e.to_string())
        } else {
            let unframe = |framed: &[u8]| self.unframer.entry(framed).map_err(|e| e.to_string());
            let value = value.map(unframe).transpose();
            value.and_then(|v| state.restore(key, v.as_deref()).map_err(|e| e.to_string()))
        };
        taken.map_err(|reason| {
            self.failed(at, format!("an entry of its changelog cannot be read: {reason}"))
        })
    }

    /// The changelog of a partition has been read to what is committed of it; `open` if a transaction
    /// on it is not decided yet.
    ///
    /// # Errors
    /// If the state cannot be used.
    pub fn changelog_end(
        &mut self,
        at: &TopicPartition,
        open: bool,
        now: Millis,
    ) -> Result<(), Error> {
        let identity = &self.settings.identity;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == *at) else { return Ok(()) };
        let Phase::Restoring(restoring) = &mut slot.phase else { return Ok(()) };
        let mut restoring = std::mem::replace(
            restoring,
            Box::new(Restoring {
                committed: None,
                bounds: Bounds { low: NextOffset::new(0), high: NextOffset::new(0) },
                found: None,
                since: now,
                asked: 0,
                asked_at: now,
            }),
        );
        let waited = Millis::from_ms(now.as_ms() - restoring.since.as_ms());
        match slot.restored(&restoring, open, identity) {
            Ok(Restored::From(start)) => {
                slot.phase = Phase::Running;
                slot.since = now;
                slot.checkpointed_at = now;
                self.commands.push(Command::CloseChangelog(at.clone()));
                self.commands.push(Command::Read(at.clone(), start));
                return Ok(());
            }
            Ok(Restored::NotYet) if open || waited < CHANGELOG_WITHIN => {}
            Ok(Restored::NotYet) => {
                let reason = "its changelog lacks the checkpoint that the committed offset names: it \
                              was truncated or created anew; `touchline state reset` starts anew";
                return Err(self.failed(at, reason.to_owned()));
            }
            Ok(Restored::AskAgain) if restoring.asked < ASK_MOST => {
                // A coordinator that moves may know nothing for seconds.
                if now.as_ms() - restoring.asked_at.as_ms() >= ASK_EVERY.as_ms() {
                    restoring.asked += 1;
                    restoring.asked_at = now;
                    self.commands.push(Command::AskCommitted(at.clone()));
                }
            }
            Ok(Restored::AskAgain) if restoring.committed.is_some() => {
                let reason = "its changelog is ahead of the committed offset, which somebody has set \
                              back; `touchline state reset` starts anew";
                return Err(self.failed(at, reason.to_owned()));
            }
            Ok(Restored::AskAgain) => {
                let reason = "there is state, but no committed offset: it has expired or was deleted; \
                              `touchline state reset` starts anew";
                return Err(self.failed(at, reason.to_owned()));
            }
            Err(reason) => return Err(self.failed(at, reason)),
        }
        slot.phase = Phase::Restoring(restoring);
        Ok(())
    }

    /// A record of the input.
    ///
    /// # Errors
    /// If a task gives up.
    pub fn record(&mut self, record: &Record<'_>, now: Millis) -> Result<Folded, Error> {
        let is =
            |slot: &Slot| slot.at.partition == record.partition && *slot.at.topic == *record.topic;
        if !self.slots.get(self.last).is_some_and(is) {
            match self.slots.iter().position(is) {
                Some(place) => self.last = place,
                None => return Ok(Folded::Skipped),
            }
        }
        let slot = &mut self.slots[self.last];
        if !matches!(slot.phase, Phase::Running) {
            return Ok(Folded::Skipped);
        }
        if let Some(end) = slot.end
            && record.offset.get() >= end.get()
            && slot.is_level()
        {
            slot.move_to(end);
            return Ok(Folded::Skipped);
        }
        if slot.next.is_some_and(|next| record.offset.get() < next.get()) {
            return Ok(Folded::Skipped);
        }
        let out = &mut self.produced;
        // What was published is folded again for the state alone.
        let replaying = slot.published.is_some_and(|c| record.offset.get() < c.get());
        let mut first = true;
        let result = loop {
            out.clear();
            out.replaying = replaying;
            let result = slot.task.record(record, out);
            if result.is_ok() && (!replaying || Mutation::RefoldPublishes.is_on()) {
                self.urgent |= out.urgent;
                self.pending.push(slot.id, out.records.drain(..));
            }
            match result {
                Ok(()) if slot.task.has_more() => first = false,
                Err(TaskError::Retry { reason }) if !first => {
                    break Err(TaskError::Fatal(format!(
                        "it asked to wait in mid record: {reason}"
                    )));
                }
                result => break result,
            }
        };
        match result {
            Ok(()) => {
                slot.move_to(record.offset.next());
                slot.caught_up = false;
                slot.since = now;
                slot.last_timestamp = record.timestamp;
                slot.delay = Millis::ZERO;
                Ok(Folded::Yes)
            }
            Err(TaskError::Fatal(reason)) => {
                let at = slot.at.clone();
                Err(self.failed(&at, reason))
            }
            Err(TaskError::Retry { reason }) => {
                tracing::warn!(at = %slot.at, reason, "the partition waits");
                slot.next = Some(NextOffset::new(record.offset.get()));
                slot.caught_up = false;
                slot.delay = Millis::from_ms(
                    (slot.delay.as_ms() * 2).clamp(RETRY_FIRST.as_ms(), RETRY_MOST.as_ms()),
                );
                slot.phase =
                    Phase::Waiting { at: Millis::from_ms(now.as_ms() + slot.delay.as_ms()) };
                self.commands.push(Command::Pause(slot.at.clone()));
                Ok(Folded::Waits)
            }
        }
    }

    /// The input of a partition has been read to its end, which may lie behind control records.
    pub fn end_of_partition(&mut self, at: &TopicPartition, next: NextOffset) {
        if let Some(slot) = self.slot(at)
            && matches!(slot.phase, Phase::Running)
        {
            slot.move_to(next);
            slot.caught_up = true;
        }
    }

    /// Begins a transaction if one is due and none is under way. What it carries is kept until
    /// [`Core::finished`].
    ///
    /// # Errors
    /// If a task gives up.
    pub fn begin(&mut self, now: Millis, at_once: bool) -> Result<Option<Transaction>, Error> {
        if self.flight.is_some() {
            return Ok(None);
        }
        // A flush comes to an end: letting time pass in it would give it more to flush, again and again.
        if now.as_ms() - self.idled.as_ms() >= IDLE_CHECK.as_ms() && !at_once {
            self.idled = now;
            self.let_time_pass(now)?;
        }
        let waited = now.as_ms() - self.begun.as_ms();
        let full = self.pending.bytes() >= self.settings.in_flight_bytes / 2;
        let due = waited >= self.settings.commit_interval.as_ms();
        if !(due || full || at_once || self.urgent) {
            return Ok(None);
        }
        self.take_checkpoints(now);
        let owners: Vec<SlotId> = self.pending.by_slot().map(|(slot, _)| slot).collect();
        let mut offsets = Vec::new();
        let mut slots = Vec::new();
        let Settings { identity, committer, .. } = &self.settings;
        for slot in &mut self.slots {
            let Some(next) = slot.next.filter(|_| slot.moved || owners.contains(&slot.id)) else {
                continue;
            };
            if !slot.is_level() || matches!(slot.phase, Phase::Asking { .. } | Phase::Restoring(_))
            {
                continue;
            }
            slot.moved = false;
            slot.commit += 1;
            let metadata = slot.metadata(identity, committer).to_string();
            if !(Mutation::IdleOffsetsLeftOut.is_on() && slot.published == Some(next)) {
                offsets.push(OffsetToCommit { at: slot.at.clone(), next, metadata });
            }
            slots.push((slot.id, slot.at.clone(), slot.commit, next));
        }
        if slots.is_empty() {
            debug_assert!(self.pending.is_empty(), "outputs go with the offset of their partition");
            return Ok(None);
        }
        self.urgent = false;
        self.begun = now;
        let outputs = Arc::new(std::mem::take(&mut self.pending));
        self.flight =
            Some(Flight { outputs: outputs.clone(), slots, begun: now, unknown: false, asked: 0 });
        Ok(Some(Transaction { outputs, offsets }))
    }

    /// Tasks act on silence, and those at the end of a bounded run are sealed. Both can be side inputs,
    /// which only this place applies: directly before a checkpoint.
    fn let_time_pass(&mut self, now: Millis) -> Result<(), Error> {
        for slot in &mut self.slots {
            // Without a position there is nothing that would fence what it says.
            if !slot.is_live() || slot.next.is_none() {
                continue;
            }
            let before = slot.task.side_inputs();
            let out = &mut self.produced;
            out.clear();
            let result = if slot.wants_seal() {
                slot.task.seal(out).map(|()| slot.phase = Phase::Sealing)
            } else {
                let waited = Millis::from_ms(now.as_ms() - slot.since.as_ms());
                slot.task.idle(waited, slot.caught_up, out)
            };
            match result {
                Ok(()) => {}
                Err(TaskError::Retry { reason }) => {
                    tracing::debug!(at = %slot.at, reason, "is repeated later");
                    continue;
                }
                Err(TaskError::Fatal(reason)) => {
                    let at = slot.at.clone();
                    return Err(self.failed(&at, reason));
                }
            }
            let sealed = matches!(slot.phase, Phase::Sealing);
            if sealed {
                self.commands.push(Command::Pause(slot.at.clone()));
            }
            if sealed || slot.task.side_inputs() > before {
                slot.must_checkpoint = !Mutation::TickWithoutCheckpoint.is_on();
                slot.changed = true;
                slot.moved = true;
                self.urgent = true;
            }
            self.urgent |= out.urgent;
            slot.moved |= !out.records.is_empty();
            self.pending.push(slot.id, out.records.drain(..));
        }
        Ok(())
    }

    fn take_checkpoints(&mut self, now: Millis) {
        let Some(changelog) = self.settings.changelog.clone() else { return };
        let identity = &self.settings.identity;
        for slot in &mut self.slots {
            let Some(next) = slot.next else { continue };
            let first = slot.checkpoint == 0;
            let since = now.as_ms() - slot.checkpointed_at.as_ms();
            // While it catches up, folding again is what takes time after a crash.
            let every = self.settings.checkpoint_interval.as_ms();
            let every = if slot.caught_up { every } else { every / 2 };
            let due = slot.must_checkpoint || (slot.changed && (first || since >= every));
            let live = slot.is_live() || matches!(slot.phase, Phase::Sealing);
            if !due || !live {
                continue;
            }
            let progress = slot.task.progress();
            let side_input = slot.task.side_inputs();
            let Some(state) = slot.task.state() else { continue };
            slot.checkpoint += 1;
            state.take_dirty(&mut self.entries);
            let record = Checkpoint {
                number: slot.checkpoint,
                next: slot.published.filter(|_| Mutation::TwoPositions.is_on()).unwrap_or(next),
                clock: progress.clock,
                watermark: progress.watermark,
                flush: 0,
                side_input,
                generation: identity.generation,
                topic_id: identity.topic_id.clone(),
                fold_version: identity.fold_version,
                fingerprint: identity.fingerprint,
                input_partitions: identity.input_partitions,
            };
            let framer = &mut self.framer;
            let mut framed = Vec::with_capacity(self.entries.len() + 1);
            for Entry { key, value } in self.entries.drain(..) {
                framed.push((key, value.map(|value| framed_entry(framer, &value))));
            }
            let mut last = Vec::new();
            framer.checkpoint(&record, &mut last);
            framed.push((CHECKPOINT_KEY.to_vec(), Some(last)));
            let records = framed.into_iter().map(|(key, value)| OutRecord {
                partition: Some(slot.at.partition),
                ..OutRecord::new(&changelog, key, value)
            });
            self.pending.push(slot.id, records);
            slot.checkpointed_at = now;
            slot.must_checkpoint = false;
            slot.changed = false;
            slot.moved = true;
        }
    }

    /// What became of the transaction under way. Returns the positions that are committed.
    pub fn finished(&mut self, outcome: Outcome) -> Vec<(TopicPartition, NextOffset)> {
        match outcome {
            Outcome::Committed => self.acknowledge(),
            Outcome::Aborted => {
                self.put_back();
                Vec::new()
            }
            Outcome::Unknown if Mutation::UnknownIsCommitted.is_on() => self.acknowledge(),
            Outcome::Unknown if Mutation::UnknownIsAborted.is_on() => {
                self.put_back();
                Vec::new()
            }
            Outcome::Unknown => {
                if let Some(flight) = &mut self.flight {
                    flight.unknown = true;
                }
                self.begun = Millis::ZERO;
                Vec::new()
            }
        }
    }

    /// Time since the transaction under way was begun.
    pub fn flying_for(&self, now: Millis) -> Option<Millis> {
        self.flight.as_ref().map(|f| Millis::from_ms(now.as_ms() - f.begun.as_ms()))
    }

    fn acknowledge(&mut self) -> Vec<(TopicPartition, NextOffset)> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        let mut done = Vec::new();
        for (id, at, _, next) in flight.slots {
            if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
                slot.published = slot.published.max(Some(next));
                if matches!(slot.phase, Phase::Sealing) && !slot.moved {
                    slot.phase = Phase::Sealed;
                }
                done.push((at, next));
            }
        }
        done
    }

    fn put_back(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let slots = &self.slots;
        if !Mutation::AbortDropsOutputs.is_on() {
            self.pending.put_back(&flight.outputs, |id| slots.iter().any(|slot| slot.id == id));
        }
        for slot in &mut self.slots {
            slot.moved |= flight.slots.iter().any(|(id, ..)| *id == slot.id);
        }
        self.urgent = true;
    }

    /// Finds out whether the transaction of unknown outcome was committed: all of it was, or nothing.
    ///
    /// The number of the commit that the partition is at tells, if it is ours. Beyond it, or if
    /// somebody else has committed, the partition is not ours any more and says nothing about the
    /// others: the next one is asked.
    fn resolve(&mut self, at: &TopicPartition, committed: Option<&Committed>) -> Result<(), Error> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let slots = &self.slots;
        let owned = |(id, of, ..): &(SlotId, TopicPartition, u64, NextOffset)| {
            slots.iter().find(|slot| slot.id == *id && of == at)
        };
        let found = flight.slots.iter().enumerate().find_map(|(n, s)| Some((n, owned(s)?)));
        let Some((place, slot)) = found else { return Ok(()) };
        let commit = flight.slots[place].2;
        let Some(committed) = committed else {
            // A coordinator that moves may know nothing for a while.
            flight.asked += 1;
            if flight.asked < ASK_MOST {
                return Ok(());
            }
            if slot.published.is_none() {
                // None was ever committed.
                self.put_back();
                return Ok(());
            }
            let reason = "its committed offset is gone, so that nobody can tell whether the last \
                          transaction was committed; start again";
            return Err(self.failed(at, reason.to_owned()));
        };
        let metadata = committed.metadata.as_ref();
        let reached = metadata.map_or(0, |m| m.commit);
        let is_ours = metadata.is_some_and(|m| m.committer == self.settings.committer);
        if reached == commit && is_ours {
            self.acknowledge();
        } else if reached < commit {
            self.put_back();
        } else {
            flight.slots.remove(place);
        }
        Ok(())
    }
}

fn framed_entry(framer: &mut Framer, value: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(value.len() + 16);
    framer.entry(value, &mut frame);
    frame
}
