//! Starts the workers of one role, and the handle to watch, finish and stop them.

use super::batch::BatchConsumer;
use super::client::{Connection, Ends, property_error};
use super::commit::AckedCommit;
use super::error::Error;
use super::exactly;
use super::exactly::committer::Committer;
use super::exactly::core::{Core, Identity};
use super::exactly::worker::ExactWorker;
use super::health::{Health, Monitor};
use super::local::LocalState;
use super::memory::MemoryBudget;
use super::observer::WorkerObserver;
use super::start::{Source, settle};
use super::task::{TaskFactory, TopicPartition};
use super::worker::{Surroundings, Worker};
use crate::clock::Moment;
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long closing a client may take before it is left behind: in the version that we build it can
/// hang while the group's coordinator is down.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// How partitions get to workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assignment {
    /// Dealt out once among the workers of this process, which read everything. No rebalance, so no
    /// partition is ever folded twice: for a process that runs alone.
    Fixed,
    /// By the consumer group, which may have members in other processes.
    Group,
}

/// Where a partition is read from when it comes to another worker of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// From its start: for folds, whose state went with the worker that had it.
    AtStart,
    /// From where its outputs are acknowledged: for tasks without state.
    AtPosition,
}

/// What workers promise.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Positions are committed after outputs; nothing is kept across restarts.
    AtLeastOnce,
    /// Inputs, outputs and state move on together.
    ExactlyOnce(ExactlyOnce),
}

/// Settings of exactly-once delivery.
#[derive(Clone, Debug)]
pub struct ExactlyOnce {
    /// Name of this process among those of the application: transactional ids follow from it.
    pub instance: String,
    /// Topic that keeps the state; `None` for tasks without any.
    pub changelog: Option<String>,
    /// Topic that tells which side inputs were taken; `None` for tasks that take none.
    pub inputs: Option<String>,
    /// What the state belongs to.
    pub identity: Identity,
    /// Time between two checkpoints of a partition.
    pub checkpoint_interval: Millis,
    /// Keep the membership over a restart, for as long as the session lasts.
    pub static_membership: bool,
    /// Workers of other instances that keep a copy of a partition's state warm.
    pub standby_replicas: usize,
    /// Local copies of changelogs; `None`: a restart reads all of them from the cluster.
    pub local: Option<Arc<LocalState>>,
}

/// What the workers of a role need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the role, for metrics and messages.
    pub role: &'static str,
    /// The cluster.
    pub connection: Connection,
    /// Consumer group; offsets are committed to it even where it does not assign.
    pub group: String,
    /// Topics to read, and from where.
    pub sources: Vec<Source>,
    /// How many workers, each with its own thread; no more than there are partitions.
    pub workers: usize,
    /// How partitions get to them.
    pub assignment: Assignment,
    /// Where a partition goes on that comes from another worker.
    pub resume: Resume,
    /// Records that one round takes at most.
    pub poll_records: usize,
    /// How often tasks are told that nothing came.
    pub idle_check: Millis,
    /// Bytes of unacknowledged outputs beyond which a worker reads no further. A single round may
    /// exceed it by what its records produce.
    pub in_flight_bytes: usize,
    /// Bytes that the client of a worker reads ahead; shared by its partitions, 1 MiB each at least.
    pub prefetch_bytes: usize,
    /// How often offsets are committed.
    pub commit_interval: Millis,
    /// What is promised.
    pub delivery: Delivery,
    /// The memory of the process: nothing is read while it is full.
    pub memory: Arc<MemoryBudget>,
}

impl Settings {
    /// Settings with the defaults for everything but names and sources: one worker, fixed assignment.
    pub fn new(
        role: &'static str,
        connection: Connection,
        group: impl Into<String>,
        sources: Vec<Source>,
    ) -> Settings {
        Settings {
            role,
            connection,
            group: group.into(),
            sources,
            workers: 1,
            assignment: Assignment::Fixed,
            resume: Resume::AtStart,
            poll_records: 1_000,
            idle_check: Millis::from_ms(250),
            in_flight_bytes: 4 << 20,
            prefetch_bytes: 4 << 20,
            commit_interval: Millis::from_secs(1),
            delivery: Delivery::AtLeastOnce,
            memory: MemoryBudget::unlimited(),
        }
    }
}

/// Where a bounded run stops.
#[derive(Debug)]
pub(super) struct Limits(BTreeMap<TopicPartition, NextOffset>);

impl Limits {
    /// A partition that has none did not exist when the ends were taken: nothing of it is wanted.
    pub(super) fn of(&self, at: &TopicPartition) -> NextOffset {
        self.0.get(at).copied().unwrap_or(NextOffset::new(0))
    }
}

