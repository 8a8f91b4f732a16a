//! One worker: drives the decisions of the product's core as the worker on Kafka does, step by step,
//! so that anything can happen in between.

use super::committer::{Committer, Job};
use super::env::{Copy, Env, Facts, Step};
use super::folds;
use super::group::{Beat, MemberId};
use super::real::Real;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use touchline::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY, Unframer};
use touchline::engine::mutation::Mutation;
use touchline::engine::state::Checkpointed;
use touchline::kafka::exactly::core::{
    Bounds, Command, Core, Folded, Identity, Membership as Standing, OffsetToCommit, Outcome,
    Settings, Start, Transaction,
};
use touchline::kafka::exactly::metadata::{Committed, Metadata};
use touchline::kafka::{
    Error, Headers, OutRecord, Produced, Record, Task, TaskError, TaskFactory, TopicPartition,
};
use touchline::model::ids::{NextOffset, Offset, PartitionId};
use touchline::model::time::Millis;

/// How long a revocation may wait for its last transaction.
const FLUSH_WITHIN: i64 = 2_500;
/// Name of the fault that the bound on a last commit has.
pub(crate) const NO_LAST_COMMIT: &str = "partitions given up without a last commit";
const QUEUE_MOST: usize = 80;
pub(crate) const INPUTS: i32 = 3;
pub(crate) const ROLLUPS: i32 = 2;

/// Which tasks a world runs.
#[derive(Clone)]
pub(crate) enum Kind {
    Small,
    Real(Arc<Real>),
}

/// What a process runs.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) stage: usize,
    pub(crate) txn_id: String,
    pub(crate) config: u64,
    pub(crate) generation: u64,
    pub(crate) input_partitions: i32,
    /// Workers that keep a copy of each state.
    pub(crate) standbys: usize,
    /// Its client keeps its partitions when it falls out of the group and joins anew.
    pub(crate) forgetful: bool,
}

/// Name of the changelog of a stage.
pub(crate) fn changelog(stage: usize) -> Arc<str> {
    ["visits.changelog", "totals.changelog"][stage].into()
}

/// Name of the topic with the side inputs of a stage.
pub(crate) fn inputs(stage: usize) -> Arc<str> {
    ["visits.inputs", "totals.inputs"][stage].into()
}

impl Kind {
    fn bytes_in_flight(&self, env: &mut Env) -> usize {
        match self {
            Kind::Small => [600, 6_000][env.rng.below(2)],
            Kind::Real(_) => 400_000,
        }
    }

    /// Outputs in one part of a record; the product's own tasks have parts of their own.
    pub(crate) fn at_once(&self) -> usize {
        match self {
            Kind::Small => 2,
            Kind::Real(_) => usize::MAX,
        }
    }

    fn entries_at_once(&self) -> usize {
        match self {
            Kind::Small => 60,
            Kind::Real(_) => 2_000,
        }
    }

    /// A fresh task.
    pub(crate) fn task(&self, stage: usize, partition: PartitionId, config: u64) -> Box<dyn Task> {
        match (self, stage) {
            (Kind::Real(real), _) => real.task(stage, partition, config),
            (Kind::Small, 0) => Box::new(folds::Visits::new(partition, 1, ROLLUPS, config)),
            (Kind::Small, _) => Box::new(folds::Totals::new(partition, 1, INPUTS as usize)),
        }
    }
}

struct Factory {
    plan: Plan,
    busy: Arc<Mutex<bool>>,
}

impl TaskFactory for Factory {
    fn create(&self, _: &str, partition: PartitionId) -> Result<Box<dyn Task>, String> {
        let Plan { ref kind, stage, config, .. } = self.plan;
        let inner = kind.task(stage, partition, config);
        let busy = self.busy.clone();
        Ok(Box::new(Watched { inner, busy, at_once: kind.at_once(), rest: None }))
    }
}

/// A task that waits when it is told to, and that hands over what follows from a record in parts.
struct Watched {
    inner: Box<dyn Task>,
    busy: Arc<Mutex<bool>>,
    at_once: usize,
    /// What follows from the present record and has not been handed over.
    rest: Option<VecDeque<OutRecord>>,
}

