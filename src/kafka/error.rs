//! What can go wrong between us and Kafka, each as one sentence for the person who runs it.

use super::task::TopicPartition;

/// Why something could not be done on Kafka. Every variant is fatal for what was tried: what the
/// client can retry has been retried before.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// A property of the `kafka:` map is unknown, has a bad value, or belongs to us.
    #[error("{0}")]
    Property(String),
    /// The brokers did not answer in time, or refused.
    #[error("{what} failed: {reason}")]
    Broker {
        /// What was tried.
        what: String,
        /// What the client says.
        reason: String,
    },
    /// A topic that is needed does not exist.
    #[error("topic {0} does not exist; create it, or run `touchline topics apply`")]
    MissingTopic(String),
    /// The offset to read next is not in the topic any more.
    #[error("the next record of {at} is gone from the topic; it was deleted before it was read")]
    Gone {
        /// Where.
        at: TopicPartition,
    },
    /// Reading a partition failed for good.
    #[error("reading {at} failed: {reason}")]
    Read {
        /// Where.
        at: TopicPartition,
        /// What the client says.
        reason: String,
    },
    /// An output was refused for good, or could not be delivered in time.
    #[error("an output to topic {topic} could not be delivered: {reason}")]
    Delivery {
        /// Where to.
        topic: String,
        /// What the client says.
        reason: String,
    },
    /// Another process uses the same transactional ids.
    #[error(
        "this worker was fenced three times in a row ({reason}): another process runs with the same \
         application and instance name; give each its own `app.instance`"
    )]
    Fenced {
        /// What the client says.
        reason: String,
    },
    /// A task gave up.
    #[error("the {role} task of {at} stopped: {reason}")]
    Task {
        /// Role of the worker.
        role: String,
        /// Partition of the task.
        at: TopicPartition,
        /// Why.
        reason: String,
    },
    /// A state was written under another configuration, and can only go on under that.
    #[error("the {role} task of {at} stopped: {reason}")]
    Configuration {
        /// Role of the worker.
        role: String,
        /// Partition of the task.
        at: TopicPartition,
        /// Why.
        reason: String,
        /// The configuration of the state.
        fingerprint: u128,
    },
    /// A worker broke an invariant.
    #[error("a worker of {role} broke down: {reason}")]
    Panic {
        /// Role of the worker.
        role: String,
        /// Message of the broken assertion.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{0}")]
    System(String),
}

impl Error {
    /// A failure of `what` that the client explains.
    pub(super) fn broker(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Broker { what: what.into(), reason: reason.to_string() }
    }
}
