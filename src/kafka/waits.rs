//! How long a partition waits whose task asks for a retry, and when that is worth a word.

use super::task::TopicPartition;
use crate::model::time::Millis;

const FIRST: Millis = Millis::from_ms(100);
const MOST: Millis = Millis::from_secs(10);
/// A wait that has come to this is worth a word: waiting for slower partitions comes and goes many
/// times a second.
const LONG: Millis = Millis::from_secs(1);

/// The wait after one of `before`; zero before the first.
pub(super) fn after(before: Millis) -> Millis {
    Millis::from_ms((before.as_ms() * 2).clamp(FIRST.as_ms(), MOST.as_ms()))
}

/// Says that a partition waits for so long.
pub(super) fn tell(at: &TopicPartition, wait: Millis, reason: &str) {
    if wait < LONG {
        tracing::debug!(%at, reason, "the partition waits");
    } else {
        tracing::warn!(%at, reason, "the partition still waits");
    }
}
