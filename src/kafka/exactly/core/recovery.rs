//! From a committed offset and a changelog to a task that folds.

use super::super::metadata::Committed;
use super::super::slot::{Bounds, Found, Phase, Restored, Restoring, Unfit};
use super::standby::take_entry;
use super::{ASK_EVERY, ASK_MOST, Command, Core};
use crate::kafka::error::Error;
use crate::kafka::task::TopicPartition;
use crate::model::ids::NextOffset;
use crate::model::time::Millis;

/// How long a changelog without an open transaction may lack what was committed.
const CHANGELOG_WITHIN: Millis = Millis::from_secs(30);

impl Core {
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
        if slot.has_state {
            let restoring = Restoring { committed, bounds, since: now, asked: 1, asked_at: now };
            slot.phase = Phase::Restoring(Box::new(restoring));
            return Ok(());
        }
        let start = slot.resume(committed.as_ref(), bounds);
        slot.phase = Phase::Seeking;
        slot.since = now;
        self.commands.push(Command::Read(at.clone(), start));
        Ok(())
    }

    /// One record of the changelog of a partition that is being restored. If it cannot be read,
    /// [`Core::changelog_end`] says so: where the changelog begins tells why.
    pub fn entry(&mut self, at: &TopicPartition, key: &[u8], value: Option<&[u8]>) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == *at) else {
            if let Err(reason) = self.standbys.entry(&mut self.unframer, at, key, value) {
                tracing::warn!(%at, reason, "no copy of its state can be kept");
                self.standbys.refuse(at);
                self.commands.push(Command::CloseChangelog(at.clone()));
            }
            return;
        };
        if !slot.reads_changelog() {
            return;
        }
        let state = slot.task.state().expect("only tasks with state are restored");
        let taken = take_entry(&mut self.unframer, state, &mut slot.found, key, value);
        if let Err(reason) = taken {
            slot.found.unreadable.get_or_insert(reason);
        }
    }

    /// What was handed over of a changelog is of no use: it begins again.
    ///
    /// # Errors
    /// If there is no task for it.
    pub fn read_anew(&mut self, at: &TopicPartition) -> Result<(), Error> {
        let made = self.factory.create(&at.topic, at.partition);
        let task = made.map_err(|reason| self.failed(at, reason))?;
        match self.slots.iter_mut().find(|slot| slot.at == *at) {
            Some(slot) if slot.reads_changelog() => {
                (slot.task, slot.found) = (task, Found::default());
            }
            Some(_) => {}
            None => self.standbys.begin_anew(at, task),
        }
        Ok(())
    }

    /// The changelog of a partition has been read to what is committed of it; `open` if a transaction
    /// on it is not decided yet, `first` is the offset at which the changelog begins.
    ///
    /// # Errors
    /// If the state cannot be used.
    pub fn changelog_end(
        &mut self,
        at: &TopicPartition,
        first: NextOffset,
        open: bool,
        now: Millis,
    ) -> Result<(), Error> {
        let was_cut = first.get() > 0;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.at == *at) else {
            if was_cut && self.standbys.has(at) {
                self.standbys.refuse(at);
                self.commands.push(Command::CloseChangelog(at.clone()));
            }
            return Ok(());
        };
        let Phase::Restoring(_) = &slot.phase else { return Ok(()) };
        if was_cut {
            // Compaction leaves the beginning where it is: entries that nobody replaced are gone.
            let reason = format!(
                "its changelog begins at offset {first}: it was truncated, and state is missing; \
                 `touchline state reset` starts anew"
            );
            return Err(self.failed(at, reason));
        }
        if let Some(reason) = slot.found.why_unreadable() {
            return Err(self.failed(at, reason));
        }
        let identity = &self.settings.identity;
        let Phase::Restoring(mut restoring) = std::mem::replace(&mut slot.phase, Phase::Seeking)
        else {
            unreachable!("just seen")
        };
        let waited = Millis::from_ms(now.as_ms() - restoring.since.as_ms());
        match slot.restored(&restoring, open, identity) {
            Ok(Restored::From(start)) => {
                slot.found.checkpoint = None;
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
                let reason = "there is state, but no committed offset: it has expired, or was \
                              deleted, or the input was created anew; \
                              `touchline state reset` starts anew";
                return Err(self.failed(at, reason.to_owned()));
            }
            Err(Unfit { reason, written_under: None }) => return Err(self.failed(at, reason)),
            Err(Unfit { reason, written_under: Some(fingerprint) }) => {
                let role = self.settings.role.to_owned();
                return Err(Error::Configuration { role, at: at.clone(), reason, fingerprint });
            }
        }
        slot.phase = Phase::Restoring(restoring);
        Ok(())
    }
}
