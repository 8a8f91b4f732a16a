//! Brings states back beside the worker's input: from a local copy, if there is one, and then from the
//! changelog, as committed; without one, from the changelog's beginning.

use super::core::{self, Bounds, Core};
use crate::clock::Moment;
use crate::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY, Unframer};
use crate::kafka::batch::{BatchConsumer, Event};
use crate::kafka::client::{edges_by, property_error};
use crate::kafka::error::Error;
use crate::kafka::local::{Chunk, Claim, Found, LocalState};
use crate::kafka::observer::WorkerObserver;
use crate::kafka::reader::fatal;
use crate::kafka::task::TopicPartition;
use crate::kafka::worker::Surroundings;
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Records taken per poll: the input of other partitions is read in between.
const RECORDS_PER_POLL: usize = 10_000;
/// Copies are kept beside the work.
const RECORDS_PER_POLL_FOLLOWED: usize = 1_000;
/// What is read ahead: the client counts it per partition.
const PREFETCH_KIB: usize = 96 << 10;
const PREFETCH_KIB_LEAST: usize = 4 << 10;
/// A changelog is read as fast as it goes.
const IN_BULK: [(&str, &str); 4] = [
    ("fetch.message.max.bytes", "2097152"),
    ("fetch.max.bytes", "16777216"),
    ("queued.min.messages", "1000000"),
    // Its end is told at once.
    ("fetch.wait.max.ms", "20"),
];
/// How often a changelog at its end is looked at again.
const LOOK_EVERY: Millis = Millis::from_ms(50);

const TELL_EVERY: Millis = Millis::from_secs(1);
/// How often the log says how long it will take.
const LOG_EVERY: Millis = Millis::from_secs(5);

/// What a changelog is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// The partition is ours, and waits.
    Restore,
    /// The partition is another's, and a copy of its state is kept.
    Follow,
}

/// Where what is handed on comes from.
enum Stage {
    /// There is a copy, which may be that of another changelog: the identity record tells, which is the
    /// first of the changelog.
    Compares(Found),
    /// The copy, this file next. The changelog waits.
    Copy(Found, usize),
    /// The client is to be set to this offset.
    Seeks(NextOffset),
    /// The changelog.
    Changelog,
}

/// One partition of the changelog.
struct Open {
    mode: Mode,
    stage: Stage,
    /// The client leaves it alone meanwhile.
    is_paused: bool,
    /// The local copy of it.
    claim: Option<Claim>,
    /// What was read and the copy does not have yet: entries, and the last checkpoint record.
    unsaved: Chunk,
    checkpoint: Option<Vec<u8>>,
    /// The partition of the input that it belongs to.
    at: TopicPartition,
    /// Where it begins, and where it ended when reading it began.
    first: NextOffset,
    until: NextOffset,
    /// Where it was begun to be read.
    from: NextOffset,
    /// The offset to read next.
    next: NextOffset,
    /// The end, once it has been seen.
    end: Option<NextOffset>,
}

impl Open {
    fn left(&self) -> i64 {
        (self.until.get() - self.next.get()).max(0)
    }

    /// Seconds that are left if it goes on as in the first `secs`.
    fn secs_left(&self, secs: f64) -> f64 {
        let read = (self.next.get() - self.from.get()).max(1);
        secs * self.left() as f64 / read as f64
    }

