//! What a detector is: it sees a step, it says verdicts; it neither opens nor closes anything.
//!
//! A detector keeps its own baselines. The life cycle (`life`) is shared and turns verdicts into
//! episodes; in return the detector is told which episodes there are, so that it does not learn what
//! is wrong as normal.

use crate::engine::state::Checkpointed;
use crate::model::dimension::Dimensions;
use crate::model::record::{Contributor, Value};
use crate::model::time::{EventTime, Millis};
use crate::rollup::step::StepView;
use serde::{Deserialize, Serialize};

/// What a detector thinks of one series at one evaluation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum State {
    /// Too little is known to say anything: counts neither for nor against.
    Learning,
    /// Nothing to see, yet not clearly below the leave level.
    Ok,
    /// Unusual, not enough for an alert by itself.
    Suspicious,
    /// Above the enter level.
    Enter,
    /// Below the leave level.
    Leave,
}

impl State {
    /// True if it speaks for an alert.
    pub fn is_suspicion(self) -> bool {
        matches!(self, State::Suspicious | State::Enter)
    }
}

/// Whether the verdict may open an episode of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Claim {
    /// It may.
    Own,
    /// Not now: it is not clear yet whether this series or a coarser one is what is wrong.
    Held,
    /// No: another series' episode says the same.
    Covered,
}

/// The unit of `value`, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unit {
    /// A share from 0 to 1.
    Share,
    /// Seconds.
    Seconds,
    /// How many.
    Number,
}

/// One detector's word on one series at one evaluation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The series.
    pub series: Dimensions,
    /// What the detector thinks.
    pub state: State,
    /// Whether it may open an episode.
    pub claim: Claim,
    /// Which evaluation this is: another verdict of the same slot replaces this one's vote.
    pub slot: EventTime,
    /// Distance of the slots; older votes than n of these do not count. Zero: they all do.
    pub every: Millis,
    /// Since when something is wrong, if something is.
    pub starts_at: EventTime,
    /// Until when it was seen to be wrong, at the latest.
    pub ends_at: EventTime,
    /// Length of what was looked at.
    pub window: Millis,
    /// The figure.
    pub value: f64,
    /// What it should be.
    pub expected: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
    /// Sample size.
    pub n: i64,
    /// How far the value is off, in its own unit.
    pub effect: f64,
    /// How likely such a value is if nothing is wrong, adjusted for all that was tested with it.
    pub p_value: f64,
    /// Share of the cohort that is decided.
    pub maturity: f64,
    /// Share of journey partitions that are complete.
    pub completeness: f64,
    /// What it comes from, largest first.
    pub contributors: Vec<Contributor>,
    /// Money at risk in an hour, minor units by currency.
    pub at_risk: Value,
    /// Stretch of event time that shows it.
    pub evidence: (EventTime, EventTime),
    /// Unit of the figures, for people.
    pub unit: Unit,
}

impl Verdict {
    /// The verdict of a detector that knows too little of a series to say anything.
    pub fn learning(series: &Dimensions, slot: EventTime, window: Millis) -> Verdict {
        Verdict {
            series: series.clone(),
            state: State::Learning,
            claim: Claim::Held,
            slot,
            every: window,
            starts_at: slot,
            ends_at: slot,
            window,
            value: 0.0,
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
            n: 0,
            effect: 0.0,
            p_value: 1.0,
            maturity: 1.0,
            completeness: 1.0,
            contributors: Vec::new(),
            at_risk: Value::new(),
            evidence: (slot, slot),
            unit: Unit::Share,
        }
    }
}

/// A stretch of event time in which a series was in an episode that fired.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// The series.
    pub series: Dimensions,
    /// Since when.
    pub starts_at: EventTime,
    /// Until when; `None` while it fires.
    pub ends_at: Option<EventTime>,
}

impl Span {
    /// True if it is `series`' own, or that of a coarser or finer one that shares its events.
    pub fn concerns(&self, series: &Dimensions) -> bool {
        let within = |a: &Dimensions, b: &Dimensions| {
            a.pairs().iter().all(|(dimension, value)| b.get(*dimension) == Some(value))
        };
        within(&self.series, series) || within(series, &self.series)
    }
}

/// What a detector may know of the life cycle: the episodes of its rule, open and recent.
#[derive(Clone, Copy, Debug)]
pub struct Episodes<'a> {
    /// Sorted by start; closed ones stay for three days.
    pub spans: &'a [Span],
}

impl Episodes<'_> {
    /// Since when `series` fires (or recovers), if it does.
    pub fn open_since(&self, series: &Dimensions) -> Option<EventTime> {
        let mut open = self.spans.iter().filter(|span| span.ends_at.is_none());
        open.find(|span| span.series == *series).map(|span| span.starts_at)
    }
}

/// A detector's state for one tenant.
pub trait Detect: Checkpointed + Send {
    /// Looks at one step; appends a verdict for every series that is due to be judged. Returns the
    /// number of tests made.
    fn step(&mut self, view: &StepView<'_>, episodes: Episodes<'_>, out: &mut Vec<Verdict>) -> u64;

    /// Makes the next evaluation that is due at the same step, once the verdicts of the one before
    /// have been taken; like `step`, or `None` if there is no other.
    fn catch_up(
        &mut self,
        _view: &StepView<'_>,
        _episodes: Episodes<'_>,
        _out: &mut Vec<Verdict>,
    ) -> Option<u64> {
        None
    }

    /// The earliest time at which it has something to say even if nothing comes in.
    fn next_due(&self) -> Option<EventTime>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dimension::Dimension;

    #[test]
    fn a_span_concerns_what_shares_its_events() {
        let web = Dimensions::new([(Dimension::Channel, "web".into())]);
        let app = Dimensions::new([(Dimension::Channel, "app".into())]);
        let check = |of: &Dimensions, series: &Dimensions, expected: bool| {
            let span = Span { series: of.clone(), starts_at: EventTime::MIN, ends_at: None };
            assert_eq!(span.concerns(series), expected, "{of} / {series}");
        };
        check(&web, &web, true);
        check(&web, &app, false);
        check(&web, &Dimensions::TOTAL, true);
        check(&Dimensions::TOTAL, &app, true);
    }
}