/// How far one partition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// Offset to fold next; `None` before anything came.
    pub folded: Option<NextOffset>,
    /// Everything below is folded, and its outputs are acknowledged.
    pub done: Option<NextOffset>,
    /// True if the end has been seen and nothing came since.
    pub caught_up: bool,
    /// True if a worker of this process has it.
    pub owned: bool,
    /// True while its state is brought back: nothing new is folded.
    pub restoring: bool,
}

/// What a worker sees of one of its partitions.
pub(super) struct Sight<'a> {
    pub(super) at: &'a TopicPartition,
    pub(super) folded: Option<NextOffset>,
    pub(super) caught_up: bool,
    pub(super) restoring: bool,
}

/// What workers and their handle share.
#[derive(Default)]
pub(super) struct Shared {
    stopped: AtomicBool,
    ends: OnceLock<Limits>,
    positions: Mutex<BTreeMap<TopicPartition, Position>>,
    sealed: Mutex<BTreeSet<TopicPartition>>,
    failure: Mutex<Option<Error>>,
    /// True once a partition went on from where an earlier process left it.
    pub(super) resumed: AtomicBool,
    moved: Condvar,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn ends(&self) -> Option<&Limits> {
        self.ends.get()
    }

    fn positions(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Position>> {
        self.positions.lock().expect("no panic while held")
    }

    fn sealed(&self) -> MutexGuard<'_, BTreeSet<TopicPartition>> {
        self.sealed.lock().expect("no panic while held")
    }

    fn change(&self, at: &TopicPartition, f: impl FnOnce(&mut Position)) {
        let mut positions = self.positions();
        match positions.get_mut(at) {
            Some(position) => f(position),
            None => f(positions.entry(at.clone()).or_default()),
        }
        self.moved.notify_all();
    }

    pub(super) fn owned(&self, at: &TopicPartition, owned: bool) {
        self.change(at, |p| (p.owned, p.caught_up, p.restoring) = (owned, false, false));
    }

    /// A partition has come, and its state is not here yet.
    pub(super) fn takes_over(&self, at: &TopicPartition) {
        self.change(at, |p| (p.owned, p.caught_up, p.restoring) = (true, false, true));
    }

    pub(super) fn done(&self, at: &TopicPartition) -> Option<NextOffset> {
        self.positions().get(at)?.done
    }

    pub(super) fn set_done(&self, at: &TopicPartition, next: NextOffset) {
        self.change(at, |p| p.done = Some(next));
    }

    /// Takes over how far partitions have been folded, and whether to their end.
    pub(super) fn seen<'a>(&self, partitions: impl Iterator<Item = Sight<'a>>) {
        let mut positions = self.positions();
        let mut changed = false;
        for Sight { at, folded, caught_up, restoring } in partitions {
            let Some(position) = positions.get_mut(at) else { continue };
            let before = (position.folded, position.caught_up, position.restoring);
            changed |= before != (folded, caught_up, restoring);
            (position.folded, position.caught_up, position.restoring) =
                (folded, caught_up, restoring);
        }
        if changed {
            self.moved.notify_all();
        }
    }

    pub(super) fn is_sealed(&self, at: &TopicPartition) -> bool {
        self.sealed().contains(at)
    }

    pub(super) fn set_sealed(&self, at: &TopicPartition) {
        self.sealed().insert(at.clone());
    }

    fn fail(&self, error: Error) {
        self.failure.lock().expect("no panic while held").get_or_insert(error);
        self.stop();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _positions = self.positions();
        self.moved.notify_all();
    }
}

/// Starts the workers of a role. Returns when the sources are known and every worker has its clients;
/// partitions may be assigned later.
pub fn start(
    settings: Settings,
    factory: Arc<dyn TaskFactory>,
    observer: Arc<dyn WorkerObserver>,
) -> Result<Handle, Error> {
    let starts = settle(&settings.connection, &settings.sources)?;
    let topics: Vec<&str> = settings.sources.iter().map(|s| s.topic.as_str()).collect();
    match settings.delivery {
        Delivery::AtLeastOnce => tracing::info!(
            role = settings.role,
            ?topics,
            "at least once: reading from the configured start, nothing is kept across restarts"
        ),
        Delivery::ExactlyOnce(_) => tracing::info!(
            role = settings.role,
            ?topics,
            "exactly once: reading from where the last commit left off"
        ),
    }
    let around = Surroundings {
        settings: Arc::new(settings),
        starts: Arc::new(starts),
        shared: Arc::default(),
        monitor: Arc::default(),
        factory,
        observer,
    };
    let (shared, monitor) = (around.shared.clone(), around.monitor.clone());
    let role = around.settings.role;
    let mut handle = Handle { role, shared, monitor, threads: Vec::new() };
    let count = around.settings.workers.clamp(1, around.starts.len().max(1));
    for number in 0..count {
        let run: Work = match &around.settings.delivery {
            Delivery::AtLeastOnce => {
                let mut worker = prepare(&around, number, count)?;
                Box::new(move || worker.run())
            }
            Delivery::ExactlyOnce(exactly) => {
                let mut worker = prepare_exactly(&around, exactly, number, count)?;
                Box::new(move || worker.run())
            }
        };
        handle.threads.push(spawn(run, &around, number)?);
    }
    Ok(handle)
}

