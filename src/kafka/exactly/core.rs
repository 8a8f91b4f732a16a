//! The decisions of one worker: what it reads, folds, commits and restores.
//!
//! No client, no clock, no thread: whoever drives it tells it what happened and at what time of the
//! worker's own monotonic clock, and does what it asks for ([`Command`], [`Transaction`]). The worker
//! on Kafka and the simulation of the tests are two such drivers.
//!
//! | file | what |
//! | --- | --- |
//! | `words` | what goes in and out |
//! | `recovery` | from a committed offset and a changelog to a task that folds |
//! | `commit` | what a transaction carries, and what became of it |
//! | `standby` | copies of states that others own |

mod commit;
mod recovery;
mod standby;
#[cfg(test)]
mod tests;
mod words;

pub use words::{
    Command, Folded, Identity, Membership, OffsetToCommit, Outcome, Settings, Settled, Start,
    Transaction, View,
};

use super::pending::{Pending, SlotId};
pub use super::slot::Bounds;
use super::slot::{Found, Phase, Position, Slot};
use crate::codec::checkpoint::{Framer, Unframer};
use crate::engine::mutation::Mutation;
use crate::engine::state::Entry;
use crate::kafka::error::Error;
use crate::kafka::task::{
    Produced, Record, TaskError, TaskFactory, TaskProgress, TopicPartition, Upcoming,
};
use crate::kafka::waits;
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use compact_str::CompactString;
use standby::Standbys;
use std::sync::Arc;

/// Between two questions for a committed offset.
const ASK_EVERY: Millis = Millis::from_ms(200);
/// A committed offset that must be there is asked for so often.
const ASK_MOST: u32 = 25;

/// A partition in a transaction.
struct Carried {
    slot: SlotId,
    at: TopicPartition,
    /// Number of its commit.
    commit: u64,
    position: Position,
}

/// A transaction under way: what it carries is kept.
struct Flight {
    outputs: Arc<Pending>,
    slots: Vec<Carried>,
    begun: Millis,
    /// Its outcome is to be found out by the committed offset of a slot that is still owned.
    unknown: bool,
    /// How often that was asked for in vain.
    asked: u32,
}

/// The decisions of one worker.
pub struct Core {
    settings: Settings,
    factory: Arc<dyn TaskFactory>,
    slots: Vec<Slot>,
    /// Name in the group under which the partitions came.
    member: Option<CompactString>,
    standbys: Standbys,
    /// Where the last record was: records come in runs.
    last: usize,
    slot_ids: SlotId,
    pending: Pending,
    flight: Option<Flight>,
    /// Checkpoints that are acknowledged and not taken yet.
    settled: Vec<Settled>,
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
            member: None,
            standbys: Standbys::default(),
            last: 0,
            slot_ids: 0,
            pending: Pending::default(),
            flight: None,
            settled: Vec::new(),
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
            restoring: slot.is_restoring(),
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

