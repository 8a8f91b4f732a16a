//! A bound that somebody knows: more or fewer events in a window than that.
//!
//! At every step (the end of a slice) each series of the rule's scopes is judged by its events in the
//! window that ends there; late events count where they belong, as long as that is within the window.
//! A series is known from its first event on; whether there are too few is not said before it has been
//! known for a whole window. One without events is judged on, as 0, until nothing more can follow from
//! it; below a lower bound that stays so. It makes no claim about chance: its p-value is 1.
//!
//! Limits: a window has at most [`SLICES_MAX`] slices; events are the only figure.

use super::detector::{Claim, Detect, Episodes, State, Unit, Verdict};
use super::rule::{Rule, covers};
use crate::engine::state::{
    Checkpointed, Dirty, Entry, KeyReader, KeyWriter, StateError, decode, encode,
};
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::Value;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use crate::rollup::step::StepView;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Slices of a window at most: each is kept, for each series.
pub const SLICES_MAX: i64 = 1_000;

/// Settings of the detector.
#[derive(Clone, PartialEq, Debug)]
pub struct Threshold {
    /// What is wrong.
    pub bound: Bound,
    /// Length of the window; a multiple of a slice.
    pub window: Millis,
}

/// A number of events that is not to be crossed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// More are wrong.
    Above(i64),
    /// Fewer are wrong.
    Below(i64),
}

impl Bound {
    fn is_crossed(self, events: i64) -> bool {
        match self {
            Bound::Above(bound) => events > bound,
            Bound::Below(bound) => events < bound,
        }
    }

    fn number(self) -> i64 {
        match self {
            Bound::Above(bound) | Bound::Below(bound) => bound,
        }
    }
}

/// One series.
#[derive(Default, Serialize, Deserialize)]
struct Series {
    /// Events of the window's slices, in order, without empty ones.
    slices: VecDeque<(Slice, i64)>,
    /// Start of the slice whose end was the first step with the bound crossed, while it is.
    since: Option<EventTime>,
    /// Steps in a row with an empty window.
    idle: u32,
    /// Slice of the first events that came.
    first: Option<Slice>,
}

impl Series {
    fn add(&mut self, slice: Slice, n: i64) {
        self.first.get_or_insert(slice);
        let at = self.slices.partition_point(|(of, _)| *of < slice);
        match self.slices.get_mut(at) {
            Some((of, events)) if *of == slice => *events += n,
            _ => self.slices.insert(at, (slice, n)),
        }
    }

    /// True if too little is known to say that something is missing from a window that begins then.
    fn is_new(&self, bound: Bound, grid: SliceGrid, begins: EventTime) -> bool {
        let is_known = self.first.is_some_and(|first| grid.start(first) <= begins);
        matches!(bound, Bound::Below(_)) && !is_known
    }

    fn events(&self) -> i64 {
        self.slices.iter().map(|(_, n)| n).sum()
    }
}

/// The detector's state for one tenant.
pub(super) struct ThresholdState {
    settings: Threshold,
    grid: SliceGrid,
    scopes: Vec<Vec<Dimension>>,
    /// Steps with an empty window after which nothing more follows.
    enough: u32,
    series: BTreeMap<Dimensions, Series>,
    /// The last step.
    at: Option<EventTime>,
    closed: bool,
    dirty: Dirty<Part>,
}

/// What is written as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Part {
    Head,
    Series(Dimensions),
}

const VALUES: u8 = 1;
const HEAD: u8 = 1;
const SERIES: u8 = 2;

impl ThresholdState {
    pub(super) fn new(settings: Threshold, rule: &Rule, slice: Millis) -> ThresholdState {
        ThresholdState {
            settings,
            grid: SliceGrid::new(slice),
            scopes: rule.scopes.clone(),
            enough: rule.life.enter_n.max(rule.life.leave_m),
            series: BTreeMap::new(),
            at: None,
            closed: false,
            dirty: Dirty::default(),
        }
    }