/// What a worker's thread does.
type Work = Box<dyn FnMut() -> Result<(), Error> + Send>;

fn consumer(
    around: &Surroundings,
    config: &mut ClientConfig,
    count: usize,
) -> Result<BatchConsumer, Error> {
    let settings = &around.settings;
    let own = around.starts.len().div_ceil(count).max(1);
    let kib = (settings.prefetch_bytes / 1_024 / own).max(256);
    config.set("queued.max.messages.kbytes", kib.to_string());
    config.set("statistics.interval.ms", "5000");
    BatchConsumer::new(config, settings.poll_records, around.monitor.clone())
        .map_err(|e| property_error(&e))
}

/// Joins the group, or joins it anew.
pub(super) fn subscribe(consumer: &BatchConsumer, settings: &Settings) -> Result<(), Error> {
    let topics: Vec<&str> = settings.sources.iter().map(|s| s.topic.as_str()).collect();
    consumer.client().subscribe(&topics).map_err(|e| Error::broker("subscribing to topics", e))
}

fn prepare_exactly(
    around: &Surroundings,
    exactly: &ExactlyOnce,
    number: usize,
    count: usize,
) -> Result<ExactWorker, Error> {
    let settings = &around.settings;
    let id = format!("{}-{}-{number}", settings.group, exactly.instance);
    let mut config = settings.connection.consumer(&settings.group);
    config.set("client.id", &id);
    if exactly.static_membership {
        config.set("group.instance.id", &id);
    }
    let consumer = consumer(around, &mut config, count)?;
    let core = Core::new(
        exactly::core::Settings {
            role: settings.role,
            committer: id.as_str().into(),
            run: RandomState::new().hash_one(&id),
            changelog: exactly.changelog.as_deref().map(Into::into),
            inputs: exactly.inputs.as_deref().map(Into::into),
            identity: exactly.identity.clone(),
            commit_interval: settings.commit_interval,
            checkpoint_interval: exactly.checkpoint_interval,
            standby_replicas: exactly.standby_replicas,
            in_flight_bytes: settings.in_flight_bytes,
            keeps_copies: exactly.local.is_some(),
        },
        around.factory.clone(),
    );
    // What a dead predecessor left open ends meanwhile.
    let committer = Committer::start(
        &settings.connection,
        &id,
        settings.in_flight_bytes,
        around.monitor.clone(),
    )?;
    subscribe(&consumer, settings)?;
    let local = exactly.local.clone();
    Ok(ExactWorker::new(around.clone(), consumer, core, committer, local))
}

fn prepare(
    around: &Surroundings,
    number: usize,
    count: usize,
) -> Result<Worker<AckedCommit>, Error> {
    let settings = &around.settings;
    let mut config = settings.connection.consumer(&settings.group);
    let consumer = consumer(around, &mut config, count)?;
    let mut config = settings.connection.producer();
    let kib = (settings.in_flight_bytes / 512).max(4_096);
    config.set("queue.buffering.max.kbytes", kib.to_string());
    let commit = AckedCommit::new(&config, settings.commit_interval, around.monitor.clone())?;
    match settings.assignment {
        Assignment::Group => {
            subscribe(&consumer, settings)?;
            Ok(Worker::new(around.clone(), consumer, commit))
        }
        Assignment::Fixed => {
            let own: Vec<TopicPartition> =
                around.starts.keys().skip(number).step_by(count).cloned().collect();
            let mut worker = Worker::new(around.clone(), consumer, commit);
            worker.assign_fixed(&own)?;
            Ok(worker)
        }
    }
}

struct Thread {
    handle: JoinHandle<()>,
    /// Says that the worker's work is over; hangs up when its clients are closed.
    over: Receiver<()>,
}

