//! A task that copies, and what the tests read and write with.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use touchline::kafka::group::Position;
use touchline::kafka::reader::{Go, Tail, Tailed};
use touchline::kafka::writer::Writer;
use touchline::kafka::{
    Connection, OutRecord, Produced, Record, Source, Start, Task, TaskError, TaskFactory,
    TopicPartition,
};
use touchline::model::ids::PartitionId;
use touchline::model::time::Millis;

/// How long a condition may take to come true on a busy machine.
pub(super) const DEADLINE: Millis = Millis::from_secs(60);

/// Session time-out at the client's mock broker, in ms. It holds a rebalance open for all of it but a
/// second, and the first one for three seconds: a member that times out meanwhile is never answered.
pub(super) const SESSION_TIMEOUT: &str = "5000";

/// What the copying task does besides copying.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Copies {
    Plain,
    /// Publishes its seal.
    Sealed,
    /// Makes the output of this offset too large.
    TooLargeAt(i64),
    /// Is busy three times at offset 50 of partition 0.
    Busy,
    Fatal,
    Panics,
    /// Publishes that it was idle, once.
    Idle,
}

struct Copy {
    kind: Copies,
    at: String,
    out: Arc<str>,
    refusals: AtomicU32,
    told: bool,
    /// Keys that were told to come next.
    next: RefCell<VecDeque<Vec<u8>>>,
}

impl Copy {
    fn say(&self, text: &str, out: &mut Produced) {
        let value = format!("{text} {}", self.at).into_bytes();
        out.records.push(OutRecord::new(&self.out, b"k".to_vec(), Some(value)));
    }
}

