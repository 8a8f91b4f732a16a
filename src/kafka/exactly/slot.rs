//! One partition of a worker, from its assignment to its revocation.

use super::core::{Identity, Settings, Start};
use super::metadata::{Committed, Metadata};
use super::pending::SlotId;
use crate::codec::checkpoint::Checkpoint;
use crate::codec::inputs::InForce;
use crate::engine::mutation::Mutation;
use crate::kafka::task::{Task, TopicPartition};
use crate::model::ids::NextOffset;
use crate::model::time::Millis;
use compact_str::CompactString;

/// First and next offset of a partition of the input, as a reader of committed records sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The oldest record that is still there has this offset or a higher one.
    pub low: NextOffset,
    /// The next record will have this offset or a higher one.
    pub high: NextOffset,
}

/// How far a partition is, in its state or in what is published of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    /// Everything below.
    pub(super) next: NextOffset,
    /// And so many parts of the record there.
    pub(super) part: u64,
}

impl Committed {
    /// What is published.
    pub(super) fn position(&self) -> Position {
        let part = self.metadata.as_ref().map_or(0, |metadata| metadata.part);
        let part = if Mutation::PartForgotten.is_on() { 0 } else { part };
        Position { next: self.next, part }
    }
}

/// What a slot is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// Wants to know its committed offset, not before `after`.
    Asking { asked: bool, after: Millis },
    /// Reads its changelog.
    Restoring(Box<Restoring>),
    /// Is to be read from a position at which the client is not yet: what comes is of another one.
    Seeking,
    /// Folds.
    Running,
    /// Its task asked for a retry, at `at`.
    Waiting { at: Millis },
    /// Its task is sealed; the transaction that says so is not acknowledged.
    Sealing,
    /// Its task is sealed for good.
    Sealed,
}

/// What is known while a changelog is read.
#[derive(Debug)]
pub(super) struct Restoring {
    pub(super) committed: Option<Committed>,
    pub(super) bounds: Bounds,
    pub(super) since: Millis,
    /// How often the committed offset was asked for.
    pub(super) asked: u32,
    /// And when for the last time.
    pub(super) asked_at: Millis,
}

/// What was read of a changelog besides entries.
#[derive(Default, Debug)]
pub(super) struct Found {
    /// The last checkpoint.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What its identity record says; empty without one.
    pub(super) changelog: CompactString,
    /// Why an entry could not be taken in.
    pub(super) unreadable: Option<String>,
}

impl Found {
    /// True if the changelog was deleted and created anew since its last checkpoint but one.
    fn is_of_another_changelog(&self) -> bool {
        let said = self.checkpoint.as_ref().map(|checkpoint| &checkpoint.changelog);
        said.is_some_and(|said| *said != self.changelog) && !Mutation::AnotherChangelog.is_on()
    }

    /// Why what was read is of no use, if an entry could not be taken in.
    pub(super) fn why_unreadable(&self) -> Option<String> {
        let reason = self.unreadable.as_ref()?;
        Some(match self.is_of_another_changelog() {
            true => ANOTHER.to_owned(),
            false => format!("an entry of its changelog cannot be read: {reason}"),
        })
    }
}

/// What the end of a changelog means for a restore.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Restored {
    /// Read on: what is committed is not all there yet.
    NotYet,
    /// Ask for the committed offset again: there must be one.
    AskAgain,
    /// Fold from here.
    From(Start),
}

/// One partition and its task.
pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) at: TopicPartition,
    pub(super) task: Box<dyn Task>,
    pub(super) phase: Phase,
    /// Its task has state, and so a changelog, which is read from the moment it came.
    pub(super) has_state: bool,
    /// What was read of its changelog; its identity stays.
    pub(super) found: Found,
    /// The offset to fold next; `None` until something came, if the start has no number.
    pub(super) next: Option<NextOffset>,
    /// Parts of the record there that are folded already: its outputs had no room all at once.
    pub(super) part: u64,
    /// Outputs of records below are published.
    pub(super) published: Option<Position>,
    /// Where to stop, in a bounded run.
    pub(super) end: Option<NextOffset>,
    pub(super) caught_up: bool,
    /// When the last record came.
    pub(super) since: Millis,
    /// How long to wait before the next retry.
    pub(super) delay: Millis,
    /// Number of the last commit that was begun.
    pub(super) commit: u64,
    /// Number of the last checkpoint that was begun.
    pub(super) checkpoint: u64,
    pub(super) checkpointed_at: Millis,
    /// A side input was taken, or the slot is about to go: the next transaction carries a checkpoint.
    pub(super) must_checkpoint: bool,
    /// What was in force before: the next checkpoint is the first under something else.
    pub(super) switched: Option<InForce>,
    /// Something has changed since the last checkpoint.
    pub(super) changed: bool,
    /// The position moved, or outputs came, since the last transaction was begun.
    pub(super) moved: bool,
    /// Timestamp of the last record in ms; −1 if there is none.
    pub(super) last_timestamp: i64,
}

