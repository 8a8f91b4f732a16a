//! Brokers in memory: logs with transactions, markers that come late and one at a time, committed
//! offsets that belong to transactions, fencing by the epoch of a producer.

use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use touchline::kafka::TopicPartition;
use touchline::kafka::exactly::core::OffsetToCommit;

/// Number of a transaction, unique in a world.
pub(crate) type TxnId = usize;

/// A record, or the marker of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) txn: Option<TxnId>,
    pub(crate) is_marker: bool,
    /// Put there by the simulation, not by a worker.
    pub(crate) injected: bool,
}

/// One partition. Compaction leaves holes.
#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Option<Entry>>,
    pub(crate) low: i64,
    /// Transactions without a marker, and where they begin.
    open: BTreeMap<TxnId, i64>,
}

impl Log {
    pub(crate) fn high(&self) -> i64 {
        self.entries.len() as i64
    }

    /// Last stable offset.
    pub(crate) fn stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or_else(|| self.high())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Open,
    /// Decided; markers are on their way.
    Decided,
    Complete,
}

/// A transaction.
#[derive(Debug)]
pub(crate) struct Txn {
    pub(crate) state: State,
    pub(crate) committed: bool,
    producer: String,
    /// Partitions without a marker yet.
    partitions: BTreeSet<TopicPartition>,
    /// Group and offsets that wait for the marker.
    offsets: Option<(usize, Vec<OffsetToCommit>)>,
    /// How many outputs have been appended: the sequence numbers of the producer.
    appended: usize,
    pub(crate) begun: i64,
}

impl Txn {
    /// One of somebody else that came to nothing.
    pub(crate) fn aborted(now: i64) -> Txn {
        Txn {
            state: State::Complete,
            committed: false,
            producer: String::new(),
            partitions: BTreeSet::new(),
            offsets: None,
            appended: 0,
            begun: now,
        }
    }
}

#[derive(Default, Debug)]
struct Producer {
    epoch: u64,
    current: Option<TxnId>,
}

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The same call again, later.
    Again,
    /// Abort, then go on.
    Abort,
    /// This producer is over.
    Fenced,
}

/// Committed offsets of one group.
#[derive(Default, Debug)]
pub(crate) struct Offsets {
    pub(crate) committed: BTreeMap<TopicPartition, (i64, String)>,
    pending: BTreeMap<TopicPartition, BTreeSet<TxnId>>,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: u64,
    pub(crate) logs: Vec<Log>,
}

/// The brokers.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(crate) topics: BTreeMap<Arc<str>, Topic>,
    pub(crate) txns: Vec<Txn>,
    producers: BTreeMap<String, Producer>,
    pub(crate) offsets: Vec<Offsets>,
    /// Transactions that were committed since this was taken.
    pub(crate) newly_committed: Vec<TxnId>,
    /// Markers reach the committed offsets before they reach topics.
    pub(crate) offsets_first: bool,
}

impl Broker {
    pub(crate) fn log(&self, at: &TopicPartition) -> &Log {
        &self.topics[&at.topic].logs[at.partition.get() as usize]
    }

    pub(crate) fn log_mut(&mut self, at: &TopicPartition) -> &mut Log {
        let topic = self.topics.get_mut(&at.topic).expect("the topic exists");
        &mut topic.logs[at.partition.get() as usize]
    }

    /// Appends without a transaction.
    pub(crate) fn append(&mut self, at: &TopicPartition, entry: Entry) -> i64 {
        let log = self.log_mut(at);
        log.entries.push(Some(entry));
        log.high() - 1
    }

    /// True if a reader of committed records sees the entry, which is below the last stable offset.
    pub(crate) fn is_visible(&self, entry: &Entry) -> bool {
        !entry.is_marker && entry.txn.is_none_or(|txn| self.txns[txn].committed)
    }

