//! What the alert engine sees of a step, and how the fold calls it.
//!
//! A step is the end of one slice of `rollup`'s clock. The view borrows from the fold's state and is
//! gone when the step is over; an engine that wants to remember copies.

use crate::engine::Output;
use crate::engine::state::{Checkpointed, Entry, StateError};
use crate::model::dimension::Dimensions;
use crate::model::figures::{Cohort, Figures};
use crate::model::time::{EventTime, Millis, Slice};

/// What detectors see of one aligned window of one series.
#[derive(Clone, Copy, Debug)]
pub struct WindowView<'a> {
    /// Length of the window.
    pub window: Millis,
    /// First moment of the window.
    pub start: EventTime,
    /// First moment after the window.
    pub end: EventTime,
    /// What the series is about.
    pub dimensions: &'a Dimensions,
    /// Figures of the window.
    pub figures: &'a Figures,
    /// Distinct customers.
    pub customers: i64,
    /// Checkouts that started in the window.
    pub cohort: &'a Cohort,
    /// True if enough of the cohort is decided.
    pub mature: bool,
    /// True if nothing can change it any more.
    pub is_final: bool,
    /// Share of journey partitions whose watermark passed the window's end.
    pub completeness: f64,
}

/// One step of one tenant, after all cells due have been applied.
pub struct StepView<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// End of the step's slice: the time of this step.
    pub step_end: EventTime,
    /// Watermark as of this step; never ahead of `step_end`.
    pub watermark: EventTime,
    /// Share of journey partitions whose watermark passed `step_end`.
    pub completeness: f64,
    /// Every journey partition is closed: silence means nothing.
    pub closed: bool,
    /// Aligned windows that `t_checkout` past their end became old enough to be judged at this step,
    /// mature (enough of the cohort decided) or not, sorted by (length, start, dimensions).
    pub matured: &'a [WindowView<'a>],
    /// Windows that were old enough at an earlier step and changed at this one (same order).
    pub revised: &'a [WindowView<'a>],
    /// Windows that became final at this step (same order): baselines may learn from these.
    pub finals: &'a [WindowView<'a>],
    /// Events per series in the slices applied at this step: (dimensions, slice, events), sorted;
    /// late slices included.
    pub events: &'a [(&'a Dimensions, Slice, i64)],
    /// Evidence (journey partition, from, to) for a stretch of event time; offsets inclusive.
    pub evidence: &'a EvidenceOf<'a>,
}

/// Looks up the offsets that a stretch of event time (end exclusive) rests on.
pub type EvidenceOf<'a> = dyn Fn(EventTime, EventTime) -> Vec<(i32, i64, i64)> + 'a;

/// The alert engine that the fold calls at every step of a tenant: whenever cells were applied or
/// windows changed, and at least once at or after each time that it asked for. Its state is part of
/// the fold's.
pub trait AlertEngine: Checkpointed {
    /// Evaluates one step; appends what follows from it.
    fn step(&mut self, view: &StepView<'_>, out: &mut Vec<Output>);

    /// Next event time at which this tenant must be evaluated even if nothing comes in.
    fn next_due(&self, tenant: &str) -> Option<EventTime>;
}

/// An engine without rules: figures only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAlerts;

impl AlertEngine for NoAlerts {
    fn step(&mut self, _view: &StepView<'_>, _out: &mut Vec<Output>) {}

    fn next_due(&self, _tenant: &str) -> Option<EventTime> {
        None
    }
}

impl Checkpointed for NoAlerts {
    fn take_dirty(&mut self, _out: &mut Vec<Entry>) {}

    fn mark_all(&mut self) {}

    fn restore(&mut self, key: &[u8], _value: Option<&[u8]>) -> Result<(), StateError> {
        Err(StateError::Key(key.escape_ascii().to_string()))
    }

    fn restored(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}