impl Slot {
    pub(super) fn new(id: SlotId, at: TopicPartition, task: Box<dyn Task>, now: Millis) -> Slot {
        Slot {
            id,
            at,
            task,
            phase: Phase::Asking { asked: false, after: now },
            has_state: false,
            found: Found::default(),
            next: None,
            part: 0,
            published: None,
            end: None,
            caught_up: false,
            since: now,
            delay: Millis::ZERO,
            commit: 0,
            checkpoint: 0,
            checkpointed_at: now,
            must_checkpoint: false,
            switched: None,
            changed: false,
            moved: false,
            last_timestamp: -1,
        }
    }

    /// True if everything that is published has been folded.
    pub(super) fn is_level(&self) -> bool {
        self.published.is_none_or(|published| self.position() >= Some(published))
    }

    pub(super) fn position(&self) -> Option<Position> {
        Some(Position { next: self.next?, part: self.part })
    }

    /// True in the middle of a record: its state is none to keep, and nothing else may be folded.
    pub(super) fn is_in_part(&self) -> bool {
        self.part > 0
    }

    /// True if it may say something: it folds, and what it says is new.
    pub(super) fn is_live(&self) -> bool {
        let folds = matches!(self.phase, Phase::Seeking | Phase::Running | Phase::Waiting { .. });
        folds && self.is_level()
    }

    /// True while its changelog is read.
    pub(super) fn reads_changelog(&self) -> bool {
        match self.phase {
            Phase::Asking { .. } => self.has_state,
            Phase::Restoring(_) => true,
            _ => false,
        }
    }

    /// True while its state is brought back.
    pub(super) fn is_restoring(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. } | Phase::Restoring(_)) || !self.is_level()
    }

    pub(super) fn move_to(&mut self, next: NextOffset) {
        if self.next < Some(next) {
            (self.next, self.part) = (Some(next), 0);
            self.moved = true;
            self.changed = true;
        }
    }

    /// True if a bounded run ends here.
    pub(super) fn wants_seal(&self) -> bool {
        let Some(end) = self.end else { return false };
        let reached = self.next.is_some_and(|next| next >= end);
        reached && matches!(self.phase, Phase::Running) && self.is_level()
    }

    /// What stands beside its next committed offset.
    pub(super) fn metadata(&self, settings: &Settings) -> Metadata {
        Metadata {
            generation: settings.identity.generation,
            commit: self.commit,
            checkpoint: self.checkpoint,
            side_input: self.task.side_inputs(),
            part: self.part,
            watermark: self.task.progress().watermark,
            run: settings.run,
            committer: settings.committer.clone(),
        }
    }

    /// Takes over where a task without state goes on.
    pub(super) fn resume(&mut self, committed: Option<&Committed>, bounds: Bounds) -> Start {
        let Some(committed) = committed else { return Start::Configured };
        self.commit = committed.metadata.as_ref().map_or(0, |m| m.commit);
        self.task.resume(committed.metadata.as_ref().and_then(|m| m.watermark));
        // What the source has dropped meanwhile is gone: there is no state that misses it.
        let next = committed.next.max(bounds.low);
        self.next = Some(next);
        self.published = Some(committed.position());
        Start::At(next)
    }

    /// The changelog has been read to its end; `open` if a transaction on it is not decided yet. `Err`
    /// says why the state cannot be used.
    pub(super) fn restored(
        &mut self,
        restoring: &Restoring,
        open: bool,
        identity: &Identity,
    ) -> Result<Restored, Unfit> {
        let Restoring { committed, bounds, .. } = restoring;
        let (committed, found) = match (committed, &self.found.checkpoint) {
            // A coordinator may say for a moment that it knows nothing, while the only checkpoint waits
            // for its marker: nothing is begun anew before the changelog is decided.
            (None, None) if open && !Mutation::OpenChangelogIgnored.is_on() => {
                return Ok(Restored::NotYet);
            }
            (None, None) => return Ok(Restored::From(Start::Configured)),
            (None, Some(_)) if Mutation::SilentReset.is_on() => {
                return Ok(Restored::From(Start::Configured));
            }
            (None, Some(_)) => return Ok(Restored::AskAgain),
            (Some(committed), found) => (committed, found),
        };
        let next = committed.next;
        let Some(metadata) = &committed.metadata else {
            return Err(format!("offset {next} was committed by somebody else; {RESET}").into());
        };
        let Some(found) = found else { return Ok(Restored::NotYet) };
        let behind = metadata.checkpoint > found.number || metadata.side_input > found.side_input;
        if behind && !Mutation::RestoreTooEarly.is_on() {
            return Ok(Restored::NotYet);
        }
        // Somebody has committed since the offset was asked for: this worker was slow, and may have
        // lost the partition without knowing. That is no damage.
        if found.number > metadata.checkpoint {
            return Ok(Restored::AskAgain);
        }
        let state = self.task.state().expect("a task that is restored has state");
        fits(found, committed, *bounds, metadata, identity)?;
        if self.found.is_of_another_changelog() {
            return Err(ANOTHER.to_owned().into());
        }
        state.restored().map_err(|e| e.to_string())?;
        self.commit = metadata.commit;
        self.checkpoint = found.number;
        self.next = Some(found.next);
        let until_end = Position { next: restoring.bounds.high.max(next), part: 0 };
        let published = committed.position();
        self.published = Some(if Mutation::DropsByMode.is_on() { until_end } else { published });
        // A configuration or version that is new here is in force from K = C on. The first transaction
        // under it says so: else what it published would be folded again as before.
        let is_new = (found.fold_version, found.fingerprint)
            != (identity.fold_version, identity.fingerprint);
        self.must_checkpoint = is_new && !Mutation::SwitchWithoutCheckpoint.is_on();
        self.switched = is_new.then(|| InForce::new(found.fold_version, found.fingerprint));
        Ok(Restored::From(Start::At(found.next)))
    }
}

