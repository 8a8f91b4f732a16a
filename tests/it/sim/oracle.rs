//! What should have come out: the uninterrupted fold of what was committed, followed step by step, and
//! the comparison with what lies in the topics.

use super::broker::{Broker, Entry, TxnId};
use super::env::{Env, Facts, Step};
use super::folds::{ALERTS, FACTS, REPARTITION, WINDOWS};
use super::real;
use super::worker::{INPUTS, Kind, ROLLUPS, changelog, inputs};
use super::world::INPUT;
use std::collections::{BTreeMap, VecDeque};
use touchline::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY, Unframer};
use touchline::codec::flush;
use touchline::codec::inputs::{InForce, SideInput, Taken};
use touchline::engine::state::Entry as StateEntry;
use touchline::kafka::{Headers, Produced, Record, Task, TopicPartition};
use touchline::model::ids::{Offset, PartitionId};
use touchline::model::time::Millis;

type Pair = (Vec<u8>, Vec<u8>);
type Said = BTreeMap<TopicPartition, Vec<Pair>>;

/// The uninterrupted fold of one partition.
struct Reference {
    kind: Kind,
    stage: usize,
    at: TopicPartition,
    task: Box<dyn Task>,
    /// What is in force; before the first commit, nothing is.
    config: u64,
    is_committed: bool,
    next: i64,
    ticks: u64,
    ticked: i64,
    /// The topic with its side inputs.
    inputs_at: TopicPartition,
    said: Said,
    inputs: usize,
    /// Of the record at `next`, if some of its parts were published: how many, and the others.
    halfway: Option<(u64, VecDeque<Produced>)>,
}

impl Reference {
    fn new(kind: &Kind, stage: usize, at: TopicPartition) -> Reference {
        let (kind, task) = (kind.clone(), kind.task(stage, at.partition, 1));
        let (next, ticks, ticked) = (0, 0, 0);
        let inputs_at = TopicPartition { topic: inputs(stage), partition: at.partition };
        Reference {
            kind,
            stage,
            at,
            task,
            config: 1,
            is_committed: false,
            next,
            ticks,
            ticked,
            inputs_at,
            said: Said::new(),
            inputs: 0,
            halfway: None,
        }
    }

    fn take(said: &mut Said, out: Produced, broker: &Broker) {
        for record in out.records {
            let count = broker.topics[&record.topic].logs.len() as i32;
            let at = TopicPartition {
                partition: record.partition.unwrap_or_else(|| {
                    let hash = touchline::codec::murmur2::murmur2(
                        record.key.as_deref().unwrap_or_default(),
                    );
                    PartitionId::new((hash & 0x7fff_ffff) as i32 % count)
                }),
                topic: record.topic,
            };
            let pair = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
            said.entry(at).or_default().push(pair);
        }
    }

    /// What follows from a record, part by part.
    fn fold(&mut self, offset: i64, entry: &Entry) -> Result<VecDeque<Produced>, String> {
        let record = Record {
            topic: &self.at.topic,
            partition: self.at.partition,
            offset: Offset::new(offset),
            timestamp: entry.timestamp,
            timestamp_is_append: true,
            key: entry.key.as_deref(),
            value: entry.value.as_deref(),
            headers: Headers::NONE,
        };
        let failed =
            |e| format!("{} offset {offset} was committed, but it stops with {e:?}", self.at);
        let mut parts = VecDeque::new();
        loop {
            let mut out = Produced::default();
            self.task.record(&record, &mut out).map_err(failed)?;
            loop {
                let rest = out.records.split_off(self.kind.at_once().min(out.records.len()));
                let part = std::mem::replace(&mut out.records, rest);
                parts.push_back(Produced { records: part, ..Produced::default() });
                if out.records.is_empty() {
                    break;
                }
            }
            if !self.task.has_more() {
                break;
            }
        }
        self.ticked = 0;
        self.inputs += 1;
        Ok(parts)
    }

    /// Folds a record, or what is left of it.
    fn record(&mut self, offset: i64, entry: &Entry, broker: &Broker) -> Result<(), String> {
        let parts = match self.halfway.take() {
            Some((_, parts)) => parts,
            None => self.fold(offset, entry)?,
        };
        parts.into_iter().for_each(|part| Reference::take(&mut self.said, part, broker));
        Ok(())
    }

    /// Folds a record, of which so many parts are published.
    fn parts(&mut self, upto: u64, entry: &Entry, broker: &Broker) -> Result<(), String> {
        let (mut done, mut parts) = match self.halfway.take() {
            Some(halfway) => halfway,
            None => (0, self.fold(self.next, entry)?),
        };
        while done < upto {
            let part = parts.pop_front().ok_or("more parts are committed than there are")?;
            Reference::take(&mut self.said, part, broker);
            done += 1;
        }
        self.halfway = Some((done, parts));
        Ok(())
    }