    /// Everything committed in a partition, in order, with its offset.
    pub(crate) fn committed<'a>(
        &'a self,
        at: &TopicPartition,
    ) -> impl Iterator<Item = (i64, &'a Entry)> + 'a {
        let log = self.log(at);
        let stable = log.stable();
        log.entries[..stable as usize].iter().enumerate().filter_map(|(offset, entry)| {
            let entry = entry.as_ref().filter(|entry| self.is_visible(entry))?;
            Some((offset as i64, entry))
        })
    }

    fn decide(&mut self, txn: TxnId, commit: bool) {
        let state = &mut self.txns[txn];
        state.state = State::Decided;
        state.committed = commit;
        if commit {
            self.newly_committed.push(txn);
        }
        self.complete_if_done(txn);
    }

    fn complete_if_done(&mut self, txn: TxnId) {
        let state = &mut self.txns[txn];
        if state.partitions.is_empty() && state.offsets.is_none() {
            state.state = State::Complete;
        }
    }

    /// Initialises a transactional id: fences and aborts what a predecessor left open.
    pub(crate) fn init(&mut self, id: &str) -> Result<u64, Refusal> {
        let producer = self.producers.entry(id.to_owned()).or_default();
        if let Some(txn) = producer.current {
            match self.txns[txn].state {
                State::Open => {
                    producer.epoch += 1;
                    self.decide(txn, false);
                    return Err(Refusal::Again);
                }
                State::Decided => return Err(Refusal::Again),
                State::Complete => {}
            }
        }
        let producer = self.producers.get_mut(id).expect("made above");
        producer.epoch += 1;
        producer.current = None;
        Ok(producer.epoch)
    }

    /// The transaction of a producer, begun if it has none.
    fn current(&mut self, id: &str, epoch: u64, now: i64) -> Result<TxnId, Refusal> {
        let next = self.txns.len();
        let producer = self.producers.get_mut(id).ok_or(Refusal::Fenced)?;
        if producer.epoch != epoch {
            return Err(Refusal::Fenced);
        }
        match producer.current.map(|txn| (txn, self.txns[txn].state)) {
            Some((txn, State::Open)) => Ok(txn),
            // The markers of the last one are on their way.
            Some((_, State::Decided)) => Err(Refusal::Again),
            _ => {
                producer.current = Some(next);
                self.txns.push(Txn {
                    state: State::Open,
                    committed: false,
                    producer: id.to_owned(),
                    partitions: BTreeSet::new(),
                    offsets: None,
                    appended: 0,
                    begun: now,
                });
                Ok(next)
            }
        }
    }

    /// Appends output number `sequence` of a transaction; one that came before changes nothing.
    pub(crate) fn produce(
        &mut self,
        (id, epoch): (&str, u64),
        sequence: usize,
        at: &TopicPartition,
        entry: Entry,
        now: i64,
    ) -> Result<TxnId, Refusal> {
        let txn = self.current(id, epoch, now)?;
        let state = &mut self.txns[txn];
        if sequence < state.appended {
            return Ok(txn);
        }
        assert_eq!(sequence, state.appended, "the client sends in order");
        state.appended += 1;
        state.partitions.insert(at.clone());
        let log = self.log_mut(at);
        let offset = log.high();
        log.open.entry(txn).or_insert(offset);
        log.entries.push(Some(Entry { txn: Some(txn), ..entry }));
        Ok(txn)
    }

    /// Offsets for a transaction. The caller has checked member and generation.
    pub(crate) fn send_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        group: usize,
        offsets: &[OffsetToCommit],
        now: i64,
    ) -> Result<TxnId, Refusal> {
        let txn = self.current(id, epoch, now)?;
        self.txns[txn].offsets = Some((group, offsets.to_vec()));
        for offset in offsets {
            self.offsets[group].pending.entry(offset.at.clone()).or_default().insert(txn);
        }
        Ok(txn)
    }

    /// Ends a transaction; a repeated call is answered like the first.
    pub(crate) fn end(&mut self, id: &str, epoch: u64, commit: bool) -> Result<(), Refusal> {
        let producer = self.producers.get(id).ok_or(Refusal::Fenced)?;
        if producer.epoch != epoch {
            return Err(Refusal::Fenced);
        }
        let Some(txn) = producer.current else { return Ok(()) };
        match self.txns[txn].state {
            State::Open => {
                self.decide(txn, commit);
                Ok(())
            }
            _ if self.txns[txn].committed == commit => Ok(()),
            _ => Err(Refusal::Fenced),
        }
    }

    /// Aborts what is open for too long. Returns how many.
    pub(crate) fn time_out(&mut self, before: i64) -> usize {
        let late: Vec<TxnId> = self
            .producers
            .values()
            .filter_map(|p| p.current)
            .filter(|t| self.txns[*t].state == State::Open && self.txns[*t].begun < before)
            .collect();
        for txn in &late {
            let producer = self.txns[*txn].producer.clone();
            self.producers.get_mut(&producer).expect("it has a transaction").epoch += 1;
            self.decide(*txn, false);
        }
        late.len()
    }

    /// Writes one marker that is due, of a random transaction to a random partition.
    pub(crate) fn write_marker(&mut self, rng: &mut Rng) -> bool {
        let due: Vec<TxnId> = self
            .producers
            .values()
            .filter_map(|p| p.current)
            .filter(|t| self.txns[*t].state == State::Decided)
            .collect();
        if due.is_empty() {
            return false;
        }
        let txn = due[rng.below(due.len())];
        let state = &mut self.txns[txn];
        let places = state.partitions.len() + usize::from(state.offsets.is_some());
        let last = state.partitions.len();
        let first = self.offsets_first && state.offsets.is_some();
        let place = if first { last } else { rng.below(places) };
        let committed = state.committed;
        if let Some(at) = state.partitions.iter().nth(place).cloned() {
            state.partitions.remove(&at);
            let marker = Entry {
                key: None,
                value: None,
                timestamp: 0,
                txn: Some(txn),
                is_marker: true,
                injected: false,
            };
            let log = self.log_mut(&at);
            log.open.remove(&txn);
            log.entries.push(Some(marker));
        } else if let Some((group, offsets)) = state.offsets.take() {
            let of = &mut self.offsets[group];
            for offset in offsets {
                if let Some(pending) = of.pending.get_mut(&offset.at) {
                    pending.remove(&txn);
                }
                if committed {
                    of.committed.insert(offset.at, (offset.next.get(), offset.metadata));
                }
            }
        }
        self.complete_if_done(txn);
        true
    }

    /// The committed offset of a partition, unless a transaction may still change it.
    pub(crate) fn stable_offset(
        &self,
        group: usize,
        at: &TopicPartition,
    ) -> Result<Option<&(i64, String)>, Refusal> {
        let of = &self.offsets[group];
        if of.pending.get(at).is_some_and(|pending| !pending.is_empty()) {
            return Err(Refusal::Again);
        }
        Ok(of.committed.get(at))
    }

    /// Keeps the last committed value per key below a random point that is stable.
    pub(crate) fn compact(&mut self, at: &TopicPartition, upto: i64) -> usize {
        let upto = upto.min(self.log(at).stable());
        let mut last: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (offset, entry) in self.committed(at).take_while(|(offset, _)| *offset < upto) {
            last.insert(entry.key.clone().unwrap_or_default(), offset);
        }
        let keep: BTreeSet<i64> = last.into_values().collect();
        let log = self.log_mut(at);
        let mut removed = 0;
        for (offset, entry) in log.entries[..upto as usize].iter_mut().enumerate() {
            if !keep.contains(&(offset as i64)) && entry.take().is_some() {
                removed += 1;
            }
        }
        removed
    }
}
