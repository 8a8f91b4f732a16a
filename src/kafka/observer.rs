//! What workers tell about themselves; `telemetry` makes metrics of it.

use crate::model::ids::PartitionId;
use crate::model::time::EventTime;

/// Listens to workers. Called from their threads, once per batch, never per record; must not block.
/// Every method does nothing unless it is overridden.
pub trait WorkerObserver: Send + Sync {
    /// One poll brought `records` records and took `secs` seconds, waiting included.
    fn polled(&self, role: &'static str, records: usize, secs: f64) {
        let _ = (role, records, secs);
    }

    /// Folding those records took `secs` seconds.
    fn folded(&self, role: &'static str, records: usize, secs: f64) {
        let _ = (role, records, secs);
    }

    /// Handing `records` outputs of `bytes` bytes to the client took `secs` seconds.
    fn produced(&self, role: &'static str, records: usize, bytes: usize, secs: f64) {
        let _ = (role, records, bytes, secs);
    }

    /// The outputs of one step were acknowledged `secs` seconds after they were handed over.
    fn committed(&self, role: &'static str, secs: f64) {
        let _ = (role, secs);
    }

    /// Records of a partition that have not been read yet, and how old the last one read is in
    /// seconds (0 when caught up). Told about once a second.
    fn lag(&self, topic: &str, partition: PartitionId, records: i64, secs: f64) {
        let _ = (topic, partition, records, secs);
    }

    /// How far the task of a partition has got. Told about once a second.
    fn watermark(
        &self,
        role: &'static str,
        topic: &str,
        partition: PartitionId,
        progress: &super::TaskProgress,
    ) {
        let _ = (role, topic, partition, progress);
    }

    /// A partition was paused because its task waits for something, which `reason` names.
    fn retrying(&self, role: &'static str, topic: &str, partition: PartitionId, reason: &str) {
        let _ = (role, topic, partition, reason);
    }

    /// The state of a partition is restored: so many records of its changelog are left, and so many
    /// seconds if it goes on as before. Told once a second; with 0 when it is over.
    fn restoring(&self, role: &'static str, partition: PartitionId, left: i64, secs: f64) {
        let _ = (role, partition, left, secs);
    }

    /// A copy of the state of another's partition is so many records behind; `None`: there is none
    /// here any more. Told about once a second.
    fn follows(&self, role: &'static str, partition: PartitionId, behind: Option<i64>) {
        let _ = (role, partition, behind);
    }

    /// For so long the last stable offset of a partition has been standing before records. Told about
    /// once a second.
    fn stands(&self, topic: &str, partition: PartitionId, secs: f64) {
        let _ = (topic, partition, secs);
    }

    /// Whether a worker reads no further because something is full: `outputs` that are not acknowledged
    /// yet, or the `memory` budget. Told about once a second.
    fn full(&self, role: &'static str, what: &'static str, is_full: bool) {
        let _ = (role, what, is_full);
    }

    /// Partitions were assigned (`true`) or revoked (`false`).
    fn rebalanced(&self, role: &'static str, assigned: bool, partitions: usize) {
        let _ = (role, assigned, partitions);
    }
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl WorkerObserver for Silent {}

/// Seconds between now and a timestamp; 0 for none or one of the future.
pub(super) fn age_secs(timestamp: i64) -> f64 {
    if timestamp < 0 {
        return 0.0;
    }
    let age = crate::clock::now().as_ms() - EventTime::from_ms(timestamp).as_ms();
    (age.max(0)) as f64 / 1_000.0
}