    /// Nothing is read for a while: that nothing comes says nothing about what there is.
    pub fn pauses(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.caught_up = false);
    }

    /// True in the middle of a record, whose rest waits for room.
    pub fn is_in_part(&self) -> bool {
        self.slots.iter().any(Slot::is_in_part)
    }

    /// True while a transaction is under way.
    pub fn is_flying(&self) -> bool {
        self.flight.is_some()
    }

    /// True if nothing waits to be committed.
    pub fn is_quiet(&self) -> bool {
        self.flight.is_none()
            && self.pending.is_empty()
            && !self.is_in_part()
            && !self.slots.iter().any(|slot| slot.moved && slot.is_live())
    }

    fn slot(&mut self, at: &TopicPartition) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.at == *at)
    }

    fn failed(&self, at: &TopicPartition, reason: String) -> Error {
        Error::Task { role: self.settings.role.to_owned(), at: at.clone(), reason }
    }

    /// Partitions are about to come to the member of this name.
    pub fn joined(&mut self, member: Option<&str>) {
        if self.slots.is_empty() {
            self.member = member.map(CompactString::from);
        }
    }

    /// To be asked with the present name in the group before a transaction is handed over, and after
    /// the group's metadata for it were taken.
    ///
    /// Metadata of the group fence a member that has fallen out of it, but not one that has joined
    /// again since. A static member that learns of its fall when it joins (librdkafka 2.12: the answer
    /// to `JoinGroup` is "unknown member") keeps its partitions without a word, while others have had
    /// them.
    pub fn membership(&mut self, member: Option<&str>) -> Membership {
        if Mutation::MemberIgnored.is_on() {
            return Membership::Same;
        }
        match member {
            None => Membership::Nobody,
            Some(_) if member == self.member.as_deref() => Membership::Same,
            Some(_) => {
                let all: Vec<TopicPartition> = self.slots.iter().map(|s| s.at.clone()).collect();
                for at in &all {
                    self.revoke(at);
                }
                Membership::Another(all)
            }
        }
    }

    /// A partition comes. It is not read before [`Command::Read`].
    ///
    /// # Errors
    /// If there is no task for it.
    pub fn assign(&mut self, at: TopicPartition, now: Millis) -> Result<(), Error> {
        let (task, found) = match self.standbys.take(&at) {
            Some(warm) => warm,
            None => {
                let made = self.factory.create(&at.topic, at.partition);
                (made.map_err(|reason| self.failed(&at, reason))?, Found::default())
            }
        };
        self.slot_ids += 1;
        let mut slot = Slot::new(self.slot_ids, at, task, now);
        (slot.has_state, slot.found) = (slot.task.state().is_some(), found);
        if slot.has_state {
            // Beside the question for its offset: a coordinator that has to end the transaction of a
            // predecessor first takes its time.
            self.commands.push(Command::ReadChangelog(slot.at.clone()));
        }
        self.slots.push(slot);
        Ok(())
    }

    /// A partition goes, and with it its state and what it has not published.
    pub fn revoke(&mut self, at: &TopicPartition) {
        let Some(place) = self.slots.iter().position(|slot| slot.at == *at) else { return };
        let slot = self.slots.remove(place);
        self.pending.drop_slot(slot.id);
        // What was still to be done for it would be done for its next stay here.
        self.commands.retain(|command| !command.is_of_stay(at));
        if slot.reads_changelog() {
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
            self.flight.iter().flat_map(|f| f.slots.iter().map(|c| &c.at)).collect();
        for slot in &mut self.slots {
            match &mut slot.phase {
                // What is under way may still commit an offset of the partition's last stay here.
                Phase::Asking { asked, after }
                    if !*asked && *after <= now && !flying.contains(&&slot.at) =>
                {
                    *asked = true;
                    self.commands.push(Command::AskCommitted(slot.at.clone()));
                }
                Phase::Waiting { at } if slot.task.may_go_on().unwrap_or(*at <= now) => {
                    let next = slot.next.expect("set when the task asked for a retry");
                    slot.phase = Phase::Seeking;
                    self.commands.push(Command::Read(slot.at.clone(), Start::At(next)));
                }
                _ => {}
            }
        }
        let follows = self.settings.standby_replicas > 0 && self.settings.changelog.is_some();
        if follows && self.standbys.wants_owners(now) {
            self.commands.push(Command::AskOwners);
        }
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.unknown) {
            let owned =
                flight.slots.iter().find(|c| self.slots.iter().any(|slot| slot.id == c.slot));
            match owned {
                Some(Carried { at, .. })
                    if self.begun.as_ms() + ASK_EVERY.as_ms() <= now.as_ms() =>
                {
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

    /// The client reads a partition from where [`Command::Read`] said. What came before is skipped:
    /// offsets have gaps, so that nothing but the client's word tells where a record belongs.
    pub fn reads(&mut self, at: &TopicPartition) {
        if let Some(slot) = self.slot(at)
            && matches!(slot.phase, Phase::Seeking)
        {
            slot.phase = Phase::Running;
        }
    }

    /// What comes next: what is kept for it is brought into the cache. Changes nothing.
    pub fn fetch(&self, next: &Upcoming<'_>) {
        let is =
            |slot: &&Slot| slot.at.partition == next.partition && *slot.at.topic == *next.topic;
        let slot = self.slots.iter().find(is);
        if let Some(slot) = slot.filter(|slot| matches!(slot.phase, Phase::Running)) {
            slot.task.fetch(&next.keys);
        }
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
        let early = Mutation::FoldsBeforeSeek.is_on() && matches!(slot.phase, Phase::Seeking);
        if !matches!(slot.phase, Phase::Running) && !early {
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
        let here = NextOffset::new(record.offset.get());
        debug_assert!(slot.part == 0 || slot.next == Some(here), "nothing comes in mid record");
        // What is folded now may be published in parts, without a checkpoint beside them: one must say
        // before that there is a state, and under which configuration.
        let unsaid = slot.checkpoint == 0 || slot.must_checkpoint;
        if unsaid && !slot.is_in_part() && slot.is_level() && self.settings.changelog.is_some() {
            slot.next = Some(here);
            self.take_checkpoint(self.last, now);
        }
        let result = loop {
            let (slot, out) = (&mut self.slots[self.last], &mut self.produced);
            out.clear();
            // What was published is folded again for the state alone.
            out.replaying = Some(Position { next: here, part: slot.part }) < slot.published;
            let result = slot.task.record(record, out);
            if result.is_ok() && (!out.replaying || Mutation::RefoldPublishes.is_on()) {
                self.urgent |= out.urgent;
                if !out.records.is_empty() {
                    self.pending.push(slot.id, out.records.drain(..));
                }
            }
            match result {
                Ok(()) if slot.task.has_more() => {
                    (slot.next, slot.part) = (Some(here), slot.part + 1);
                    (slot.moved, slot.changed) = (true, true);
                    if !self.has_room() {
                        return Ok(Folded::InPart);
                    }
                }
                Err(TaskError::Retry { reason }) if slot.is_in_part() => {
                    break Err(TaskError::Fatal(format!(
                        "it asked to wait in mid record: {reason}"
                    )));
                }
                result => break result,
            }
        };
        let slot = &mut self.slots[self.last];
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
                slot.next = Some(here);
                slot.caught_up = false;
                slot.delay = waits::after(slot.delay);
                waits::tell(&slot.at, slot.delay, &reason);
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
            debug_assert!(!slot.is_in_part(), "the rest of a record comes before the end");
            slot.move_to(next);
            slot.caught_up = true;
        }
    }
}
