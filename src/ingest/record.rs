//! One record of a source topic as the core sees it, and what became of it.

use crate::model::reject::{FilterReason, Reject};

/// One record of a source topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceRecord<'a> {
    /// Partition of the source topic.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// The value; empty for a tombstone.
    pub payload: &'a [u8],
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The headers, in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The record's timestamp, ms, of whichever type.
    pub broker_time: Option<i64>,
    /// When it arrived, ms: the record's timestamp if its type is LogAppendTime, else the clock of
    /// the shell when it polled the record.
    pub arrival: i64,
}

/// What became of one record: one of these, always.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It gave this many touchpoints, at least one.
    Mapped(u64),
    /// Left out without being wrong.
    Filtered(FilterReason),
    /// It cannot be used: to `touchpoints.rejected`.
    Rejected(Reject),
}