    fn tick(&mut self, advance: i64, broker: &Broker) {
        let mut out = Produced::default();
        self.ticked += advance;
        self.task.idle(Millis::from_ms(self.ticked), true, &mut out).expect("no fault here");
        self.ticks += 1;
        Reference::take(&mut self.said, out, broker);
    }

    fn switch(&mut self, config: u64) {
        let entries = entries(&mut *self.task);
        self.task = self.kind.task(self.stage, self.at.partition, config);
        self.config = config;
        self.ticked = 0;
        let state = self.task.state().expect("it has one");
        for entry in entries {
            state.restore(&entry.key, entry.value.as_deref()).expect("just written");
        }
        state.restored().expect("complete");
    }

    /// The side inputs that a transaction carries, as they stand in the topic: each once and in order,
    /// with a checkpoint that remembers it beside it.
    fn side_inputs(
        &self,
        txn: TxnId,
        step: &Step,
        broker: &Broker,
    ) -> Result<VecDeque<SideInput>, String> {
        let mut found = VecDeque::new();
        for entry in broker.log(&self.inputs_at).entries.iter().flatten() {
            if entry.is_marker || entry.txn != Some(txn) {
                continue;
            }
            let value = entry.value.as_deref().unwrap_or_default();
            let input = SideInput::from_json(value)?;
            let (number, next) = (input.number, input.next.get());
            if entry.key.as_deref() != Some(number.to_string().as_bytes()) {
                return Err(format!("{}: side input {number} has another key", self.inputs_at));
            }
            if !step.checkpoints.iter().any(|(upto, at)| *upto >= number && *at == next) {
                return Err(format!("{}: side input {number} has no checkpoint", self.inputs_at));
            }
            found.push_back(input);
        }
        Ok(found)
    }

    fn follow(&mut self, txn: TxnId, step: &Step, broker: &Broker) -> Result<(), String> {
        let at = &step.at;
        if step.next < self.next {
            return Err(format!("{at}: offset {} is committed after {}", step.next, self.next));
        }
        if !self.is_committed {
            // The number of its commit says nothing: those before it may have been aborted.
            self.switch(step.config);
            self.is_committed = true;
        }
        let mut ticks = self.side_inputs(txn, step, broker)?;
        let log = broker.log(at);
        while self.next <= step.next {
            while let Some(input) = ticks.pop_front_if(|input| input.next.get() <= self.next) {
                let (number, next) = (input.number, input.next);
                let is_switch = matches!(input.taken, Taken::Switch { .. });
                if number != self.ticks + u64::from(!is_switch) || next.get() < self.next {
                    let (ticks, at_next) = (self.ticks, self.next);
                    return Err(format!("{at}: {input:?}, but {ticks} are known at {at_next}"));
                }
                match input.taken {
                    Taken::Tick { advance } => self.tick(advance.as_ms(), broker),
                    Taken::Switch { from, to } if from == in_force(self.config) => {
                        self.switch(3 - self.config);
                        if to != in_force(self.config) {
                            return Err(format!("{at}: switched to {to:?}"));
                        }
                    }
                    other => return Err(format!("{at}: under {}: {other:?}", self.config)),
                }
            }
            if self.next == step.next {
                break;
            }
            let offset = self.next;
            self.next += 1;
            if let Some(entry) = log.entries.get(offset as usize).and_then(Option::as_ref)
                && broker.is_visible(entry)
            {
                let entry = entry.clone();
                self.record(offset, &entry, broker)?;
            }
        }
        if step.metadata.part > 0 {
            let entry = log.entries.get(self.next as usize).and_then(Option::as_ref);
            let entry = entry.ok_or("a part of nothing is committed")?.clone();
            self.parts(step.metadata.part, &entry, broker)?;
        }
        let said = step.metadata.side_input;
        if step.config != self.config {
            let (was, is) = (self.config, step.config);
            return Err(format!("{at}: folded under {is}, recorded is {was}"));
        }
        if said != self.ticks || !ticks.is_empty() {
            return Err(format!("{at}: tick {said} is committed, {} are known", self.ticks));
        }
        Ok(())
    }
}

/// What a worker says that folds under a configuration.
fn in_force(config: u64) -> InForce {
    InForce::new(1, u128::from(config))
}

fn entries(task: &mut dyn Task) -> Vec<StateEntry> {
    let state = task.state().expect("it has one");
    let mut all = Vec::new();
    state.mark_all();
    state.take_dirty(&mut all);
    all.retain(|entry| entry.value.is_some());
    all.sort();
    all
}

/// The judge of a world.
pub(crate) struct Oracle {
    kind: Kind,
    references: Vec<Reference>,
}

