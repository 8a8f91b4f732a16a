//! What a transaction carries, and what became of it.

use super::super::metadata::Committed;
use super::super::pending::SlotId;
use super::super::slot::Phase;
use super::{
    ASK_MOST, Carried, Command, Core, Flight, OffsetToCommit, Outcome, Settings, Settled,
    Transaction,
};
use crate::codec::checkpoint::{CHECKPOINT_KEY, Checkpoint, Framer, IDENTITY_KEY};
use crate::codec::inputs::{InForce, SideInput, Taken};
use crate::engine::mutation::Mutation;
use crate::engine::state::Entry;
use crate::kafka::error::Error;
use crate::kafka::task::{OutRecord, TaskError, TopicPartition};
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use compact_str::format_compact;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// How often tasks are told that nothing came.
const IDLE_CHECK: Millis = Millis::from_ms(250);

impl Core {
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
        for slot in &mut self.slots {
            let moved = slot.moved || owners.contains(&slot.id);
            let Some(position) = slot.position().filter(|_| moved) else { continue };
            if !slot.is_level() || matches!(slot.phase, Phase::Asking { .. } | Phase::Restoring(_))
            {
                continue;
            }
            slot.moved = false;
            slot.commit += 1;
            let metadata = slot.metadata(&self.settings).to_string();
            let (at, next) = (slot.at.clone(), position.next);
            if !(Mutation::IdleOffsetsLeftOut.is_on() && slot.published == Some(position)) {
                offsets.push(OffsetToCommit { at: at.clone(), next, metadata });
            }
            slots.push(Carried { slot: slot.id, at, commit: slot.commit, position });
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
            if !slot.is_live() || slot.next.is_none() || slot.is_in_part() {
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
            let number = slot.task.side_inputs();
            if sealed || number > before {
                slot.must_checkpoint = !Mutation::TickWithoutCheckpoint.is_on();
                slot.changed = true;
                slot.moved = true;
                self.urgent = true;
            }
            self.urgent |= out.urgent;
            slot.moved |= !out.records.is_empty();
            self.pending.push(slot.id, out.records.drain(..));
            let Some(topic) = self.settings.inputs.as_ref().filter(|_| number > before) else {
                continue;
            };
            // The checkpoint follows before anything else is folded, in the same transaction.
            let (at, next) = (slot.at.clone(), slot.next.expect("it has a position"));
            let Some(taken) = out.side_input.take() else {
                let reason = "it took a side input and did not say which";
                return Err(self.failed(&at, reason.to_owned()));
            };
            let record = recorded(topic, at.partition, &SideInput { number, next, taken });
            self.pending.push(slot.id, Some(record).filter(|_| !Mutation::TickUnrecorded.is_on()));
        }
        Ok(())
    }

    /// Appends the checkpoints that are due. Those of the interval take turns: the states of all
    /// partitions at once would be a large transaction, and be in memory several times.
    fn take_checkpoints(&mut self, now: Millis) {
        let interval = self.settings.checkpoint_interval.as_ms();
        let waited = now.as_ms() - self.begun.as_ms();
        let slots = self.slots.len() as i64;
        // So many that each has its turn in time; while they catch up, half of it.
        let mut turns = 1 + 2 * slots * waited.min(interval) / interval.max(1);
        let mut oldest_first: Vec<usize> = (0..self.slots.len()).collect();
        oldest_first.sort_by_key(|place| self.slots[*place].checkpointed_at);
        for place in oldest_first {
            let slot = &self.slots[place];
            let since = now.as_ms() - slot.checkpointed_at.as_ms();
            // While it catches up, folding again is what takes time after a crash.
            let every = if slot.caught_up { interval } else { interval / 2 };
            let must = slot.must_checkpoint || (slot.changed && slot.checkpoint == 0);
            let due = must || (slot.changed && since >= every && turns > 0);
            let live = slot.is_live() || matches!(slot.phase, Phase::Sealing);
            // What a record has done halfway is no state.
            let halfway = slot.is_in_part() && !Mutation::CheckpointInPart.is_on();
            if due && live && !halfway {
                turns -= i64::from(!must);
                self.take_checkpoint(place, now);
            }
        }
    }