impl Task for Watched {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        if let Some(mut rest) = self.rest.take() {
            let part = self.at_once.min(rest.len());
            out.records.extend(rest.drain(..part));
            self.rest = Some(rest).filter(|rest| !rest.is_empty());
            return Ok(());
        }
        if *self.busy.lock().expect("one thread") && !self.has_more() {
            return Err(TaskError::Retry { reason: "the registry is down".to_owned() });
        }
        self.inner.record(record, out)?;
        if out.records.len() > self.at_once {
            self.rest = Some(out.records.drain(self.at_once..).collect());
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.rest.is_some() || self.inner.has_more()
    }

    fn idle(
        &mut self,
        waited: Millis,
        caught_up: bool,
        out: &mut Produced,
    ) -> Result<(), TaskError> {
        self.inner.idle(waited, caught_up, out)
    }

    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError> {
        self.inner.seal(out)
    }

    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        self.inner.state()
    }

    fn side_inputs(&self) -> u64 {
        self.inner.side_inputs()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Assign(BTreeSet<TopicPartition>),
    Revoke(BTreeSet<TopicPartition>, bool),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Membership {
    Out,
    Joining,
    Stable,
}

/// The client's part of the group protocol, which goes on beside the worker's loop.
struct Client {
    state: Membership,
    id: Option<MemberId>,
    /// As of the last time that the group was in order.
    metadata: Option<(MemberId, u64)>,
    owned: BTreeSet<TopicPartition>,
    changes: VecDeque<Change>,
    rejoin: bool,
}

impl Client {
    fn name(&self) -> Option<String> {
        self.id.map(|id| id.to_string())
    }
}

/// One partition of the input, as the client reads it.
struct Feed {
    at: i64,
    paused: bool,
    told_end: i64,
    topic_id: u64,
}

enum Event {
    Record { at: TopicPartition, offset: i64, key: Option<Vec<u8>>, value: Option<Vec<u8>> },
    End { at: TopicPartition, next: i64 },
    Failed { at: TopicPartition },
}

impl Event {
    fn at(&self) -> &TopicPartition {
        match self {
            Event::Record { at, .. } | Event::End { at, .. } | Event::Failed { at } => at,
        }
    }
}

struct Restorer {
    at: TopicPartition,
    next: i64,
    end: Option<i64>,
    /// The local copy as it will be.
    copy: Copy,
}

#[derive(Clone, Copy, Debug)]
enum Pc {
    Serve,
    Report,
    Obey,
    Answers,
    Restore,
    Fold,
    Begin,
}

struct Flush {
    since: i64,
    /// `None`: the worker leaves afterwards.
    change: Option<BTreeSet<TopicPartition>>,
}

/// Why a worker is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Clean,
    Failed(String),
}

type Answer = (TopicPartition, Option<(Option<Committed>, Bounds)>);

/// A worker in its process.
pub(crate) struct Worker {
    pub(crate) plan: Plan,
    pub(crate) exit: Option<Exit>,
    /// Stopped by a signal until then.
    pub(crate) asleep_until: i64,
    pub(crate) committer: Committer,
    core: Core,
    factory: Arc<Factory>,
    client: Client,
    feeds: BTreeMap<TopicPartition, Feed>,
    queue: VecDeque<Event>,
    restorers: Vec<Restorer>,
    /// Local copies that are kept, as they will be when they are written next.
    copies: BTreeMap<PartitionId, Copy>,
    written: BTreeMap<PartitionId, i64>,
    to_read: Vec<(TopicPartition, Start)>,
    to_restore: Vec<TopicPartition>,
    answers: Vec<Answer>,
    flush: Option<Flush>,
    pc: Pc,
    stopping: bool,
    born: i64,
    /// Speed of its clock, per thousand, and what it has jumped.
    rate: i64,
    jumped: i64,
}