/// Topics that a stage writes.
fn writes(stage: usize) -> Vec<&'static str> {
    let small: [&[&str]; 2] = [&[FACTS, REPARTITION], &[WINDOWS, ALERTS]];
    let real = real::WRITES[stage].iter().map(|topic| topic.default_name());
    small[stage].iter().copied().chain(real).collect()
}

impl Oracle {
    pub(crate) fn new(kind: &Kind) -> Oracle {
        let mut references = Vec::new();
        for (stage, topic, count) in [(0, INPUT, INPUTS), (1, REPARTITION, ROLLUPS)] {
            for partition in 0..count {
                let at = TopicPartition::new(topic, PartitionId::new(partition));
                references.push(Reference::new(kind, stage, at));
            }
        }
        Oracle { kind: kind.clone(), references }
    }

    /// A transaction was committed.
    pub(crate) fn follow(
        &mut self,
        txn: TxnId,
        facts: &Facts,
        broker: &Broker,
    ) -> Result<(), String> {
        for step in &facts.steps {
            let reference = self.references.iter_mut().find(|r| r.at == step.at);
            reference.ok_or("an offset of an unknown partition")?.follow(txn, step, broker)?;
        }
        Ok(())
    }

    /// The topics of side inputs hold each that was followed once, in order, and nothing else: what
    /// they hold is all that a replay has.
    fn check_side_inputs(&self, broker: &Broker) -> Result<usize, String> {
        let mut checked = 0;
        for reference in &self.references {
            let at = &reference.inputs_at;
            let mut last = 0;
            for (offset, entry) in broker.committed(at) {
                let value = entry.value.as_deref().unwrap_or_default();
                let SideInput { number, taken, .. } = SideInput::from_json(value)?;
                if number != last + u64::from(!matches!(taken, Taken::Switch { .. })) {
                    return Err(format!("{at} offset {offset}: side input {number} after {last}"));
                }
                last = number;
                checked += 1;
            }
            if last != reference.ticks {
                let all = reference.ticks;
                return Err(format!("{at} ends with side input {last}, {all} were taken"));
            }
        }
        Ok(checked)
    }

    /// Every output topic holds what was said, record for record and in order per input partition.
    pub(crate) fn check_topics(&self, broker: &Broker) -> Result<usize, String> {
        let mut checked = self.check_side_inputs(broker)?;
        for stage in 0..2 {
            for topic in writes(stage) {
                for partition in 0..broker.topics[topic].logs.len() {
                    let at = TopicPartition::new(topic, PartitionId::new(partition as i32));
                    checked += self.check_partition(stage, &at, broker)?;
                }
            }
        }
        Ok(checked)
    }

    fn check_partition(
        &self,
        stage: usize,
        at: &TopicPartition,
        broker: &Broker,
    ) -> Result<usize, String> {
        let mut expected: Vec<(&TopicPartition, VecDeque<&Pair>)> = self
            .references
            .iter()
            .filter(|r| r.stage == stage)
            .map(|r| (&r.at, r.said.get(at).map_or_else(VecDeque::new, |s| s.iter().collect())))
            .collect();
        let mut checked = 0;
        for (offset, entry) in broker.committed(at).filter(|(_, e)| !e.injected) {
            let pair =
                (entry.key.clone().unwrap_or_default(), entry.value.clone().unwrap_or_default());
            let from = expected.iter_mut().find(|(_, queue)| queue.front() == Some(&&pair));
            let Some((_, queue)) = from else {
                let next: Vec<String> = expected
                    .iter()
                    .filter_map(|(of, q)| Some(format!("{of}: {}", show(q.front()?))))
                    .collect();
                return Err(format!(
                    "{at} offset {offset} holds {}, due is one of {next:?}",
                    show(&pair)
                ));
            };
            queue.pop_front();
            checked += 1;
        }
        match expected.iter().find_map(|(of, q)| Some((of, q.len(), q.front()?))) {
            Some((of, n, first)) => {
                Err(format!("{at} lacks {n} records of {of}, the first is {}", show(first)))
            }
            None => Ok(checked),
        }
    }

    /// The changelogs hold the state of the uninterrupted fold, at the committed offset.
    pub(crate) fn check_states(&mut self, broker: &Broker) -> Result<(), String> {
        for reference in &mut self.references {
            let (stage, partition) = (reference.stage, reference.at.partition);
            let log = TopicPartition { topic: changelog(stage), partition };
            let mut task = reference.kind.task(stage, partition, reference.config);
            let state = task.state().expect("it has one");
            let mut unframer = Unframer::default();
            let mut last = None;
            for (_, entry) in broker.committed(&log) {
                let key = entry.key.as_deref().unwrap_or_default();
                let value = entry.value.as_deref();
                if key == IDENTITY_KEY {
                    continue;
                }
                if key == CHECKPOINT_KEY {
                    last = unframer.checkpoint(value.unwrap_or_default()).ok();
                } else {
                    let value = value.map(|v| unframer.entry(v).expect("ours"));
                    state.restore(key, value.as_deref()).map_err(|e| e.to_string())?;
                }
            }
            state.restored().map_err(|e| e.to_string())?;
            let Some(last) = last else { continue };
            let at = &reference.at;
            if last.next.get() != reference.next {
                let (k, c) = (last.next, reference.next);
                return Err(format!("{at}: a clean stop left K {k} and C {c}"));
            }
            if entries(&mut *task) != entries(&mut *reference.task) {
                return Err(format!("{at}: the changelog holds another state than was folded"));
            }
        }
        Ok(())
    }