    /// A record of the changelog. False if the copy is to be read first, and this not be handed on.
    fn takes(&mut self, key: &[u8], value: Option<&[u8]>, local: Option<&LocalState>) -> bool {
        if let Stage::Compares(_) = self.stage {
            let Stage::Compares(found) = std::mem::replace(&mut self.stage, Stage::Changelog)
            else {
                unreachable!("just seen")
            };
            let mut unframer = Unframer::default();
            let identity = value.filter(|_| key == IDENTITY_KEY).map(|v| unframer.entry(v));
            let is_same = matches!(
                identity, Some(Ok(text)) if *text == *found.checkpoint.changelog.as_bytes()
            );
            if is_same {
                self.stage = Stage::Copy(found, 0);
                return true;
            }
            tracing::info!(at = %self.at, "its local copy is that of another changelog");
            self.copies_anew(local);
        }
        if !matches!(self.stage, Stage::Changelog) {
            return false;
        }
        if let (Some(local), Some(claim)) = (local, &self.claim) {
            match key {
                IDENTITY_KEY => {}
                CHECKPOINT_KEY => self.checkpoint = value.map(<[u8]>::to_vec),
                _ => {
                    if let Some(records) = self.unsaved.put(key, value) {
                        local.append(claim, records);
                    }
                }
            }
        }
        true
    }

    fn copies_anew(&self, local: Option<&LocalState>) {
        if let Some((local, claim)) = local.zip(self.claim.as_ref()) {
            local.anew(claim);
        }
    }

    /// Everything below `end` has been read.
    fn mark(&mut self, end: NextOffset, local: Option<&LocalState>) {
        if let Some((local, claim)) = local.zip(self.claim.as_ref())
            && let Some(checkpoint) = self.checkpoint.take()
        {
            local.append(claim, self.unsaved.take());
            local.mark(claim, end, checkpoint);
        }
    }
}

/// Partitions that came together and are restored together.
pub(super) struct Restorer {
    consumer: BatchConsumer,
    /// By partition of the changelog.
    open: BTreeMap<PartitionId, Open>,
    /// Restored, or gone, and not told yet.
    closed: Vec<PartitionId>,
    changelog: Arc<str>,
    local: Option<Arc<LocalState>>,
    looked: Moment,
    told: Moment,
    logged: Moment,
    since: Moment,
    /// Entries read from the changelog, and from local copies.
    entries: u64,
    copied: u64,
}

impl Restorer {
    pub(super) fn start(
        around: &Surroundings,
        core: &core::Settings,
        partitions: Vec<TopicPartition>,
        mode: Mode,
        local: Option<&Arc<LocalState>>,
    ) -> Result<Restorer, Error> {
        let Surroundings { settings, monitor, .. } = around;
        let connection = &settings.connection;
        let changelog = core.changelog.as_ref().expect("only tasks with a changelog restore");
        let mut config = connection.consumer(&settings.group);
        let kib = (PREFETCH_KIB / partitions.len().max(1)).max(PREFETCH_KIB_LEAST);
        config.set("queued.max.messages.kbytes", kib.to_string());
        let records = match mode {
            Mode::Restore => RECORDS_PER_POLL,
            Mode::Follow => RECORDS_PER_POLL_FOLLOWED,
        };
        for (name, value) in IN_BULK {
            config.set(name, value);
        }
        let mut consumer = BatchConsumer::new(&config, records, monitor.clone())
            .map_err(|e| property_error(&e))?;
        // The client that reads asks, too: another would have to connect first.
        let named = || partitions.iter().map(|at| (&**changelog, at.partition));
        let edges = |edge| edges_by(consumer.client(), connection, named(), edge);
        let (first, until) = (edges(Offset::Beginning)?, edges(Offset::End)?);
        let mut open = BTreeMap::new();
        let assigning = |e| Error::broker("assigning partitions of the changelog", e);
        let mut list = TopicPartitionList::new();
        for at in partitions {
            let of = TopicPartition::new(changelog, at.partition);
            let (first, until) = (first[&of], until[&of]);
            // By number: the client asks for a beginning once more, half a second after it knows whom.
            list.add_partition_offset(changelog, at.partition.get(), Offset::Offset(first.get()))
                .map_err(assigning)?;
            let (claim, found) = local.map(|local| local.take(changelog, at.partition)).unzip();
            let bounds = Bounds { low: first, high: until };
            let is_of_use =
                |found: &Found| core.may_begin_with(&found.checkpoint, found.next(), bounds);
            let found = found.flatten().filter(is_of_use);
            let stage = found.map_or(Stage::Changelog, Stage::Compares);
            let opened = Open {
                mode,
                stage,
                is_paused: false,
                claim,
                unsaved: Chunk::default(),
                checkpoint: None,
                at,
                first,
                until,
                from: first,
                next: first,
                end: None,
            };
            if matches!(opened.stage, Stage::Changelog) {
                opened.copies_anew(local.map(|local| &**local));
            }
            open.insert(opened.at.partition, opened);
        }
        consumer.assign_fixed(&list).map_err(assigning)?;
        let now = Moment::now();
        Ok(Restorer {
            consumer,
            open,
            closed: Vec::new(),
            changelog: changelog.clone(),
            looked: now,
            told: now,
            logged: now,
            since: now,
            local: local.cloned(),
            entries: 0,
            copied: 0,
        })
    }