impl Worker {
    pub(crate) fn new(plan: Plan, env: &mut Env) -> Worker {
        let factory = Arc::new(Factory { plan: plan.clone(), busy: Arc::default() });
        let settings = Settings {
            role: ["visits", "totals"][plan.stage],
            committer: plan.txn_id.as_str().into(),
            run: env.time.unsigned_abs(),
            changelog: Some(changelog(plan.stage)),
            inputs: Some(inputs(plan.stage)),
            identity: Identity {
                generation: plan.generation,
                fold_version: 1,
                fingerprint: u128::from(plan.config),
                input_partitions: plan.input_partitions,
            },
            commit_interval: Millis::from_ms(100),
            checkpoint_interval: Millis::from_ms(1_500),
            standby_replicas: plan.standbys,
            in_flight_bytes: plan.kind.bytes_in_flight(env),
            keeps_copies: true,
        };
        Worker {
            exit: None,
            asleep_until: 0,
            committer: Committer::new(&plan.txn_id, plan.stage),
            core: Core::new(settings, factory.clone()),
            factory,
            client: Client {
                state: Membership::Out,
                id: None,
                metadata: None,
                owned: BTreeSet::new(),
                changes: VecDeque::new(),
                rejoin: false,
            },
            feeds: BTreeMap::new(),
            queue: VecDeque::new(),
            restorers: Vec::new(),
            copies: BTreeMap::new(),
            written: BTreeMap::new(),
            to_read: Vec::new(),
            to_restore: Vec::new(),
            answers: Vec::new(),
            flush: None,
            pc: Pc::Serve,
            stopping: false,
            born: env.time,
            rate: 980 + env.rng.below(41) as i64,
            jumped: env.rng.range(0, 10_000_000),
            plan,
        }
    }

    pub(crate) fn jump_clock(&mut self, by: i64) {
        self.jumped += by;
    }

    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(crate) fn is_idle_owner(&self) -> bool {
        self.core.is_quiet() && self.core.partitions().any(|p| p.caught_up)
    }

    /// How many of its partitions have their state back.
    pub(crate) fn restored(&self) -> usize {
        self.core.partitions().filter(|p| !p.restoring).count()
    }

    /// Partitions that it believes to own and does not.
    pub(crate) fn has_lost_something(&self, env: &Env) -> bool {
        let group = &env.groups[self.plan.stage];
        self.core.partitions().any(|p| group.owner(p.at) != self.client.id)
    }

    pub(crate) fn describe(&self) -> String {
        let slots: Vec<String> =
            self.core.partitions().map(|p| format!("{} {:?} {p:?}", p.at, p.next)).collect();
        format!(
            "{} exit {:?} {:?} {:?} quiet {} flying {} flushing {} changes {} job {:?}\n  {}",
            self.plan.txn_id,
            self.exit,
            self.pc,
            self.client.state,
            self.core.is_quiet(),
            self.core.is_flying(),
            self.flush.is_some(),
            self.client.changes.len(),
            self.committer.job.as_ref().map(|(_, step)| step),
            slots.join("\n  "),
        )
    }

    fn now(&self, env: &Env) -> Millis {
        Millis::from_ms((env.time - self.born) * self.rate / 1_000 + self.jumped)
    }

    fn topic(&self, env: &Env) -> u64 {
        let topic = [super::world::INPUT, folds::REPARTITION][self.plan.stage];
        env.broker.topics[topic].id
    }

    /// The client's background threads: group protocol.
    pub(crate) fn client_step(&mut self, env: &mut Env) {
        if !self.committer.is_ready() || self.exit.is_some() {
            return;
        }
        let now = env.time;
        let group = &mut env.groups[self.plan.stage];
        let client = &mut self.client;
        // The client joins again when the worker has answered.
        let answered = client.changes.is_empty() && self.flush.is_none();
        match client.state {
            Membership::Out => {
                if answered && !self.stopping {
                    client.id = Some(group.join(None, &client.owned, now));
                    client.state = Membership::Joining;
                }
            }
            Membership::Joining => {
                let id = client.id.expect("joined before");
                match group.sync(id) {
                    Ok(None) => {
                        if group.beat(id, now) == Beat::Rejoin {
                            group.join(Some(id), &client.owned, now);
                        }
                    }
                    Ok(Some((generation, given))) => {
                        client.metadata = Some((id, generation));
                        client.state = Membership::Stable;
                        client.rejoin = false;
                        let gone: BTreeSet<_> = client.owned.difference(&given).cloned().collect();
                        let new: BTreeSet<_> = given.difference(&client.owned).cloned().collect();
                        if !gone.is_empty() {
                            client.rejoin = true;
                            client.changes.push_back(Change::Revoke(gone, false));
                        }
                        if !new.is_empty() {
                            client.owned.extend(new.iter().cloned());
                            client.changes.push_back(Change::Assign(new));
                        }
                    }
                    Err(_) => self.lose(env),
                }
            }
            Membership::Stable => {
                let id = client.id.expect("joined before");
                match group.beat(id, now) {
                    Beat::Unknown if self.plan.forgetful => {
                        // The client learns of it while it joins, and says nothing.
                        client.state = Membership::Out;
                        client.id = None;
                        env.hit("joined anew without a word");
                    }
                    Beat::Unknown => self.lose(env),
                    Beat::Rejoin if answered => {
                        group.join(Some(id), &client.owned, now);
                        client.state = Membership::Joining;
                    }
                    Beat::Fine if client.rejoin && answered => {
                        group.join(Some(id), &client.owned, now);
                        client.state = Membership::Joining;
                    }
                    _ => {}
                }
            }
        }
    }