    fn verdict(&self, dimensions: &Dimensions, series: &Series, view: &StepView<'_>) -> Verdict {
        let begins = view.step_end.minus(self.settings.window);
        if series.is_new(self.settings.bound, self.grid, begins) {
            return Verdict::learning(dimensions, view.step_end, self.settings.window);
        }
        let (events, bound) = (series.events(), self.settings.bound.number());
        let (lower, upper) = match self.settings.bound {
            Bound::Above(bound) => (0.0, bound as f64),
            // There is no upper end.
            Bound::Below(bound) => (bound as f64, (bound.max(events)) as f64),
        };
        let window = self.settings.window;
        Verdict {
            series: dimensions.clone(),
            state: if series.since.is_some() { State::Enter } else { State::Leave },
            claim: Claim::Own,
            slot: view.step_end,
            every: self.grid.length(),
            starts_at: series.since.unwrap_or(view.step_end),
            ends_at: view.step_end,
            window,
            value: events as f64,
            expected: bound as f64,
            lower,
            upper,
            n: events,
            effect: (events - bound) as f64,
            p_value: 1.0,
            maturity: 1.0,
            completeness: view.completeness,
            contributors: Vec::new(),
            at_risk: Value::new(),
            evidence: (begins, view.step_end),
            unit: Unit::Number,
        }
    }
}

impl Detect for ThresholdState {
    fn step(&mut self, view: &StepView<'_>, _: Episodes<'_>, out: &mut Vec<Verdict>) -> u64 {
        (self.at, self.closed) = (Some(view.step_end), view.closed);
        self.dirty.touch(Part::Head);
        let begins = view.step_end.minus(self.settings.window);
        for &(dimensions, slice, n) in view.events {
            if self.grid.end(slice) > begins && covers(&self.scopes, dimensions) {
                self.series.entry(dimensions.clone()).or_default().add(slice, n);
            }
        }
        let (grid, enough, bound) = (self.grid, self.enough, self.settings.bound);
        for (dimensions, series) in &mut self.series {
            let was = (series.idle, series.since);
            while series.slices.front().is_some_and(|(slice, _)| grid.end(*slice) <= begins) {
                series.slices.pop_front();
            }
            series.idle = match series.slices.is_empty() {
                true => (series.idle + 1).min(enough + 1),
                false => 0,
            };
            let is_new = series.is_new(bound, grid, begins);
            series.since = match !is_new && bound.is_crossed(series.events()) {
                true => series.since.or(Some(view.step_end.minus(grid.length()))),
                false => None,
            };
            if series.idle == 0 || was != (series.idle, series.since) {
                self.dirty.touch(Part::Series(dimensions.clone()));
            }
        }
        let judged = self.series.iter().filter(|(_, series)| series.idle <= enough);
        let before = out.len();
        out.extend(judged.map(|(dimensions, series)| self.verdict(dimensions, series, view)));
        if let Bound::Above(_) = bound {
            let dirty = &mut self.dirty;
            self.series.retain(|dimensions, series| {
                let stays = series.idle <= enough;
                if !stays {
                    dirty.touch(Part::Series(dimensions.clone()));
                }
                stays
            });
        }
        (out.len() - before) as u64
    }

    fn next_due(&self) -> Option<EventTime> {
        let open = self.series.values().any(|series| series.idle <= self.enough);
        self.at.filter(|_| open && !self.closed).map(|at| at.plus(self.grid.length()))
    }
}

impl Checkpointed for ThresholdState {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let key = |part: &Part| match part {
            Part::Head => KeyWriter::new(HEAD).done(),
            Part::Series(series) => KeyWriter::new(SERIES).dimensions(series).done(),
        };
        self.dirty.take(out, key, |part| match part {
            Part::Head => Some(encode(VALUES, &(self.at, self.closed))),
            Part::Series(series) => self.series.get(series).map(|of| encode(VALUES, of)),
        });
    }

    fn mark_all(&mut self) {
        self.dirty.touch_saved();
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let mut reader = KeyReader::new(key);
        let part = match reader.byte()? {
            HEAD => {
                let head = value.map(|value| decode("threshold", VALUES, value)).transpose()?;
                (self.at, self.closed) = head.unwrap_or_default();
                Part::Head
            }
            SERIES => {
                let dimensions = reader.dimensions()?;
                match value {
                    Some(value) => {
                        self.series.insert(dimensions.clone(), decode("series", VALUES, value)?);
                    }
                    None => {
                        self.series.remove(&dimensions);
                    }
                }
                Part::Series(dimensions)
            }
            _ => return Err(reader.error()),
        };
        reader.done()?;
        self.dirty.note_restored(part, value.is_some());
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
