//! What a worker runs: tasks, and the records that go in and out of them.

use super::batch::MessageHeaders;
use crate::codec::derived::Header;
use crate::codec::inputs::Taken;
use crate::engine::state::Checkpointed;
use crate::model::ids::{Offset, PartitionId};
use crate::model::time::{EventTime, Millis};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Partition of it.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: &str, partition: PartitionId) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record as read, borrowed from the client's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Topic it was read from.
    pub topic: &'a str,
    /// Partition it was read from.
    pub partition: PartitionId,
    /// Place in that partition.
    pub offset: Offset,
    /// Timestamp in milliseconds since the epoch; −1 if there is none.
    pub timestamp: i64,
    /// True if the broker stamped it when it was appended; else the producer did.
    pub timestamp_is_append: bool,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, parsed when asked for.
    pub headers: Headers<'a>,
}

/// Headers of a record; reading them costs nothing until they are iterated.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// Headers that are in memory already: for tests and replays.
    Pairs(&'a [(&'a str, Option<&'a [u8]>)]),
    /// Headers of a record of the client.
    Message(MessageHeaders<'a>),
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Headers<'static> = Headers::Pairs(&[]);

    /// Names and values in order. A header whose name is not UTF-8 is left out.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let item = match self {
                Headers::Pairs(pairs) => pairs.get(at).copied(),
                Headers::Message(message) => message.next_from(&mut at),
            };
            at += 1;
            item
        })
    }

    /// Value of the last header called `name`, as Kafka's own clients have it.
    pub fn get(self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(n, _)| *n == name).last().map(|(_, value)| value)
    }
}

/// A record to produce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition; `None` goes by Java's murmur2 of the key, and anywhere without a key.
    pub partition: Option<PartitionId>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<Header>,
    /// Timestamp in milliseconds since the epoch; `None` is the time of sending. Topics that
    /// [`topics`](super::topics) creates replace it by the broker's.
    pub timestamp: Option<i64>,
}

impl OutRecord {
    /// A record without headers, to the partition of its key.
    pub fn new(topic: &Arc<str>, key: Vec<u8>, value: Option<Vec<u8>>) -> OutRecord {
        OutRecord {
            topic: topic.clone(),
            partition: None,
            key: Some(key),
            value,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Bytes of key and value.
    pub fn len(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// True if it has neither key nor value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Records that are told of together before they are handed out.
pub(super) const AHEAD: usize = 16;

/// Records of one partition that come next, as far as is known.
#[derive(Debug)]
pub struct Upcoming<'a> {
    /// Topic that they were read from.
    pub topic: &'a str,
    /// Partition that they were read from.
    pub partition: PartitionId,
    /// Keys of those that have one.
    pub keys: SmallVec<[&'a [u8]; AHEAD]>,
}

/// What a task says, in order, into a buffer that the worker owns.
#[derive(Default, Debug)]
pub struct Produced {
    /// Records to produce.
    pub records: Vec<OutRecord>,
    /// The record was folded before a restart: it is folded again for the state alone. What it
    /// produces is dropped, and nothing of it is counted a second time.
    pub replaying: bool,
    /// Set by a task if a reader waits for what it says: it is committed at once.
    pub urgent: bool,
    /// Set by a task that took a side input: which. Where side inputs are recorded, it must say so.
    pub side_input: Option<Taken>,
}

impl Produced {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.records.clear();
        self.replaying = false;
        self.urgent = false;
        self.side_input = None;
    }

    /// How much is in it, for [`Produced::rewind`].
    pub(super) fn mark(&self) -> usize {
        self.records.len()
    }

    /// Forgets what was appended after `mark`.
    pub(super) fn rewind(&mut self, mark: usize) {
        self.records.truncate(mark);
    }
}

/// Why a task could not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskError {
    /// The world is busy (the schema registry is down). The task must be as it was before the call:
    /// the worker pauses the partition and calls again with the same record, for as long as it takes.
    Retry {
        /// What the task waits for.
        reason: String,
    },
    /// A broken invariant: the worker stops without committing.
    Fatal(String),
}

/// How far a task has got, for metrics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskProgress {
    /// The task's clock.
    pub clock: Option<EventTime>,
    /// The task's watermark.
    pub watermark: Option<EventTime>,
    /// What holds the watermark back, in words.
    pub holding_back: Option<String>,
}

/// What a worker runs per partition: decode, fold, encode.
///
/// All calls come from one thread, in the order of the partition's log. A partition that is assigned
/// again begins with a new task.
pub trait Task: Send {
    /// Folds one record; appends what is to be produced.
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError>;

    /// Records with these keys come next, as far as is known: what is kept for them may be brought into
    /// the cache. Changes nothing.
    fn fetch(&self, keys: &[&[u8]]) {
        let _ = keys;
    }

    /// Asked while a partition waits because `record` asked for a retry: whether what it waits for has
    /// come, if the task can tell. Then it is called again at once, and not before; without an answer
    /// after a while that grows.
    fn may_go_on(&self) -> Option<bool> {
        None
    }

    /// True if the last record asks for more than `record` appended at once: the worker hands over
    /// what there is and calls `record` again, with the same record.
    fn has_more(&self) -> bool {
        false
    }

    /// Lets a task act without a record. Called at every idle check; `waited` is the monotonic time
    /// since the partition's last record (or since it was assigned), `caught_up` tells whether its end
    /// has been seen and nothing came since.
    fn idle(
        &mut self,
        waited: Millis,
        caught_up: bool,
        out: &mut Produced,
    ) -> Result<(), TaskError>;

    /// End of a bounded run: everything up to the recorded end has been folded. Called once, last.
    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError>;

    /// Its state, if it has any beyond its position; then it can be restored.
    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        None
    }

    /// A task without state goes on where an earlier one left off, whose watermark was this.
    fn resume(&mut self, watermark: Option<EventTime>) {
        let _ = watermark;
    }

    /// Number of the last side input that it applied: a tick or a seal, which no log holds.
    fn side_inputs(&self) -> u64 {
        0
    }

    /// How far it has got.
    fn progress(&self) -> TaskProgress {
        TaskProgress::default()
    }
}

/// Makes the tasks of a role.
pub trait TaskFactory: Send + Sync {
    /// A fresh task for one partition. An error stops the workers of the role.
    fn create(&self, topic: &str, partition: PartitionId) -> Result<Box<dyn Task>, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_in_memory_are_iterated_in_order_and_the_last_of_a_name_counts() {
        let pairs = [("a", Some(&b"1"[..])), ("b", None), ("a", Some(&b"2"[..]))];
        let headers = Headers::Pairs(&pairs);
        assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(headers.get("a"), Some(Some(&b"2"[..])));
        assert_eq!(headers.get("b"), Some(None));
        assert_eq!(headers.get("c"), None);
    }

    #[test]
    fn rewinding_forgets_what_a_failed_call_appended() {
        let topic: Arc<str> = "t".into();
        let mut out = Produced::default();
        out.records.push(OutRecord::new(&topic, b"k".to_vec(), None));
        let mark = out.mark();
        out.records.push(OutRecord::new(&topic, b"l".to_vec(), None));
        out.rewind(mark);
        assert_eq!(out.records.len(), 1);
    }
}