impl Task for Copy {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        let next = self.next.get_mut();
        // Who asks to wait is told of records that do not come then.
        if !next.is_empty() && self.kind != Copies::Busy {
            let at = next.iter().position(|key| Some(&**key) == record.key);
            let at = at.unwrap_or_else(|| panic!("{next:?} were to come, not {:?}", record.key));
            next.drain(..=at);
        }
        let value = record.value.map(<[u8]>::to_vec);
        out.records.push(OutRecord::new(&self.out, b"k".to_vec(), value));
        let offset = record.offset.get();
        match self.kind {
            Copies::Fatal => Err(TaskError::Fatal("told so".to_owned())),
            Copies::Panics => panic!("asserted so"),
            Copies::TooLargeAt(at) if at == offset => {
                out.records.push(OutRecord::new(&self.out, vec![b'k'; 5_000], None));
                Ok(())
            }
            Copies::Busy
                if offset == 50
                    && record.partition == PartitionId::new(0)
                    && self.refusals.fetch_add(1, Ordering::SeqCst) < 3 =>
            {
                Err(TaskError::Retry { reason: "busy".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn fetch(&self, keys: &[&[u8]]) {
        *self.next.borrow_mut() = keys.iter().map(|key| key.to_vec()).collect();
    }

    fn idle(&mut self, waited: Millis, end: bool, out: &mut Produced) -> Result<(), TaskError> {
        let wanted = self.kind == Copies::Idle && end && waited >= Millis::from_ms(100);
        if wanted && !std::mem::replace(&mut self.told, true) {
            self.say("idle", out);
        }
        Ok(())
    }

    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError> {
        if self.kind == Copies::Sealed {
            self.say("seal", out);
        }
        Ok(())
    }
}

struct Factory(Copies);

impl TaskFactory for Factory {
    fn create(&self, topic: &str, partition: PartitionId) -> Result<Box<dyn Task>, String> {
        Ok(Box::new(Copy {
            kind: self.0,
            at: format!("{topic}/{partition}"),
            out: format!("{}out", topic.strip_suffix("in").unwrap_or(topic)).into(),
            refusals: AtomicU32::new(0),
            told: false,
            next: RefCell::default(),
        }))
    }
}

/// Tasks that copy the values of what they read, from a topic `…in` to the topic `…out`.
pub(super) fn copier(kind: Copies) -> Arc<dyn TaskFactory> {
    Arc::new(Factory(kind))
}

/// Writes the numbers of a range, dealt out over the partitions.
pub(super) fn fill(connection: &Connection, topic: &str, partitions: i32, numbers: Range<i32>) {
    let writer = Writer::new(connection, 1 << 20).unwrap();
    let topic: Arc<str> = topic.into();
    for n in numbers {
        let number = n.to_string().into_bytes();
        let mut record = OutRecord::new(&topic, number.clone(), Some(number));
        record.partition = Some(PartitionId::new(n % partitions));
        writer.send(&record).unwrap();
    }
    writer.flush(DEADLINE).unwrap();
}

/// The values of a topic, up to its end.
pub(crate) fn read_all(connection: &Connection, topic: &str) -> Vec<String> {
    read_from(connection, Source::new(topic, Start::Earliest))
}

/// The values of a topic from a start up to its end.
pub(super) fn read_from(connection: &Connection, source: Source) -> Vec<String> {
    let values = Arc::new(Mutex::new(Vec::new()));
    let (sink, partitions) = (values.clone(), Arc::new(Mutex::new(BTreeMap::new())));
    let expected = touchline::kafka::client::partitions(connection, &source.topic).unwrap();
    let tail = Tail::start("test-reader", connection, &[source], move |came| match came {
        Tailed::Record(record) => {
            sink.lock().unwrap().push(text(record.value.unwrap_or(b"")));
            Go::On
        }
        Tailed::End { partition, next, .. } => {
            let mut ended = partitions.lock().unwrap();
            ended.insert(partition, next);
            if ended.len() == usize::try_from(expected).unwrap() { Go::Stop } else { Go::On }
        }
    });
    tail.unwrap().join().unwrap();
    let values = values.lock().unwrap();
    values.clone()
}

/// What `f` makes of the first record that comes to a topic, now or later.
fn first<T: Send + 'static>(
    connection: &Connection,
    topic: &str,
    f: impl Fn(&Record<'_>) -> T + Send + 'static,
) -> T {
    let (found, first) = sync_channel(1);
    let source = Source::new(topic, Start::Earliest);
    let _tail = Tail::start("test-reader", connection, &[source], move |came| match came {
        Tailed::Record(record) => {
            found.try_send(f(&record)).unwrap();
            Go::Stop
        }
        Tailed::End { .. } => Go::On,
    })
    .unwrap();
    first.recv_timeout(std::time::Duration::from_secs(60)).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first value that comes to a topic.
pub(super) fn first_of(connection: &Connection, topic: &str) -> String {
    first(connection, topic, |record| text(record.value.unwrap_or(b"")))
}

/// The headers of the first record of a topic.
pub(super) fn first_headers(connection: &Connection, topic: &str) -> Vec<(String, Option<String>)> {
    first(connection, topic, |record| {
        record.headers.iter().map(|(name, value)| (name.to_owned(), value.map(text))).collect()
    })
}

/// Whether the first record of a topic was stamped by the broker, and is not from the last century.
pub(super) fn first_stamp(connection: &Connection, topic: &str) -> (bool, bool) {
    first(connection, topic, |r| (r.timestamp_is_append, r.timestamp > 1_600_000_000_000))
}

/// Java's hash of keys, positive, written down once more: the tests trust nobody's.
pub(super) fn murmur2(key: &[u8]) -> i32 {
    let m = 0x5bd1_e995_u32;
    let mut h = 0x9747_b28c_u32 ^ u32::try_from(key.len()).unwrap();
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(m);
        k = (k ^ (k >> 24)).wrapping_mul(m);
        h = h.wrapping_mul(m) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(m);
    }
    h = (h ^ (h >> 13)).wrapping_mul(m);
    i32::try_from((h ^ (h >> 15)) & 0x7fff_ffff).unwrap()
}

/// Sorted numbers, and sorted names of the partitions that were sealed.
pub(super) fn all_of(values: &[String]) -> (Vec<i32>, Vec<String>) {
    let mut numbers: Vec<i32> = values.iter().filter_map(|v| v.parse().ok()).collect();
    let mut seals: Vec<String> =
        values.iter().filter_map(|v| v.strip_prefix("seal ")).map(str::to_owned).collect();
    numbers.sort_unstable();
    seals.sort_unstable();
    (numbers, seals)
}

/// How many partitions a member has.
pub(super) fn owned(positions: &BTreeMap<TopicPartition, Position>) -> usize {
    positions.values().filter(|p| p.owned).count()
}
