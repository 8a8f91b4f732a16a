//! What can be seen from outside: how far the groups have committed, and where readers stand.

use super::process::{SOURCE, Work};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use touchline::clock::Moment;
use touchline::model::topic::Topic;

const EVERY: Duration = Duration::from_millis(100);
const ASK: Duration = Duration::from_secs(2);
/// Lag that is older than this is as bad as can be.
const KEPT: usize = 36_000;

type Offsets = BTreeMap<(String, i32), i64>;

/// A role, its group and what it reads.
const ROLES: [(&str, &str, &str); 3] = [
    ("ingest", "touchline.ingest", SOURCE),
    ("journey", "touchline.journey", "touchpoints.canonical"),
    ("rollup", "touchline.rollup", "touchline.rollup.repartition"),
];

/// Seconds that each role is behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lag(BTreeMap<&'static str, f64>);

impl Lag {
    pub(crate) fn total(&self) -> f64 {
        if self.0.is_empty() { f64::INFINITY } else { self.0.values().sum() }
    }
}

/// The longest time that something stood.
#[derive(Default)]
struct Standing {
    /// Where it stands, since when; `None` while it need not move.
    at: BTreeMap<(String, i32), (i64, Option<f64>)>,
    longest: BTreeMap<&'static str, f64>,
}

impl Standing {
    /// `next` is where it is, `must` tells whether there is anything to move on to.
    fn see(&mut self, what: &'static str, key: &(String, i32), now: f64, next: i64, must: bool) {
        let (at, since) = self.at.entry(key.clone()).or_insert((next, None));
        if *at != next || !must {
            (*at, *since) = (next, must.then_some(now));
        }
        let since = *since.get_or_insert(now);
        if must {
            let longest = self.longest.entry(what).or_default();
            *longest = longest.max(now - since);
        }
    }
}

#[derive(Default)]
struct Seen {
    lag: Lag,
    readers: Standing,
    tasks: Standing,
}

/// Looks ten times a second.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn asker(work: &Work, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", work.broker.bootstrap())
        .set("group.id", group)
        .set("isolation.level", isolation)
        .create()
        .expect("a client")
}

/// Ends of all partitions of `topics`, in one question.
fn ends(client: &BaseConsumer, topics: &[(String, i32)]) -> Option<Offsets> {
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            list.add_partition_offset(topic, partition, Offset::End).ok()?;
        }
    }
    offsets(&client.offsets_for_times(list, ASK).ok()?)
}

fn offsets(list: &TopicPartitionList) -> Option<Offsets> {
    let mut offsets = Offsets::new();
    for element in list.elements() {
        element.error().ok()?;
        if let Offset::Offset(next) = element.offset() {
            offsets.insert((element.topic().to_owned(), element.partition()), next);
        }
    }
    Some(offsets)
}

impl Watch {
    pub(crate) fn start(work: &Work) -> Watch {
        let committed = asker(work, "bench", "read_committed");
        let all = asker(work, "bench", "read_uncommitted");
        let partitions = |topic: &str| -> (String, i32) {
            let found = committed.fetch_metadata(Some(topic), ASK).expect("metadata");
            (topic.to_owned(), found.topics()[0].partitions().len() as i32)
        };
        let inputs: Vec<(String, i32)> = ROLES.map(|(_, _, topic)| partitions(topic)).to_vec();
        let mut outputs: Vec<(String, i32)> =
            Topic::ALL.iter().map(|t| t.default_name()).map(partitions).collect();
        outputs.retain(|(_, count)| *count > 0);
        let groups = ROLES.map(|(_, group, _)| asker(work, group, "read_uncommitted"));
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (kept, stop) = (seen.clone(), stopped.clone());
        let run = move || {
            let started = Moment::now();
            let mut history: VecDeque<(f64, Offsets)> = VecDeque::new();
            let mut known: [Offsets; 3] = Default::default();
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(EVERY);
                // Before anything is asked: what is found later can only be better.
                let now = started.elapsed_secs();
                let Some(input) = ends(&committed, &inputs) else { continue };
                for (client, (at, known)) in groups.iter().zip(inputs.iter().zip(&mut known)) {
                    let mut list = TopicPartitionList::new();
                    list.add_partition_range(&at.0, 0, at.1 - 1);
                    let found = client.committed_offsets(list, ASK).ok();
                    if let Some(found) = found.and_then(|found| offsets(&found)) {
                        known.extend(found);
                    }
                }
                let (stable, high) = (ends(&committed, &outputs), ends(&all, &outputs));
                history.push_back((now, input.clone()));
                if history.len() > KEPT {
                    history.pop_front();
                }
                let mut seen = kept.lock().expect("no panic while held");
                seen.lag = Lag::default();
                for ((role, _, topic), known) in ROLES.iter().zip(&known) {
                    let of_role = input.iter().filter(|((of, _), _)| of == topic);
                    let mut worst = 0.0_f64;
                    for (at, end) in of_role {
                        let next = known.get(at).copied().unwrap_or(0);
                        worst = worst.max(age(&history, at, next, now));
                        seen.tasks.see(role, at, now, next, next < *end);
                    }
                    seen.lag.0.insert(role, worst);
                }
                for (at, high) in high.unwrap_or_default() {
                    let stable = stable.as_ref().and_then(|stable| stable.get(&at));
                    if let Some(stable) = stable {
                        seen.readers.see("outputs", &at, now, *stable, *stable < high);
                    }
                }
            }
        };
        Watch { seen, stopped, thread: Some(std::thread::spawn(run)) }
    }

    pub(crate) fn lag(&self) -> Lag {
        self.seen.lock().expect("no panic while held").lag.clone()
    }

    /// Begins to measure the longest stands anew.
    pub(crate) fn forget(&self) {
        let mut seen = self.seen.lock().expect("no panic while held");
        (seen.readers, seen.tasks) = (Standing::default(), Standing::default());
    }

    /// The longest time that a reader of committed records stood before records.
    pub(crate) fn stood(&self) -> f64 {
        let seen = self.seen.lock().expect("no panic while held");
        seen.readers.longest.values().copied().fold(0.0, f64::max)
    }

    /// The longest time that a partition was not committed although there was input, by role.
    pub(crate) fn pauses(&self) -> BTreeMap<&'static str, f64> {
        self.seen.lock().expect("no panic while held").tasks.longest.clone()
    }
}

/// Age of the oldest record at or behind `next`: it was not there when the end was looked at last
/// and found at `next` or below.
fn age(history: &VecDeque<(f64, Offsets)>, at: &(String, i32), next: i64, now: f64) -> f64 {
    for (n, (_, ends)) in history.iter().enumerate().rev() {
        if ends.get(at).is_none_or(|end| *end <= next) {
            // At the end still, or the one after it was the first to show something.
            return if n + 1 == history.len() { 0.0 } else { now - history[n].0 };
        }
    }
    now - history.front().map_or(now, |(at, _)| *at)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It says itself what went wrong.
            let _over = thread.join();
        }
    }
}