/// Why a state cannot be used.
pub(super) struct Unfit {
    pub(super) reason: String,
    /// The configuration that it needs, if that is why.
    pub(super) written_under: Option<u128>,
}

impl From<String> for Unfit {
    fn from(reason: String) -> Unfit {
        Unfit { reason, written_under: None }
    }
}

const ANOTHER: &str = "its changelog was deleted and created anew while it was in use: \
                       what stood in it before is missing; `touchline state reset` starts anew, \
                       `--dry-run` shows what that does";
/// What helps if a state cannot be used.
const RESET: &str = "`touchline state reset` starts anew, `--dry-run` shows what that does";
/// What helps if a state belongs to another version.
const SEAL: &str = "start the old one once with `touchline state seal`, then this one";

/// Checks that a checkpoint, the committed offset, the input and this program belong together.
fn fits(
    found: &Checkpoint,
    committed: &Committed,
    bounds: Bounds,
    metadata: &Metadata,
    identity: &Identity,
) -> Result<(), Unfit> {
    let (k, c) = (found.next, committed.next);
    let Bounds { low, high } = bounds;
    if found.generation != metadata.generation || found.generation != identity.generation {
        return Err(format!(
            "its checkpoint is of generation {}, its committed offset of {}, and this application \
             is at {}; {RESET}",
            found.generation, metadata.generation, identity.generation,
        )
        .into());
    }
    if found.input_partitions != identity.input_partitions {
        return Err(format!(
            "the input had {} partitions when the state was written and has {} now: keys are in \
             other partitions; {RESET}",
            found.input_partitions, identity.input_partitions,
        )
        .into());
    }
    if c < k {
        return Err(format!(
            "offset {c} is committed, but the state contains everything below {k}; {RESET}"
        )
        .into());
    }
    if k < low && !Mutation::GapIgnored.is_on() {
        return Err(format!(
            "the input from offset {k} on is needed, and its oldest record is {low}; {RESET}"
        )
        .into());
    }
    if c > high {
        return Err(format!(
            "offset {c} is committed, but the input ends at {high}: it was truncated or created \
             anew; {RESET}"
        )
        .into());
    }
    let same =
        (found.fold_version, found.fingerprint) == (identity.fold_version, identity.fingerprint);
    if !same && (k != c || metadata.part > 0) && !Mutation::SwitchInRefold.is_on() {
        let reason = format!(
            "it was written by version {} of the fold under configuration {:032x}, this is version \
             {} under {:032x}, and offsets {k} to {c} have to be folded again as before; {SEAL}",
            found.fold_version, found.fingerprint, identity.fold_version, identity.fingerprint,
        );
        return Err(Unfit { reason, written_under: Some(found.fingerprint) });
    }
    Ok(())
}