    fn lose(&mut self, env: &mut Env) {
        let client = &mut self.client;
        client.state = Membership::Out;
        client.id = None;
        client.rejoin = false;
        env.hit("membership lost");
        if !client.owned.is_empty() {
            let all = client.owned.clone();
            client.changes.push_back(Change::Revoke(all, true));
        }
    }

    /// The client's background threads: fetches.
    pub(crate) fn fetch_step(&mut self, env: &mut Env) {
        if self.queue.len() >= QUEUE_MOST || self.feeds.is_empty() || self.exit.is_some() {
            return;
        }
        let topic_id = self.topic(env);
        let place = env.rng.below(self.feeds.len());
        let count = 1 + env.rng.below(20);
        let (at, feed) = self.feeds.iter_mut().nth(place).expect("counted");
        if feed.paused {
            return;
        }
        let log = env.broker.log(at);
        if feed.at < log.low && Mutation::GapIgnored.is_on() {
            feed.at = log.low;
        }
        if feed.at < log.low || feed.at > log.high() || feed.topic_id != topic_id {
            self.queue.push_back(Event::Failed { at: at.clone() });
            return;
        }
        let stable = log.stable();
        for _ in 0..count {
            while feed.at < stable {
                let entry = log.entries[feed.at as usize].as_ref();
                if let Some(entry) = entry.filter(|entry| env.broker.is_visible(entry)) {
                    self.queue.push_back(Event::Record {
                        at: at.clone(),
                        offset: feed.at,
                        key: entry.key.clone(),
                        value: entry.value.clone(),
                    });
                    feed.at += 1;
                    break;
                }
                feed.at += 1;
            }
        }
        if feed.at == stable && feed.told_end != stable {
            feed.told_end = stable;
            self.queue.push_back(Event::End { at: at.clone(), next: stable });
        }
    }