    /// A partition is restored, or gone. Returns the claim on its local copy, which goes on with it.
    pub(super) fn close(&mut self, at: &TopicPartition) -> Option<Claim> {
        self.open.get(&at.partition).filter(|open| open.at == *at)?;
        let Open { mode, claim, .. } = self.open.remove(&at.partition)?;
        self.closed.push(at.partition);
        if mode == Mode::Restore {
            let Restorer { entries, copied, open, .. } = self;
            let (secs, left) = (self.since.elapsed_secs(), open.len());
            tracing::info!(%at, entries, copied, secs, left, "state restored");
        }
        claim
    }

    /// A partition that was followed has come: true if it is one of these.
    pub(super) fn promote(&mut self, at: &TopicPartition) -> bool {
        let Some(open) = self.open.get_mut(&at.partition) else { return false };
        if open.at != *at {
            return false;
        }
        open.mode = Mode::Restore;
        // It is looked at once: what there is may be all.
        (self.since, self.entries, self.copied) = (Moment::now(), 0, 0);
        self.looked = self.told;
        true
    }

    /// True if a partition of ours waits for it.
    pub(super) fn is_busy(&self) -> bool {
        self.open.values().any(|open| open.mode == Mode::Restore)
    }

    pub(super) fn is_over(&self) -> bool {
        // What is over has to be told first.
        self.open.is_empty() && self.closed.is_empty()
    }

