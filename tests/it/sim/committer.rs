//! The transactional producer of a worker, call by call, with the classes of errors of the real one.

use super::broker::{Entry, Refusal};
use super::env::{Env, Facts};
use super::group::MemberId;
use std::collections::BTreeMap;
use std::sync::Arc;
use touchline::codec::checkpoint::CHECKPOINT_KEY;
use touchline::codec::murmur2;
use touchline::engine::mutation::Mutation;
use touchline::kafka::exactly::core::{Outcome, Transaction};
use touchline::kafka::{OutRecord, TopicPartition};
use touchline::model::ids::PartitionId;

/// Fences in a row after which another process with the same name must be assumed.
const FENCES_MOST: u32 = 3;

/// What one worker hands to its committer.
pub(crate) struct Job {
    pub(crate) transaction: Transaction,
    pub(crate) member: MemberId,
    pub(crate) generation: u64,
    pub(crate) facts: Facts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Produce(usize),
    Offsets,
    Commit,
    Abort,
    /// Nobody knows what became of it: the producer is made anew.
    Init,
}

/// A report: what became of a job, or that the worker is over.
pub(crate) type Report = Result<Outcome, String>;

/// The producer.
pub(crate) struct Committer {
    id: String,
    group: usize,
    epoch: Option<u64>,
    pub(crate) job: Option<(Job, Step)>,
    pub(crate) report: Option<Report>,
    /// Partitions of the changelog that the last job wrote a checkpoint record to, and the offset behind.
    pub(crate) checkpoints: BTreeMap<PartitionId, i64>,
    fences: u32,
}

impl Committer {
    pub(crate) fn new(id: &str, group: usize) -> Committer {
        Committer {
            id: id.to_owned(),
            group,
            epoch: None,
            job: None,
            report: None,
            checkpoints: BTreeMap::new(),
            fences: 0,
        }
    }

    /// True once it may take jobs.
    pub(crate) fn is_ready(&self) -> bool {
        self.epoch.is_some()
    }

    pub(crate) fn submit(&mut self, job: Job) {
        assert!(self.job.is_none() && self.report.is_none(), "one transaction at a time");
        self.checkpoints.clear();
        let step = produce(&job, 0);
        self.job = Some((job, step));
    }

    /// One call to a broker.
    pub(crate) fn step(&mut self, env: &mut Env) {
        if env.time < env.slow_until && !env.rng.permille(60) {
            env.hit("slow broker");
            return;
        }
        let Some((job, step)) = self.job.take() else {
            if self.epoch.is_none() {
                self.epoch = env.broker.init(&self.id).ok();
            }
            return;
        };
        let (odds, lost) = (env.odds, env.odds.lost > 0 && env.rng.permille(env.odds.lost));
        if lost && env.rng.permille(500) {
            env.hit("lost request");
            self.job = Some((job, step));
            return;
        }
        if step == Step::Init {
            match env.broker.init(&self.id) {
                Ok(epoch) => {
                    self.epoch = Some(epoch);
                    self.report = Some(Ok(Outcome::Unknown));
                }
                Err(_) => self.job = Some((job, step)),
            }
            return;
        }
        if step == Step::Commit && env.rng.permille(odds.unknown / 2) {
            env.hit("unknown outcome, not committed");
            self.job = Some((job, Step::Init));
            return;
        }
        let result = self.call(&job, step, env);
        // Executed, and nobody hears of it.
        if step == Step::Commit && env.rng.permille(odds.unknown) {
            env.hit(match result {
                Ok(()) => "unknown outcome, committed",
                Err(_) => "unknown outcome, refused",
            });
            self.job = Some((job, Step::Init));
            return;
        }
        if lost && result.is_ok() {
            env.hit(match step {
                Step::Produce(_) => "lost response to produce, repeated",
                Step::Offsets => "lost response to offsets, repeated",
                _ => "lost response to end, repeated",
            });
            self.job = Some((job, step));
            return;
        }
        match result {
            Ok(()) => self.advance(job, step, env),
            Err(Refusal::Again) => self.job = Some((job, step)),
            Err(Refusal::Abort) if step != Step::Abort => self.job = Some((job, Step::Abort)),
            Err(_) => {
                env.hit("fenced producer");
                self.fences += 1;
                if self.fences >= FENCES_MOST {
                    self.report = Some(Err("fenced three times in a row".to_owned()));
                    return;
                }
                self.job = Some((job, Step::Init));
            }
        }
    }

