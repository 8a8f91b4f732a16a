//! A worker that delivers exactly once: drives the decisions of [`Core`] with a real client.
//!
//! One round: serve the client's events; answer rebalances; take what became of the last transaction;
//! do what the core asks for; read changelogs; unless too many bytes wait, take a batch and fold it;
//! begin a transaction if one is due. Nothing here waits longer than the client may go unserved, but
//! for questions to the coordinator.

mod ask;

use super::committer::Committer;
use super::core::{Command, Core, Folded, Membership, Outcome, Start};
use super::heir::end_orphaned_meanwhile;
use super::restorer::{Mode, Restorer};
use crate::clock::Moment;
use crate::kafka::batch::{BatchConsumer, Change, Event, SERVE_EVERY_MS};
use crate::kafka::client::list_of;
use crate::kafka::error::Error;
use crate::kafka::group::{Sight, subscribe};
use crate::kafka::local::{Claim, LocalState};
use crate::kafka::observer::age_secs;
use crate::kafka::reader::fatal;
use crate::kafka::task::TopicPartition;
use crate::kafka::worker::{Full, Surroundings};
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// How long a revocation or a stop may wait for its last transaction: below the session time-out.
const FLUSH_WITHIN: Millis = Millis::from_secs(8);
/// In a bounded run nobody waits for the partitions, and a run that does not finish is to be repeated.
const FINISH_WITHIN: Millis = Millis::from_secs(120);
const TELL_EVERY: Millis = Millis::from_secs(1);
const WAIT: Duration = Duration::from_millis(SERVE_EVERY_MS as u64);
/// While a transaction is under way or changelogs are read, those are looked at more often.
const WAIT_BUSY: Duration = Duration::from_millis(5);
/// A question to the coordinator keeps other partitions waiting.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// What the core wants to know of the coordinator.
#[derive(Default)]
struct Questions {
    committed: Vec<TopicPartition>,
    owners: bool,
}

/// The worker.
pub(crate) struct ExactWorker {
    around: Surroundings,
    consumer: BatchConsumer,
    core: Core,
    committer: Committer,
    restorers: Vec<Restorer>,
    local: Option<Arc<LocalState>>,
    /// Whose local copies are kept.
    claims: BTreeMap<PartitionId, Claim>,
    /// The offsets behind their last checkpoint records, as far as the broker has said.
    written: BTreeMap<PartitionId, NextOffset>,
    /// Partitions to read on, once the client can.
    to_read: Vec<(TopicPartition, Start)>,
    /// Partitions whose changelog is to be read.
    to_restore: Vec<TopicPartition>,
    /// Partitions of others whose changelog is to be followed.
    to_follow: Vec<TopicPartition>,
    /// What was full since it was told last.
    full: Full,
    started: Moment,
    told: Moment,
}

impl ExactWorker {
    pub(crate) fn new(
        around: Surroundings,
        consumer: BatchConsumer,
        core: Core,
        committer: Committer,
        local: Option<Arc<LocalState>>,
    ) -> ExactWorker {
        let (restorers, to_read) = (Vec::new(), Vec::new());
        let (to_restore, to_follow) = (Vec::new(), Vec::new());
        let (started, told) = (Moment::now(), Moment::now());
        ExactWorker {
            around,
            consumer,
            core,
            committer,
            restorers,
            local,
            claims: BTreeMap::new(),
            written: BTreeMap::new(),
            to_read,
            to_restore,
            to_follow,
            full: Full::default(),
            started,
            told,
        }
    }

    fn now(&self) -> Millis {
        self.started.elapsed()
    }