    /// Appends a checkpoint of a partition at its position to what waits.
    pub(super) fn take_checkpoint(&mut self, place: usize, now: Millis) {
        let Some(changelog) = self.settings.changelog.clone() else { return };
        let Settings { identity, committer, run, .. } = &self.settings;
        let slot = &mut self.slots[place];
        let Some(next) = slot.next else { return };
        let progress = slot.task.progress();
        let side_input = slot.task.side_inputs();
        let Some(state) = slot.task.state() else { return };
        slot.checkpoint += 1;
        state.take_dirty(&mut self.entries);
        let inputs = self.settings.inputs.as_ref();
        if let Some((topic, from)) = inputs.zip(slot.switched.take()) {
            let to = InForce::new(identity.fold_version, identity.fingerprint);
            let taken = Taken::Switch { from, to };
            let input = SideInput { number: side_input, next, taken };
            self.pending.push(slot.id, [recorded(topic, slot.at.partition, &input)]);
        }
        let first = slot.checkpoint == 1;
        if first {
            let who = format!("{run} {committer} {} {}", slot.at, now.as_ms());
            slot.found.changelog = format_compact!("{:016x}", xxh3_64(who.as_bytes()));
        }
        let old = slot.published.filter(|_| Mutation::TwoPositions.is_on());
        let record = Checkpoint {
            number: slot.checkpoint,
            next: old.map_or(next, |published| published.next),
            clock: progress.clock,
            watermark: progress.watermark,
            flush: 0,
            side_input,
            generation: identity.generation,
            changelog: slot.found.changelog.clone(),
            fold_version: identity.fold_version,
            fingerprint: identity.fingerprint,
            input_partitions: identity.input_partitions,
        };
        let framer = &mut self.framer;
        let mut framed = Vec::with_capacity(self.entries.len() + 2);
        if first {
            let id = framed_entry(framer, slot.found.changelog.as_bytes());
            framed.push((IDENTITY_KEY.to_vec(), Some(id)));
        }
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

    /// Checkpoints that were acknowledged since it was asked last: what a local copy of the changelog
    /// needs.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// Time since the transaction under way was begun.
    pub fn flying_for(&self, now: Millis) -> Option<Millis> {
        self.flight.as_ref().map(|f| Millis::from_ms(now.as_ms() - f.begun.as_ms()))
    }

    fn acknowledge(&mut self) -> Vec<(TopicPartition, NextOffset)> {
        let Some(flight) = self.flight.take() else { return Vec::new() };
        let mut done = Vec::new();
        self.settle(&flight);
        for Carried { slot: id, at, position, .. } in flight.slots {
            if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
                slot.published = slot.published.max(Some(position));
                if matches!(slot.phase, Phase::Sealing) && !slot.moved {
                    slot.phase = Phase::Sealed;
                }
                done.push((at, position.next));
            }
        }
        done
    }

    /// Tells which checkpoints a transaction carried, for local copies.
    fn settle(&mut self, flight: &Flight) {
        let Some(changelog) = self.settings.changelog.as_ref() else { return };
        if !self.settings.keeps_copies {
            return;
        }
        for Carried { slot, at, .. } in &flight.slots {
            let (at, changelog, outputs) = (at.clone(), changelog.clone(), flight.outputs.clone());
            let settled = Settled { at, slot: *slot, changelog, outputs };
            self.settled.extend(Some(settled).filter(|s| s.checkpoint().is_some()));
        }
    }

    fn put_back(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        if Mutation::CopyOfAborted.is_on() {
            self.settle(&flight);
        }
        let slots = &self.slots;
        if !Mutation::AbortDropsOutputs.is_on() {
            self.pending.put_back(&flight.outputs, |id| slots.iter().any(|slot| slot.id == id));
        }
        for slot in &mut self.slots {
            slot.moved |= flight.slots.iter().any(|c| c.slot == slot.id);
        }
        self.urgent = true;
    }

    /// Finds out whether the transaction of unknown outcome was committed: all of it was, or nothing.
    ///
    /// The number of the commit that the partition is at tells, if it is ours: a successor of our name
    /// counts on from where we were. Beyond it, or if somebody else has committed, the partition is
    /// not ours any more and says nothing about the others: the next one is asked.
    pub(super) fn resolve(
        &mut self,
        at: &TopicPartition,
        committed: Option<&Committed>,
    ) -> Result<(), Error> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let slots = &self.slots;
        let owned = |c: &Carried| slots.iter().find(|slot| slot.id == c.slot && c.at == *at);
        let found = flight.slots.iter().enumerate().find_map(|(n, s)| Some((n, owned(s)?)));
        let Some((place, slot)) = found else { return Ok(()) };
        let commit = flight.slots[place].commit;
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
        let Settings { committer, run, .. } = &self.settings;
        let is_ours = metadata.is_some_and(|m| m.committer == *committer && m.run == *run);
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

fn recorded(topic: &Arc<str>, partition: PartitionId, input: &SideInput) -> OutRecord {
    OutRecord {
        partition: Some(partition),
        ..OutRecord::new(topic, input.key(), Some(input.to_json()))
    }
}

fn framed_entry(framer: &mut Framer, value: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(value.len() + 16);
    framer.entry(value, &mut frame);
    frame
}