    /// From the first input to the last output: per key and in order, whatever the interleaving.
    ///
    /// Not if a partition fell idle and woke behind the others: where they were by then is what the
    /// order of the flushes says, and nothing else. [`Oracle::check_topics`] follows that order.
    pub(crate) fn check_whole(&self, broker: &Broker) -> Result<(), String> {
        if self.somebody_woke() {
            return Ok(());
        }
        let mut expected: BTreeMap<(TopicPartition, Vec<u8>), Vec<Vec<u8>>> = BTreeMap::new();
        let mut add = |said: &Said| {
            for (at, pairs) in said.iter().filter(|(at, _)| *at.topic != *REPARTITION) {
                for (key, value) in pairs {
                    let of = expected.entry((at.clone(), key.clone())).or_default();
                    of.push(value.clone());
                }
            }
        };
        let first: Vec<&Reference> = self.references.iter().filter(|r| r.stage == 0).collect();
        first.iter().for_each(|r| add(&r.said));
        for partition in 0..ROLLUPS {
            let at = TopicPartition::new(REPARTITION, PartitionId::new(partition));
            let mut second = Reference::new(&self.kind, 1, at.clone());
            // One interleaving of many: all of a partition, then all of the next.
            let pairs = first.iter().flat_map(|r| r.said.get(&at).into_iter().flatten());
            for (offset, (key, value)) in pairs.enumerate() {
                let entry = Entry {
                    key: Some(key.clone()),
                    value: Some(value.clone()),
                    timestamp: 0,
                    txn: None,
                    is_marker: false,
                    injected: false,
                };
                second.record(offset as i64, &entry, broker)?;
            }
            add(&second.said);
        }
        let mut found: BTreeMap<(TopicPartition, Vec<u8>), Vec<Vec<u8>>> = BTreeMap::new();
        for topic in (0..2).flat_map(writes).filter(|topic| *topic != REPARTITION) {
            for partition in 0..broker.topics[topic].logs.len() {
                let at = TopicPartition::new(topic, PartitionId::new(partition as i32));
                for (_, entry) in broker.committed(&at) {
                    let key = entry.key.clone().unwrap_or_default();
                    let of = found.entry((at.clone(), key)).or_default();
                    of.push(entry.value.clone().unwrap_or_default());
                }
            }
        }
        if expected != found {
            let wrong = expected.iter().find(|(k, v)| found.get(*k) != Some(*v));
            let list = |values: Option<&Vec<Vec<u8>>>| {
                let text = |value: &Vec<u8>| value.escape_ascii().to_string();
                values.into_iter().flatten().map(text).collect::<Vec<_>>().join("\n    ")
            };
            let wrong = wrong.map(|(of, values)| {
                let (at, key) = (&of.0, of.1.escape_ascii());
                let (due, is) = (list(Some(values)), list(found.get(of)));
                format!("{at} key {key}\n    {due}\n  but is\n    {is}")
            });
            return Err(format!(
                "end to end: other records than in one go, first in {}",
                wrong.unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// True if a journey partition of the product fell idle and spoke again.
    fn somebody_woke(&self) -> bool {
        matches!(self.kind, Kind::Real(_))
            && self.references.iter().filter(|r| r.stage == 0).any(|reference| {
                let at = TopicPartition::new(REPARTITION, PartitionId::new(0));
                let flushes = reference.said.get(&at).into_iter().flatten();
                let flushes = flushes.map(|(_, value)| flush::decode(value).expect("ours"));
                flushes.skip_while(|flush| !flush.idle).any(|flush| !flush.idle)
            })
    }

    /// Every record that came in was folded, once.
    pub(crate) fn check_conservation(&self, env: &Env) -> Result<(), String> {
        for reference in self.references.iter().filter(|r| r.stage == 0) {
            let came = env.broker.committed(&reference.at).count();
            if came != reference.inputs {
                let at = &reference.at;
                return Err(format!("{at}: {came} records came, {} are folded", reference.inputs));
            }
        }
        Ok(())
    }
}

fn show((key, value): &Pair) -> String {
    format!("{} = {}", key.escape_ascii(), value.escape_ascii())
}