    /// Works until it is told to stop, a bounded run is over, or something fails.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        loop {
            self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
            self.answer_changes()?;
            self.take_report(Duration::ZERO)?;
            if self.around.shared.is_stopped() {
                return self.leave();
            }
            if self.is_over() {
                return self.leave();
            }
            if let Some(ends) = self.around.shared.ends() {
                self.core.stop_at(|at| ends.of(at));
            }
            self.obey()?;
            let restored = self.restore()?;
            self.fold(restored > 0)?;
            self.begin(false)?;
            self.tell();
        }
    }

    fn is_over(&self) -> bool {
        let Surroundings { starts, shared, .. } = &self.around;
        // A member that leaves early would move its partitions to the others.
        shared.ends().is_some() && starts.keys().all(|at| shared.is_sealed(at))
    }

    fn answer_changes(&mut self) -> Result<(), Error> {
        for change in self.consumer.take_changes() {
            match change {
                Change::Assign(partitions) => self.take_over(&partitions)?,
                Change::Revoke { partitions, lost } => self.give_up(&partitions, lost)?,
            }
        }
        Ok(())
    }

    fn take_over(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let assigning = |e| Error::broker("taking over partitions", e);
        let mut list = TopicPartitionList::new();
        let now = self.now();
        self.core.joined(self.consumer.member().as_deref());
        for at in partitions {
            self.core.assign(at.clone(), now)?;
            let start = self.around.starts.get(at).copied().unwrap_or(Offset::Beginning);
            list.add_partition_offset(&at.topic, at.partition.get(), start).map_err(assigning)?;
            self.around.shared.takes_over(at);
        }
        self.consumer.assign(&list).map_err(assigning)?;
        // Nothing is read before it is known from where.
        self.consumer.client().pause(&list).map_err(assigning)?;
        let (settings, me) = (&self.around.settings, &self.core.settings().committer);
        end_orphaned_meanwhile(&settings.connection, &settings.group, me, partitions);
        self.around.observer.rebalanced(self.around.settings.role, true, partitions.len());
        Ok(())
    }

    /// Lets partitions go; unless they are lost already, with a checkpoint at their position.
    fn give_up(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), Error> {
        let role = self.around.settings.role;
        if lost {
            tracing::warn!(role, partitions = partitions.len(), "partitions were lost");
        } else if let Err(error) = self.flush(partitions) {
            // Whoever takes them over folds again what we could not publish.
            tracing::warn!(role, %error, "partitions are given up without a last commit");
        }
        for at in partitions {
            self.forget(at);
        }
        // What the others need is kept for later, and asked for again by the core as long as it wants to
        // know.
        let now = self.now();
        for at in self.take_commands()?.committed {
            self.core.not_answered(&at, now);
        }
        self.around.observer.rebalanced(role, false, partitions.len());
        self.consumer
            .unassign(&list_of(partitions))
            .map_err(|e| Error::broker("giving partitions up", e))
    }

    /// Drops everything that is known of a partition.
    fn forget(&mut self, at: &TopicPartition) {
        self.core.revoke(at);
        self.consumer.forget(at);
        self.around.shared.owned(at, false);
        self.around.monitor.forget(at);
        self.claims.remove(&at.partition);
        self.to_read.retain(|(of, _)| of != at);
        self.to_restore.retain(|of| of != at);
    }

    /// Publishes and commits everything that was folded, with a checkpoint of `partitions`.
    fn flush(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let since = Moment::now();
        self.core.checkpoint(partitions);
        loop {
            self.take_report(WAIT_BUSY)?;
            self.fold_held(true)?;
            if !self.core.is_flying() && !self.begin(true)? && self.core.is_quiet() {
                return Ok(());
            }
            if since.elapsed() > FLUSH_WITHIN {
                return Err(Error::broker("the last commit", "it was not decided in time"));
            }
        }
    }

    /// Publishes and commits what was folded, with a checkpoint of every partition, and ends.
    ///
    /// The group goes on meanwhile: a member that does not take part in a rebalance commits in vain.
    fn leave(&mut self) -> Result<(), Error> {
        let since = Moment::now();
        loop {
            self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
            self.answer_changes()?;
            let all: Vec<TopicPartition> = self.core.partitions().map(|p| p.at.clone()).collect();
            self.core.checkpoint(&all);
            self.take_report(WAIT_BUSY)?;
            self.fold_held(true)?;
            if !self.core.is_flying() && !self.begin(true)? && self.core.is_quiet() {
                return Ok(());
            }
            // A transaction of unknown outcome is found out as long as there is time for it.
            self.obey()?;
            let is_bounded = self.around.shared.ends().is_some();
            if since.elapsed() <= if is_bounded { FINISH_WITHIN } else { FLUSH_WITHIN } {
                continue;
            }
            let late = Error::broker("the last commit", "it was not decided in time");
            if is_bounded {
                return Err(late);
            }
            // Nothing is lost: whoever comes next folds again what could not be published.
            tracing::warn!(role = self.around.settings.role, error = %late, "ending without it");
            return Ok(());
        }
    }

    fn take_report(&mut self, wait: Duration) -> Result<(), Error> {
        let taken = self.take_outcome(wait);
        self.keep_settled();
        taken
    }

    /// Adds acknowledged checkpoints to local copies.
    fn keep_settled(&mut self) {
        for settled in self.core.take_settled() {
            let partition = settled.at.partition;
            let next = self.written.remove(&partition);
            if let Some((local, claim)) = self.local.as_ref().zip(self.claims.get(&partition)) {
                local.settled(claim, settled, next);
            }
        }
    }

    fn take_outcome(&mut self, wait: Duration) -> Result<(), Error> {
        if !self.core.is_flying() {
            return Ok(());
        }
        let Some(report) = self.committer.report(wait) else { return Ok(()) };
        let Surroundings { settings, shared, observer, .. } = &self.around;
        observer.committed(settings.role, report.secs);
        self.written.extend(report.checkpoints);
        for (at, next) in self.core.finished(report.outcome?) {
            shared.set_done(&at, next);
        }
        for partition in self.core.partitions().filter(|p| p.sealed) {
            shared.set_sealed(partition.at);
        }
        Ok(())
    }

    fn obey(&mut self) -> Result<(), Error> {
        let Questions { committed, owners } = self.take_commands()?;
        self.restorers.retain(|r| !r.is_over());
        let mut restore = std::mem::take(&mut self.to_restore);
        // What has been followed is only gone on with.
        restore.retain(|at| !self.restorers.iter_mut().any(|r| r.promote(at)));
        self.to_follow.retain(|at| !restore.contains(at));
        if !restore.is_empty() {
            self.start_restore(restore, Mode::Restore)?;
        }
        if !self.to_follow.is_empty() {
            let follow = std::mem::take(&mut self.to_follow);
            self.start_restore(follow, Mode::Follow)?;
        }
        if owners {
            self.ask_owners();
        }
        if !committed.is_empty() {
            self.ask(&committed)?;
        }
        self.read_on()
    }

    /// Does, or notes, what the core wants; questions are left to the caller.
    fn take_commands(&mut self) -> Result<Questions, Error> {
        let mut questions = Questions::default();
        for command in self.core.commands(self.now()) {
            match command {
                Command::AskCommitted(at) => questions.committed.push(at),
                Command::AskOwners => questions.owners = true,
                Command::ReadChangelog(at) => self.to_restore.push(at),
                Command::Follow(at) => self.to_follow.push(at),
                Command::CloseChangelog(at) => self.close(&at),
                Command::Read(at, start) => self.to_read.push((at, start)),
                Command::Pause(at) => {
                    self.to_read.retain(|(of, _)| *of != at);
                    self.pause(&at)?;
                }
            }
        }
        Ok(questions)
    }

    fn close(&mut self, at: &TopicPartition) {
        self.to_restore.retain(|of| of != at);
        self.to_follow.retain(|of| of != at);
        let closed = self.restorers.iter_mut().find_map(|r| r.close(at));
        self.claims.extend(closed.map(|claim| (at.partition, claim)));
    }

    fn start_restore(&mut self, partitions: Vec<TopicPartition>, mode: Mode) -> Result<(), Error> {
        let (core, local) = (self.core.settings(), self.local.as_ref());
        let restorer = Restorer::start(&self.around, core, partitions, mode, local)?;
        self.restorers.push(restorer);
        Ok(())
    }

    /// Sets the client to where partitions are to be read on; what it cannot do yet is tried again.
    fn read_on(&mut self) -> Result<(), Error> {
        let starts = &self.around.starts;
        let mut later = Vec::new();
        for (at, start) in std::mem::take(&mut self.to_read) {
            let offset = match start {
                Start::At(next) => Offset::Offset(next.get()),
                Start::Configured => starts.get(&at).copied().unwrap_or(Offset::Beginning),
            };
            // What has been taken is of another position.
            self.consumer.forget(&at);
            if let Err(error) = self.consumer.seek(&at, offset) {
                tracing::debug!(%at, %error, "reading on is tried again");
                later.push((at, start));
                continue;
            }
            self.consumer
                .resume(&at)
                .map_err(|e| Error::Read { at: at.clone(), reason: e.to_string() })?;
            self.core.reads(&at);
            self.around.monitor.goes_on(&at);
        }
        self.to_read = later;
        Ok(())
    }

    fn pause(&self, at: &TopicPartition) -> Result<(), Error> {
        self.consumer.pause(at).map_err(|e| Error::Read { at: at.clone(), reason: e.to_string() })
    }

    /// Takes what came of the changelogs; how much that was.
    fn restore(&mut self) -> Result<usize, Error> {
        let now = self.now();
        let Surroundings { settings, observer, .. } = &self.around;
        let mut got = 0;
        for restorer in &mut self.restorers {
            got += restorer.read(&mut self.core, now)?;
            restorer.tell(settings.role, &**observer);
        }
        Ok(got)
    }

    /// Folds what came; does not wait for it while there is more to `restore`.
    fn fold(&mut self, restores: bool) -> Result<(), Error> {
        if !self.core.has_room() {
            self.full.outputs = true;
            return self.take_report(WAIT_BUSY);
        }
        if self.around.settings.memory.is_full() {
            self.full.memory = true;
            self.core.pauses();
            std::thread::sleep(WAIT_BUSY);
            return Ok(());
        }
        if !self.consumer.holds_some() {
            let busy = self.core.is_flying() || self.restorers.iter().any(Restorer::is_busy);
            let polling = Moment::now();
            let got = self.consumer.poll(match (restores, busy) {
                (true, _) => Duration::ZERO,
                (false, true) => WAIT_BUSY,
                (false, false) => WAIT,
            });
            self.around.observer.polled(self.around.settings.role, got, polling.elapsed_secs());
            if got == 0 {
                return Ok(());
            }
        }
        self.fold_held(false)
    }

    /// Folds what has been taken, as far as there is room; `rest_only`: only the rest of a record.
    fn fold_held(&mut self, rest_only: bool) -> Result<(), Error> {
        let Surroundings { settings, monitor, observer, .. } = &self.around;
        let role = settings.role;
        let folding = Moment::now();
        let now = self.started.elapsed();
        let core = &mut self.core;
        let mut folded = 0;
        let mut failed = Ok(());
        loop {
            if let Some(next) = self.consumer.upcoming() {
                core.fetch(&next);
            }
            let goes_on = self.consumer.drain_some(|event| {
                if failed.is_err() || !core.has_room() || (rest_only && !core.is_in_part()) {
                    return ControlFlow::Break(());
                }
                match event {
                    Event::Record(record) => match core.record(&record, now) {
                        Ok(Folded::Yes) => folded += 1,
                        Ok(Folded::Skipped) => {}
                        Ok(Folded::InPart) => return ControlFlow::Break(()),
                        Ok(Folded::Waits) => {
                            let reason = "its task waits";
                            let at = TopicPartition::new(record.topic, record.partition);
                            monitor.waits(&at, reason);
                            observer.retrying(role, record.topic, record.partition, reason);
                        }
                        Err(error) => failed = Err(error),
                    },
                    Event::End { topic, partition, next } => {
                        core.end_of_partition(&TopicPartition::new(topic, partition), next);
                    }
                    Event::Failed { topic, partition, code } => {
                        let at = TopicPartition::new(topic, partition);
                        monitor.note(&format!("reading {at}: {code}"));
                        failed = fatal(at, code).map_or(Ok(()), Err);
                    }
                }
                ControlFlow::Continue(())
            });
            if !goes_on {
                break;
            }
        }
        observer.folded(role, folded, folding.elapsed_secs());
        failed
    }

    /// Begins a transaction if one is due; true if so.
    fn begin(&mut self, at_once: bool) -> Result<bool, Error> {
        let now = self.now();
        let Some(transaction) = self.core.begin(now, at_once)? else {
            self.seen();
            return Ok(false);
        };
        self.seen();
        let outputs = transaction.outputs();
        let (records, bytes) = (outputs.len(), outputs.iter().map(|r| r.len()).sum());
        let Surroundings { settings, observer, .. } = &self.around;
        observer.produced(settings.role, records, bytes, 0.0);
        let Some(group) = self.consumer.client().group_metadata() else {
            return Err(Error::broker("committing", "the consumer has no group"));
        };
        // In this order: what is told of the group is of this member then, or of none before it.
        if !self.is_still_member()? {
            self.core.finished(Outcome::Aborted);
            return Ok(false);
        }
        self.committer.submit(transaction, group);
        Ok(true)
    }

    /// False if the partitions may not be ours any more, although nobody said so. If others may have
    /// had them all are given up, and come anew.
    fn is_still_member(&mut self) -> Result<bool, Error> {
        let member = self.consumer.member();
        let gone = match self.core.membership(member.as_deref()) {
            Membership::Same => return Ok(true),
            Membership::Nobody => return Ok(false),
            Membership::Another(gone) => gone,
        };
        let role = self.around.settings.role;
        tracing::warn!(role, partitions = gone.len(), "joined the group under another name");
        for at in &gone {
            self.forget(at);
        }
        self.consumer.client().unsubscribe();
        subscribe(&self.consumer, &self.around.settings)?;
        Ok(false)
    }

    fn seen(&self) {
        self.around.shared.seen(self.core.partitions().map(|p| Sight {
            at: p.at,
            folded: p.next,
            caught_up: p.caught_up,
            restoring: p.restoring,
        }));
    }

    fn tell(&mut self) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Moment::now();
        let Surroundings { settings, observer, .. } = &self.around;
        std::mem::take(&mut self.full).tell(settings.role, &**observer);
        for partition in self.core.partitions() {
            let at = partition.at;
            let end = self.consumer.known_end(at);
            let lag = match (partition.caught_up, end, partition.next) {
                (true, ..) => Some((0, 0.0)),
                (false, Some(end), Some(next)) => {
                    let records = (end.get() - next.get()).max(0);
                    Some((records, age_secs(partition.last_timestamp)))
                }
                _ => None,
            };
            if let Some((records, secs)) = lag {
                observer.lag(&at.topic, at.partition, records, secs);
            }
            if let Some(progress) = self.core.progress(at) {
                observer.watermark(settings.role, &at.topic, at.partition, &progress);
            }
            let stands =
                self.around.monitor.stands(at).map_or(0.0, |time| time.as_ms() as f64 / 1e3);
            observer.stands(&at.topic, at.partition, stands);
        }
    }
}