fn spawn(mut work: Work, around: &Surroundings, number: usize) -> Result<Thread, Error> {
    let (shared, role) = (around.shared.clone(), around.settings.role);
    let (say, over): (SyncSender<()>, _) = sync_channel(1);
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(&mut work)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(Error::Panic { role: role.to_owned(), reason: text.to_owned() })
        });
        if let Err(error) = result {
            tracing::error!(role, %error, "a worker stopped");
            shared.fail(error);
        }
        // The receiver may have given up on us.
        let _told = say.send(());
        drop(work);
    };
    let handle = std::thread::Builder::new()
        .name(format!("{role}-{number}"))
        .spawn(run)
        .map_err(|e| Error::System(format!("a thread for {role} could not be started: {e}")))?;
    Ok(Thread { handle, over })
}

/// The workers of one role. Dropping it stops them without waiting.
pub struct Handle {
    role: &'static str,
    shared: Arc<Shared>,
    monitor: Arc<Monitor>,
    threads: Vec<Thread>,
}

impl Handle {
    /// The role.
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// How far every partition is that was ever assigned to this process.
    pub fn progress(&self) -> BTreeMap<TopicPartition, Position> {
        self.shared.positions().clone()
    }

    /// Per partition the offset below which everything is folded and acknowledged.
    pub fn positions(&self) -> BTreeMap<TopicPartition, NextOffset> {
        let positions = self.shared.positions();
        positions.iter().filter_map(|(at, p)| Some((at.clone(), p.done?))).collect()
    }

    /// True if partitions are assigned and all of them have been read to their end.
    pub fn is_caught_up(&self) -> bool {
        caught_up(&self.shared.positions())
    }

    /// Waits until `condition` holds for the progress, the workers are over, or `most` is over.
    /// Returns whether it holds.
    pub fn wait_until(
        &self,
        most: Millis,
        condition: impl Fn(&BTreeMap<TopicPartition, Position>) -> bool,
    ) -> bool {
        let since = Moment::now();
        let mut positions = self.shared.positions();
        loop {
            if condition(&positions) {
                return true;
            }
            let left = most.as_ms() - since.elapsed().as_ms();
            if left <= 0 || self.shared.is_stopped() {
                return false;
            }
            let left = Duration::from_millis(left.unsigned_abs());
            positions = match self.shared.moved.wait_timeout(positions, left) {
                Ok((positions, _)) => positions,
                Err(_) => return false,
            };
        }
    }

    /// Waits until [`Handle::is_caught_up`], at most `most`.
    pub fn wait_caught_up(&self, most: Millis) -> bool {
        self.wait_until(most, caught_up)
    }

    /// Makes this a bounded run: every task is sealed once it has folded everything below the offset
    /// given for its partition, and the workers end when all are. Only the first call counts.
    pub fn finish_at(&self, ends: &Ends) {
        let of_topic = |(topic, ends): (&String, &BTreeMap<PartitionId, NextOffset>)| {
            let topic: Arc<str> = topic.as_str().into();
            let at = move |p| TopicPartition { topic: topic.clone(), partition: p };
            ends.iter().map(|(p, next)| (at(*p), *next)).collect::<Vec<_>>()
        };
        let limits = Limits(ends.iter().flat_map(of_topic).collect());
        if self.shared.ends.set(limits).is_err() {
            tracing::warn!(role = self.role, "the end of the run was given twice");
        }
    }

    /// How the workers are doing.
    pub fn health(&self) -> Health {
        self.monitor.health()
    }

    /// Why the workers stopped, if something failed.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure.lock().expect("no panic while held").clone()
    }

    /// True if something went on from where an earlier process left it: what this process counted is
    /// not all then.
    pub fn has_resumed(&self) -> bool {
        self.shared.resumed.load(Ordering::SeqCst)
    }

    /// True if every worker has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(|t| t.handle.is_finished())
    }

    /// Tells the workers to publish and commit what they have folded, and to end.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Waits until the workers have ended, and tells what failed first.
    pub fn join(mut self) -> Result<(), Error> {
        let threads = std::mem::take(&mut self.threads);
        for thread in threads {
            let _over = thread.over.recv();
            // Hanging up is what we wait for now.
            if thread.over.recv_timeout(CLOSE_WITHIN)
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                tracing::warn!(role = self.role, "a client does not close; it is left behind");
            }
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

fn caught_up(positions: &BTreeMap<TopicPartition, Position>) -> bool {
    let mut owned = positions.values().filter(|p| p.owned).peekable();
    owned.peek().is_some() && owned.all(|p| p.caught_up)
}