    fn advance(&mut self, job: Job, step: Step, env: &mut Env) {
        match step {
            Step::Produce(mut n) => {
                // A burst: many records travel together.
                let length = job.transaction.outputs().len();
                n += 1;
                while n < length
                    && !env.rng.permille(1 + 800 / length as u64)
                    && self.call(&job, Step::Produce(n), env).is_ok()
                {
                    n += 1;
                }
                let next = produce(&job, n);
                self.job = Some((job, next));
            }
            Step::Offsets => self.job = Some((job, Step::Commit)),
            Step::Commit => {
                self.fences = 0;
                self.report = Some(Ok(Outcome::Committed));
            }
            Step::Abort => {
                env.hit("abort");
                self.report = Some(Ok(Outcome::Aborted));
            }
            Step::Init => unreachable!("handled before"),
        }
    }

    fn call(&mut self, job: &Job, step: Step, env: &mut Env) -> Result<(), Refusal> {
        let epoch = self.epoch.expect("initialised before it takes jobs");
        let now = env.time;
        let txn = match step {
            Step::Produce(n) => {
                let record = &job.transaction.outputs()[n];
                if env.rng.permille(env.odds.abort) {
                    env.hit("output not delivered in time");
                    return Err(Refusal::Abort);
                }
                let at = place(record, env);
                let entry = entry(record, now);
                let before = env.broker.log(&at).high();
                let txn = env.broker.produce((&self.id, epoch), n, &at, entry, now)?;
                let next = env.broker.log(&at).high();
                if next > before && record.key.as_deref() == Some(CHECKPOINT_KEY) {
                    self.checkpoints.insert(at.partition, next);
                }
                txn
            }
            Step::Offsets => return self.offsets(job, epoch, env),
            Step::Commit => return env.broker.end(&self.id, epoch, true),
            Step::Abort => return env.broker.end(&self.id, epoch, false),
            Step::Init => unreachable!("handled before"),
        };
        env.facts.entry(txn).or_insert_with(|| job.facts.clone());
        Ok(())
    }

    fn offsets(&mut self, job: &Job, epoch: u64, env: &mut Env) -> Result<(), Refusal> {
        let offsets = &job.transaction.offsets;
        if Mutation::OffsetsOutsideTransaction.is_on() {
            for offset in offsets {
                let of = &mut env.broker.offsets[self.group].committed;
                of.insert(offset.at.clone(), (offset.next.get(), offset.metadata.clone()));
            }
            return Ok(());
        }
        if !env.groups[self.group].allows(job.member, job.generation) {
            env.hit("offsets of a stale member refused");
            if Mutation::FenceIgnored.is_on() {
                return Ok(());
            }
            return Err(Refusal::Abort);
        }
        let txn = env.broker.send_offsets(&self.id, epoch, self.group, offsets, env.time)?;
        env.facts.entry(txn).or_insert_with(|| job.facts.clone());
        Ok(())
    }

    /// Where the worker would be if it died now.
    pub(crate) fn moment(&self) -> &'static str {
        match &self.job {
            None if self.report.is_some() => "crash after a commit, before its report",
            None => "crash between commits",
            Some((_, Step::Produce(0))) => "crash before a commit",
            Some((_, Step::Produce(_))) => "crash while producing",
            Some((_, Step::Offsets)) => "crash before the offsets",
            Some((_, Step::Commit)) => "crash between offsets and commit",
            Some((_, Step::Abort)) => "crash before an abort",
            Some((_, Step::Init)) => "crash with an unknown outcome",
        }
    }
}

fn produce(job: &Job, n: usize) -> Step {
    if n < job.transaction.outputs().len() { Step::Produce(n) } else { Step::Offsets }
}

/// Partition that a record goes to.
pub(crate) fn place(record: &OutRecord, env: &Env) -> TopicPartition {
    let count = env.broker.topics[&record.topic].logs.len() as i32;
    let partition = record.partition.unwrap_or_else(|| {
        let hash = murmur2::murmur2(record.key.as_deref().unwrap_or_default());
        PartitionId::new((hash & 0x7fff_ffff) as i32 % count)
    });
    TopicPartition { topic: Arc::clone(&record.topic), partition }
}

fn entry(record: &OutRecord, now: i64) -> Entry {
    Entry {
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp: now,
        txn: None,
        is_marker: false,
        injected: false,
    }
}