    /// One step of the worker's own loop.
    pub(crate) fn main_step(&mut self, env: &mut Env) {
        if !self.committer.is_ready() || self.exit.is_some() {
            return;
        }
        // A fold that finds its input impossible stops its process with a panic.
        let act = || if self.flush.is_some() { self.flush_step(env) } else { self.round(env) };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.unwrap_or_else(|| "a panic".to_owned()))
        });
        if let Err(error) = result {
            env.tell(|| format!("{} fails: {error}", self.plan.txn_id));
            self.exit = Some(Exit::Failed(error));
        }
    }

    fn round(&mut self, env: &mut Env) -> Result<(), String> {
        let now = self.now(env);
        match self.pc {
            Pc::Serve => {
                self.pc = Pc::Report;
                self.serve(env)?;
            }
            Pc::Report => {
                self.pc = Pc::Obey;
                self.take_report(env)?;
                if self.stopping {
                    self.start_flush(None, env);
                }
            }
            Pc::Obey => {
                self.pc = Pc::Answers;
                self.obey(env);
            }
            Pc::Answers => {
                self.pc = Pc::Restore;
                for (at, answer) in std::mem::take(&mut self.answers) {
                    match answer {
                        Some((committed, bounds)) => {
                            self.core.committed(&at, committed, bounds, now).map_err(say)?;
                        }
                        None => self.core.not_answered(&at, now),
                    }
                }
                self.read_on(env);
            }
            Pc::Restore => {
                self.pc = Pc::Fold;
                self.restore(env)?;
            }
            Pc::Fold => {
                self.pc = Pc::Begin;
                self.fold(env)?;
            }
            Pc::Begin => {
                self.pc = Pc::Serve;
                self.begin(false, env)?;
            }
        }
        Ok(())
    }

    fn serve(&mut self, env: &mut Env) -> Result<(), String> {
        while let Some(change) = self.client.changes.pop_front() {
            if !self.queue.is_empty() {
                env.hit("rebalance in the middle of a batch");
            }
            if !self.restorers.is_empty() {
                env.hit("rebalance in the middle of a restore");
            }
            if let Some((job, _)) = &self.committer.job
                && job.facts.has_checkpoint
            {
                env.hit("rebalance in the middle of a checkpoint");
            }
            match change {
                Change::Assign(partitions) => {
                    let topic_id = self.topic(env);
                    self.core.joined(self.client.name().as_deref());
                    for at in partitions {
                        self.core.assign(at.clone(), self.now(env)).map_err(say)?;
                        let feed = Feed { at: 0, paused: true, told_end: -1, topic_id };
                        self.feeds.insert(at, feed);
                    }
                }
                Change::Revoke(partitions, true) => self.give_up(&partitions, env),
                Change::Revoke(partitions, false) => {
                    self.start_flush(Some(partitions), env);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn start_flush(&mut self, change: Option<BTreeSet<TopicPartition>>, env: &mut Env) {
        let partitions: Vec<TopicPartition> = match &change {
            Some(partitions) => partitions.iter().cloned().collect(),
            None => self.core.partitions().map(|p| p.at.clone()).collect(),
        };
        self.core.checkpoint(&partitions);
        self.flush = Some(Flush { since: env.time, change });
    }

    fn flush_step(&mut self, env: &mut Env) -> Result<(), String> {
        self.take_report(env)?;
        if self.core.is_in_part() && self.core.has_room() {
            env.hit("the rest of a record is folded before a revocation");
            self.fold_some(1, env)?;
        }
        let done = !self.core.is_flying() && !self.begin(true, env)? && self.core.is_quiet();
        let flush = self.flush.as_ref().expect("only called while flushing");
        if !done && env.time <= flush.since + FLUSH_WITHIN {
            return Ok(());
        }
        if !done {
            env.hit(NO_LAST_COMMIT);
        }
        let flush = self.flush.take().expect("just seen");
        match flush.change {
            Some(partitions) => self.give_up(&partitions, env),
            None => {
                if let Some(id) = self.client.id {
                    env.groups[self.plan.stage].leave(id, env.time);
                }
                self.exit = Some(Exit::Clean);
            }
        }
        Ok(())
    }

    fn give_up(&mut self, partitions: &BTreeSet<TopicPartition>, env: &mut Env) {
        for at in partitions {
            self.core.revoke(at);
            self.copies.remove(&at.partition);
            self.to_read.retain(|(of, _)| of != at);
            self.to_restore.retain(|of| of != at);
            self.feeds.remove(at);
            self.queue.retain(|event| event.at() != at);
            self.client.owned.remove(at);
        }
        let now = self.now(env);
        for command in self.core.commands(now) {
            match command {
                Command::AskOwners => {}
                Command::Follow(at) => self.start_restore(at, env),
                Command::CloseChangelog(at) => self.close(&at),
                Command::Read(at, start) => self.to_read.push((at, start)),
                Command::AskCommitted(at) => self.core.not_answered(&at, now),
                Command::ReadChangelog(at) => self.to_restore.push(at),
                Command::Pause(at) => {
                    if let Some(feed) = self.feeds.get_mut(&at) {
                        feed.paused = true;
                    }
                }
            }
        }
        self.to_restore.retain(|at| self.core.partitions().any(|p| p.at == at));
    }

    fn take_report(&mut self, env: &mut Env) -> Result<(), String> {
        if !self.core.is_flying() {
            return Ok(());
        }
        if let Some(report) = self.committer.report.take() {
            self.written.append(&mut self.committer.checkpoints);
            let done = self.core.finished(report?);
            env.tell(|| format!("{} finished {done:?}", self.plan.txn_id));
        }
        self.keep_settled(env);
        Ok(())
    }

    /// Adds acknowledged checkpoints to local copies.
    fn keep_settled(&mut self, env: &mut Env) {
        for settled in self.core.take_settled() {
            let partition = settled.at.partition;
            let next = self.written.remove(&partition);
            let Some(copy) = self.copies.get_mut(&partition) else { continue };
            settled.entries().for_each(|(key, value)| copy.take(key, value));
            copy.take(CHECKPOINT_KEY, settled.checkpoint());
            // What is not written now is with the next.
            if let Some(next) = next.filter(|_| env.rng.permille(700)) {
                copy.next = next;
                env.disks.insert((self.plan.txn_id.clone(), partition), copy.clone());
            }
        }
    }

    /// Begins with the local copy, if there is one of this changelog.
    fn start_restore(&mut self, at: TopicPartition, env: &mut Env) {
        let disk = (self.plan.txn_id.clone(), at.partition);
        if env.rng.permille(100) && env.disks.remove(&disk).is_some() {
            env.hit("local copy lost");
        }
        let of = TopicPartition { topic: changelog(self.plan.stage), partition: at.partition };
        let (low, stable) = (env.broker.log(&of).low, env.broker.log(&of).stable());
        let first = env.broker.committed(&of).next().map(|(_, entry)| entry.clone());
        let mut unframer = Unframer::default();
        let identity = first.filter(|entry| entry.key.as_deref() == Some(IDENTITY_KEY));
        let framed = identity.and_then(|entry| entry.value).unwrap_or_default();
        let is_of_use = |copy: &Copy| {
            let checkpoint = copy.checkpoint.as_deref().map(|c| unframer.checkpoint(c));
            let Some(Ok(checkpoint)) = checkpoint else { return false };
            let said = Unframer::default().entry(&framed).map(|text| text.into_owned());
            let bounds = Bounds { low: NextOffset::new(low), high: NextOffset::new(stable) };
            let next = NextOffset::new(copy.next);
            self.core.settings().may_begin_with(&checkpoint, next, bounds)
                && said.as_deref() == Ok(checkpoint.changelog.as_bytes())
        };
        let mut restorer = Restorer { at, next: 0, end: None, copy: Copy::default() };
        match env.disks.get(&disk).cloned().filter(is_of_use) {
            Some(copy) => {
                env.hit("restored from a local copy");
                if env.broker.committed(&of).any(|(offset, _)| offset >= copy.next) {
                    env.hit("a local copy was behind");
                }
                self.core.entry(&restorer.at, IDENTITY_KEY, Some(&framed));
                for (key, value) in &copy.entries {
                    self.core.entry(&restorer.at, key, Some(value));
                }
                self.core.entry(&restorer.at, CHECKPOINT_KEY, copy.checkpoint.as_deref());
                (restorer.next, restorer.copy) = (copy.next, copy);
            }
            None => {
                env.disks.remove(&disk);
            }
        }
        self.restorers.push(restorer);
    }

    fn close(&mut self, at: &TopicPartition) {
        let closed = self.restorers.extract_if(.., |r| r.at == *at);
        self.copies.extend(closed.map(|r| (r.at.partition, r.copy)));
    }

    fn obey(&mut self, env: &mut Env) {
        let mut restore = std::mem::take(&mut self.to_restore);
        let mut ask = Vec::new();
        for command in self.core.commands(self.now(env)) {
            match command {
                Command::AskCommitted(at) => ask.push(at),
                Command::ReadChangelog(at) => restore.push(at),
                Command::AskOwners => self.ask_owners(env),
                Command::Follow(at) => self.start_restore(at, env),
                Command::CloseChangelog(at) => {
                    restore.retain(|of| *of != at);
                    self.close(&at);
                }
                Command::Read(at, start) => self.to_read.push((at, start)),
                Command::Pause(at) => {
                    // What has been handed out already stays in the queue.
                    self.to_read.retain(|(of, _)| *of != at);
                    if let Some(feed) = self.feeds.get_mut(&at) {
                        feed.paused = true;
                    }
                    env.hit("task waits");
                }
            }
        }
        for at in restore {
            if self.restorers.iter().any(|r| r.at == at) {
                env.hit("standby promoted");
                continue;
            }
            self.start_restore(at, env);
        }
        self.answers = ask.into_iter().map(|at| self.ask(at, env)).collect();
    }

    fn ask(&mut self, at: TopicPartition, env: &mut Env) -> Answer {
        let odds = env.odds;
        if env.rng.permille(odds.refuse) {
            env.hit("question not answered");
            return (at, None);
        }
        let Ok(found) = env.broker.stable_offset(self.plan.stage, &at).map(Option::<&_>::cloned)
        else {
            env.hit("committed offset not stable");
            return (at, None);
        };
        let mut committed = found.map(|(next, text)| Committed {
            next: NextOffset::new(next),
            metadata: text.parse().ok(),
        });
        let metadata = committed.as_ref().and_then(|committed| committed.metadata.as_ref());
        if metadata.is_some_and(|metadata| metadata.part > 0) {
            env.hit("restart in the middle of a record");
        }
        if committed.is_some() && env.rng.permille(odds.forget) {
            env.hit("coordinator knows no offset for a moment");
            committed = None;
        }
        let log = env.broker.log(&at);
        let low = NextOffset::new(log.low);
        let bounds = Bounds { low, high: NextOffset::new(log.stable()) };
        (at, Some((committed, bounds)))
    }

    fn ask_owners(&mut self, env: &mut Env) {
        if env.rng.permille(env.odds.refuse) {
            return;
        }
        let topic = [super::world::INPUT, folds::REPARTITION][self.plan.stage];
        let mut owners = BTreeMap::new();
        for partition in 0..self.plan.input_partitions {
            let at = TopicPartition::new(topic, PartitionId::new(partition));
            let Ok(Some((_, text))) = env.broker.stable_offset(self.plan.stage, &at) else {
                continue;
            };
            if let Ok(metadata) = text.parse::<Metadata>() {
                owners.insert(at, metadata.committer);
            }
        }
        self.core.owners(&owners);
    }

    fn read_on(&mut self, env: &mut Env) {
        for (at, start) in std::mem::take(&mut self.to_read) {
            if env.rng.permille(env.odds.refuse) {
                self.to_read.push((at, start));
                continue;
            }
            let low = env.broker.log(&at).low;
            let Some(feed) = self.feeds.get_mut(&at) else { continue };
            feed.at = match start {
                Start::At(next) => next.get(),
                Start::Configured => low,
            };
            feed.paused = false;
            feed.told_end = -1;
            self.queue.retain(|event| *event.at() != at);
            self.core.reads(&at);
        }
    }

    fn restore(&mut self, env: &mut Env) -> Result<(), String> {
        let now = self.now(env);
        let topic = changelog(self.plan.stage);
        for restorer in &mut self.restorers {
            let at = TopicPartition { topic: topic.clone(), partition: restorer.at.partition };
            let log = env.broker.log(&at);
            let (stable, high) = (log.stable(), log.high());
            restorer.next = restorer.next.max(log.low);
            let count = 5 + env.rng.below(self.plan.kind.entries_at_once());
            for _ in 0..count {
                let Some(entry) =
                    log.entries.get(restorer.next as usize).filter(|_| restorer.next < stable)
                else {
                    break;
                };
                restorer.next += 1;
                if let Some(entry) = entry.as_ref().filter(|e| env.broker.is_visible(e)) {
                    restorer.end = None;
                    let key = entry.key.as_deref().unwrap_or_default();
                    restorer.copy.take(key, entry.value.as_deref());
                    self.core.entry(&restorer.at, key, entry.value.as_deref());
                }
            }
            if restorer.next >= stable {
                restorer.end = Some(stable);
                if restorer.copy.checkpoint.is_some() {
                    restorer.copy.next = stable;
                    let disk = (self.plan.txn_id.clone(), at.partition);
                    env.disks.insert(disk, restorer.copy.clone());
                }
                if high > stable {
                    env.hit("changelog not stable at a restore");
                }
            }
        }
        for restorer in &self.restorers {
            let Some(end) = restorer.end else { continue };
            let at = TopicPartition { topic: topic.clone(), partition: restorer.at.partition };
            let open = env.broker.log(&at).high() > end;
            let first = NextOffset::new(env.broker.log(&at).low);
            self.core.changelog_end(&restorer.at, first, open, now).map_err(say)?;
        }
        Ok(())
    }

    fn fold(&mut self, env: &mut Env) -> Result<(), String> {
        if !self.core.has_room() {
            env.hit("no room");
            return self.take_report(env);
        }
        *self.factory.busy.lock().expect("one thread") =
            self.plan.stage == 0 && env.time < env.waits_until;
        let count = 1 + env.rng.below(25);
        self.fold_some(count, env)
    }

    fn fold_some(&mut self, count: usize, env: &mut Env) -> Result<(), String> {
        let now = self.now(env);
        for _ in 0..count {
            if !self.core.has_room() {
                break;
            }
            let Some(event) = self.queue.pop_front() else { break };
            match event {
                Event::Record { at, offset, key, value } => {
                    let record = Record {
                        topic: &at.topic,
                        partition: at.partition,
                        offset: Offset::new(offset),
                        timestamp: env.time,
                        timestamp_is_append: true,
                        key: key.as_deref(),
                        value: value.as_deref(),
                        headers: Headers::NONE,
                    };
                    match self.core.record(&record, now).map_err(say)? {
                        Folded::Waits => env.hit("task asks for a retry"),
                        Folded::InPart => {
                            env.hit("a record in part");
                            self.queue.push_front(Event::Record { at, offset, key, value });
                            break;
                        }
                        Folded::Yes | Folded::Skipped => {}
                    }
                }
                Event::End { at, next } => {
                    self.core.end_of_partition(&at, NextOffset::new(next));
                }
                Event::Failed { at } => return Err(format!("{at}: out of range")),
            }
        }
        Ok(())
    }

    fn begin(&mut self, at_once: bool, env: &mut Env) -> Result<bool, String> {
        let now = self.now(env);
        let Some(transaction) = self.core.begin(now, at_once).map_err(say)? else {
            return Ok(false);
        };
        let (member, generation) = self.client.metadata.ok_or("the consumer has no group")?;
        let name = self.client.name();
        match self.core.membership(name.as_deref()) {
            Standing::Same => {}
            Standing::Nobody => {
                self.core.finished(Outcome::Aborted);
                return Ok(false);
            }
            Standing::Another(_) => {
                self.core.finished(Outcome::Aborted);
                self.subscribe_anew(env);
                return Ok(false);
            }
        }
        let facts = self.facts(&transaction);
        env.tell(|| format!("{} begins {:?}", self.plan.txn_id, facts.steps));
        if facts.has_ticks && self.has_lost_something(env) {
            env.hit("idle zombie ticks");
        }
        self.committer.submit(Job { transaction, member, generation, facts });
        Ok(true)
    }

    /// Gives up everything, leaves the group and joins it again.
    fn subscribe_anew(&mut self, env: &mut Env) {
        env.hit("joined under another name");
        let all = std::mem::take(&mut self.client.owned);
        self.give_up(&all, env);
        self.client.changes.clear();
        if let Some(id) = self.client.id.take() {
            env.groups[self.plan.stage].leave(id, env.time);
        }
        self.client.state = Membership::Out;
    }

    fn facts(&self, transaction: &Transaction) -> Facts {
        let mut checkpoints: BTreeMap<PartitionId, Vec<(u64, i64)>> = BTreeMap::new();
        let mut unframer = Unframer::default();
        for record in transaction.outputs() {
            if record.key.as_deref() == Some(CHECKPOINT_KEY) {
                let value = record.value.as_deref().unwrap_or_default();
                let found = unframer.checkpoint(value).expect("just framed");
                let partition = record.partition.expect("checkpoints name it");
                let of = checkpoints.entry(partition).or_default();
                of.push((found.side_input, found.next.get()));
            }
        }
        let has_checkpoint = !checkpoints.is_empty();
        let name = inputs(self.plan.stage);
        let has_ticks = transaction.outputs().iter().any(|record| record.topic == name);
        let step = |offset: &OffsetToCommit| Step {
            at: offset.at.clone(),
            next: offset.next.get(),
            metadata: offset.metadata.parse().expect("just written"),
            config: self.plan.config,
            checkpoints: checkpoints.get(&offset.at.partition).cloned().unwrap_or_default(),
        };
        let steps = transaction.offsets.iter().map(step).collect();
        Facts { steps, has_checkpoint, has_ticks }
    }
}

fn say(error: Error) -> String {
    error.to_string()
}
