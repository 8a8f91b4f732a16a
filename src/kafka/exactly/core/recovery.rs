//! From a committed offset and a changelog to a task that folds.

use super::super::metadata::Committed;
use super::super::slot::{Bounds, Phase, Restored, Restoring};
use super::{ASK_EVERY, ASK_MOST, Command, Core};
use crate::codec::checkpoint::CHECKPOINT_KEY;
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
        if slot.task.state().is_some() {
            let restoring =
                Restoring { committed, bounds, found: None, since: now, asked: 1, asked_at: now };
            slot.phase = Phase::Restoring(Box::new(restoring));
            self.commands.push(Command::ReadChangelog(at.clone()));
            return Ok(());
        }
        let start = slot.resume(committed.as_ref(), bounds);
        slot.phase = Phase::Seeking;
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
    /// on it is not decided yet, `first` is the offset at
    /// which the changelog begins.
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
        if first.get() > 0 {
            // Compaction leaves the beginning where it is: entries that nobody replaced are gone.
            let reason = format!(
                "its changelog begins at offset {first}: it was truncated, and state is missing; \
                 `touchline state reset` starts anew"
            );
            return Err(self.failed(at, reason));
        }
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
                slot.phase = Phase::Seeking;
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
}