    /// Hands on what came; tells how much that was.
    pub(super) fn read(&mut self, core: &mut Core, now: Millis) -> Result<usize, Error> {
        self.consumer.serve().map_err(|e| Error::broker("serving the client", e))?;
        let mut got = self.consumer.poll(Duration::ZERO);
        let Restorer { consumer, open, changelog, local, entries, .. } = self;
        let local = local.as_deref();
        let mut failed = Ok(());
        consumer.drain(|event| {
            if failed.is_err() {
                return;
            }
            match event {
                Event::Record(record) => {
                    let Some(open) = open.get_mut(&record.partition) else { return };
                    let key = record.key.unwrap_or_default();
                    if open.takes(key, record.value, local) {
                        (open.end, open.next) = (None, record.offset.next());
                        *entries += 1;
                        core.entry(&open.at, key, record.value);
                    }
                }
                Event::End { partition, next, .. } => {
                    let Some(open) = open.get_mut(&partition) else { return };
                    if let Stage::Compares(_) = open.stage {
                        // Nothing stands in it: the copy is that of another.
                        open.stage = Stage::Changelog;
                        open.copies_anew(local);
                    }
                    if let Stage::Changelog = open.stage {
                        (open.end, open.next) = (Some(next), next);
                    }
                }
                Event::Failed { partition, code, .. } => {
                    let at = TopicPartition::new(changelog, partition);
                    failed = fatal(at, code).map_or(Ok(()), Err);
                }
            }
        });
        failed?;
        self.pause()?;
        got += self.read_copies(core)?;
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(got);
        }
        self.looked = Moment::now();
        let local = self.local.as_deref();
        for (partition, open) in &mut self.open {
            let Some(end) = open.end else { continue };
            open.mark(end, local);
            let changelog = TopicPartition::new(&self.changelog, *partition);
            let known = self.consumer.known_end(&changelog);
            core.changelog_end(&open.at, open.first, known.is_some_and(|known| known > end), now)?;
        }
        Ok(got)
    }

    /// Lets changelogs wait whose copies are to be read first.
    fn pause(&mut self) -> Result<(), Error> {
        let Restorer { consumer, open, changelog, .. } = self;
        for (partition, open) in open {
            if matches!(open.stage, Stage::Copy(..)) && !open.is_paused {
                let paused = consumer.pause(&TopicPartition::new(changelog, *partition));
                paused.map_err(|e| Error::broker("pausing a changelog", e))?;
                open.is_paused = true;
            }
        }
        Ok(())
    }

    /// Hands on some of a copy, and goes on with the changelog where one is through. Returns how much
    /// it was; more than nothing as long as there is more.
    fn read_copies(&mut self, core: &mut Core) -> Result<usize, Error> {
        let mut got = 0;
        for (partition, open) in &mut self.open {
            let next = match &mut open.stage {
                Stage::Copy(found, number) => {
                    let at = &open.at;
                    let mut read = Ok(true);
                    while matches!(read, Ok(true)) && got < RECORDS_PER_POLL {
                        read = found.file(*number, |(key, value)| {
                            got += 1;
                            core.entry(at, key, value);
                        });
                        *number += 1;
                    }
                    self.copied += got as u64;
                    match read {
                        Ok(true) => return Ok(got),
                        Ok(false) => {
                            core.entry(at, CHECKPOINT_KEY, Some(found.framed_checkpoint()));
                            found.next()
                        }
                        Err(error) => {
                            tracing::warn!(%at, %error, "all of the changelog is read instead");
                            core.read_anew(at)?;
                            open.copies_anew(self.local.as_deref());
                            open.first
                        }
                    }
                }
                Stage::Seeks(next) => *next,
                Stage::Compares(_) | Stage::Changelog => continue,
            };
            (open.from, open.next) = (next, next);
            // What has been taken is of another position.
            let at = TopicPartition::new(&self.changelog, *partition);
            self.consumer.forget(&at);
            let sought = self.consumer.seek(&at, Offset::Offset(next.get()));
            let goes_on = sought.and_then(|()| self.consumer.resume(&at));
            open.stage = match goes_on {
                Ok(()) => Stage::Changelog,
                Err(error) => {
                    tracing::debug!(%at, %error, "reading on is tried again");
                    Stage::Seeks(next)
                }
            };
            return Ok(got.max(1));
        }
        Ok(0)
    }

    /// Says how far it is.
    pub(super) fn tell(&mut self, role: &'static str, observer: &dyn WorkerObserver) {
        for partition in self.closed.drain(..) {
            observer.restoring(role, partition, 0, 0.0);
            observer.follows(role, partition, None);
        }
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Moment::now();
        let secs = self.since.elapsed_secs();
        for (partition, open) in &self.open {
            match open.mode {
                Mode::Restore => {
                    observer.restoring(role, *partition, open.left(), open.secs_left(secs));
                }
                Mode::Follow => {
                    let end = TopicPartition::new(&self.changelog, *partition);
                    let end = self.consumer.known_end(&end).unwrap_or(open.until);
                    let behind = (end.get() - open.next.get()).max(0);
                    observer.follows(role, *partition, Some(behind));
                }
            }
        }
        let waiting = || self.open.values().filter(|open| open.mode == Mode::Restore);
        let partitions = waiting().count();
        if self.logged.elapsed() < LOG_EVERY || partitions == 0 {
            return;
        }
        self.logged = Moment::now();
        let left: i64 = waiting().map(Open::left).sum();
        let secs = waiting().map(|open| open.secs_left(secs)).fold(0.0, f64::max);
        let Restorer { entries, copied, .. } = self;
        tracing::info!(role, partitions, entries, copied, left, secs, "state is being restored");
    }
}
