//! Control records: what a fold must know besides touchpoints, in its own partition's log.

use super::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// Name of the Kafka header by which readers without our schema skip control records.
pub const CONTROL_HEADER: &str = "touchline.control";

/// A control record of the canonical topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Progress of one source partition, written to each canonical partition that got nothing from
    /// it in the last second, and once at the start, before any data.
    Mark(Mark),
}

/// Progress of one source partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Name of the source in the configuration.
    pub source: CompactString,
    /// Partition of the source topic.
    pub partition: i32,
    /// Highest event time less the bound for disorder; `None` if it never had data.
    pub watermark: Option<EventTime>,
    /// The watermark plus the time waited while idle; `None` if it never had data.
    pub clock: Option<EventTime>,
    /// True while the partition is caught up and nothing came for the idle time-out.
    pub idle: bool,
    /// How many source partitions there are in all, of all sources: a journey task waits until each
    /// has reported.
    pub of: u32,
}
