//! Nothing comes any more: `ChannelSilent`.
//!
//! A gap is measured in *expected arrivals*: the integral of the series' effective rate from the end
//! of the last slice with events. It is a silence when so many expected arrivals have failed to come
//! that chance would do that at most `chance` times in `horizon` (30 days), and no sooner than
//! `min_gap`. The effective rate of an hour is, all on the cautious side,
//!
//! - the least of the rates that the hour itself and its two neighbours usually have (see `seasons`),
//! - times today's level: what came in the last hours over what usually comes, at most 1,
//! - over the dispersion of the counts, as events come in clusters (sessions).
//!
//! Besides, the bound is never below twice the longest gap that turned out to be none.
//!
//! A series that is too slow to say anything within `max_gap` is not judged, nor is one that has been
//! known for less than `min_history`. A closed input says nothing about silence. It needs no polling:
//! the time at which each gap becomes a silence is known beforehand.

mod state;

use super::detector::{Claim, Detect, Episodes, State, Unit, Verdict};
use super::rule::{Rule, covers};
use super::seasons::{HOUR, Seasons};
use crate::engine::state::Dirty;
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::Value;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use crate::rollup::step::StepView;
use serde::{Deserialize, Serialize};
use state::Part;
use std::collections::BTreeMap;

/// Settings of the detector.
#[derive(Clone, PartialEq, Debug)]
pub struct Silence {
    /// Shorter gaps are none.
    pub min_gap: Millis,
    /// Longer ones are not judged any more.
    pub max_gap: Millis,
    /// So many gaps as long as that in `horizon` by chance alone are accepted.
    pub chance: f64,
    /// See `chance`.
    pub horizon: Millis,
    /// Says nothing before it has known a series for so long.
    pub min_history: Millis,
}

impl Default for Silence {
    fn default() -> Silence {
        Silence {
            min_gap: Millis::from_mins(2),
            max_gap: Millis::from_hours(24),
            chance: 0.001,
            horizon: Millis::from_hours(24 * 30),
            min_history: Millis::from_hours(24),
        }
    }
}

/// The longest gap that was none is forgotten by half in this time.
const LONGEST_HALF_LIFE: Millis = Millis::from_hours(24 * 14);
/// A gap is only a silence beyond so many times the longest that was none.
const LONGEST_FACTOR: f64 = 2.0;
/// Until a week is known, nobody knows what days are quiet: gaps of hours are not judged.
const YOUNG: Millis = Millis::from_hours(24 * 8);
const YOUNG_MAX_GAP: Millis = Millis::from_hours(6);
/// Evidence of a silence begins so long before it.
const EVIDENCE: Millis = Millis::from_mins(5);

/// When something may be due.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Due {
    /// Not before this: then it is to be computed.
    NotBefore(EventTime),
    /// The gap is a silence at this time.
    At(EventTime),
}

struct Series {
    first: EventTime,
    /// End of the last slice with events.
    last: EventTime,
    seasons: Seasons,
    /// Longest gap, in expected arrivals, as of `longest_at`.
    longest: f64,
    longest_at: EventTime,
    /// When to look again; nobody computes bounds for gaps that close at once.
    due: Option<Due>,
    /// Since when it is silent, once that was said.
    silent_since: Option<EventTime>,
}

/// The detector's state for one tenant.
pub(super) struct SilenceState {
    settings: Silence,
    grid: SliceGrid,
    scopes: Vec<Vec<Dimension>>,
    series: BTreeMap<Dimensions, Series>,
    hour_ends: Option<EventTime>,
    closed: bool,
    dirty: Dirty<Part>,
}

impl Series {
    fn new(at: EventTime) -> Series {
        Series {
            first: at,
            last: at,
            seasons: Seasons::new(at),
            longest: 0.0,
            longest_at: at,
            due: None,
            silent_since: None,
        }
    }

    /// Expected arrivals (per second) of the hour that holds `at`.
    fn rate(&self, at: EventTime) -> f64 {
        self.seasons.least_rate(at) * self.seasons.level() / self.seasons.dispersion()
    }

    /// Expected arrivals that a gap must lack, if the rate was at most `rate`.
    fn bound(&self, settings: &Silence, rate: f64) -> f64 {
        let chances = (rate * settings.horizon.as_secs_f64()).max(1.0);
        let age = self.last.since(self.longest_at).as_ms().max(0) as f64;
        let halvings = age / LONGEST_HALF_LIFE.as_ms() as f64;
        let longest = self.longest * (-halvings).exp2();
        (chances / settings.chance).ln().max(longest * LONGEST_FACTOR)
    }

    /// Expected arrivals between `from` and `to`.
    fn arrivals(&self, from: EventTime, to: EventTime) -> f64 {
        let mut sum = 0.0;
        let mut at = from;
        while at < to {
            let until = HOUR.end_of(at).min(to);
            sum += self.rate(at) * until.since(at).as_secs_f64();
            at = until;
        }
        sum
    }

    /// True if the gap is a silence by `at`; computes when it will be one, if that is worth knowing.
    fn is_due(&mut self, settings: &Silence, grid: SliceGrid, at: EventTime) -> bool {
        if let Some(Due::NotBefore(time)) = self.due
            && time <= at
        {
            self.due = self.silent_at(settings, grid).map(Due::At);
        }
        matches!(self.due, Some(Due::At(time)) if time <= at)
    }

    /// When the present gap becomes a silence, if nothing comes; whole slices.
    fn silent_at(&self, settings: &Silence, grid: SliceGrid) -> Option<EventTime> {
        if self.last.since(self.first) < settings.min_history {
            return None;
        }
        let young = self.last.since(self.first) < YOUNG;
        let max_gap = if young { settings.max_gap.min(YOUNG_MAX_GAP) } else { settings.max_gap };
        let limit = self.last.plus(max_gap);
        let (mut at, mut sum, mut most) = (self.last, 0.0, 0.0_f64);
        while at < limit {
            let until = HOUR.end_of(at).min(limit);
            let rate = self.rate(at);
            most = most.max(rate);
            let missing = self.bound(settings, most) - sum;
            let needed = if rate > 0.0 { missing / rate * 1_000.0 } else { f64::INFINITY };
            if needed <= until.since(at).as_ms() as f64 {
                let due = at.plus(Millis::from_ms(needed.max(0.0).ceil() as i64));
                let due = due.max(self.last.plus(settings.min_gap));
                return Some(grid.end(grid.slice(due.minus(Millis::from_ms(1)))));
            }
            sum += rate * until.since(at).as_secs_f64();
            at = until;
        }
        None
    }

    /// Takes `n` events of one slice in.
    fn arrive(&mut self, grid: SliceGrid, slice: Slice, n: i64) {
        self.seasons.add(grid.start(slice), n);
        let (start, end) = (grid.start(slice), grid.end(slice));
        if end <= self.last {
            return;
        }
        if start > self.last && self.silent_since.is_none() {
            let gap = self.arrivals(self.last, start);
            let age = start.since(self.longest_at).as_ms() as f64;
            let faded = self.longest * (-age / LONGEST_HALF_LIFE.as_ms() as f64).exp2();
            if gap >= faded {
                (self.longest, self.longest_at) = (gap, start);
            }
        }
        self.last = end;
    }
}

impl SilenceState {
    pub(super) fn new(settings: Silence, rule: &Rule, slice: Millis) -> SilenceState {
        SilenceState {
            grid: SliceGrid::new(slice),
            settings,
            scopes: rule.scopes.clone(),
            series: BTreeMap::new(),
            hour_ends: None,
            closed: false,
            dirty: Dirty::default(),
        }
    }

    fn arrive(&mut self, view: &StepView<'_>) {
        for &(dimensions, slice, n) in view.events {
            if n <= 0 || !covers(&self.scopes, dimensions) {
                continue;
            }
            if !self.series.contains_key(dimensions) {
                let series = Series::new(self.grid.start(slice));
                self.series.insert(dimensions.clone(), series);
                self.dirty.touch(Part::Learned(dimensions.clone()));
            }
            if let Some(series) = self.series.get_mut(dimensions) {
                let hour = series.seasons.hour();
                series.arrive(self.grid, slice, n);
                if series.seasons.hour() != hour {
                    self.dirty.touch(Part::Learned(dimensions.clone()));
                }
                self.dirty.touch(Part::Series(dimensions.clone()));
                series.due = Some(Due::NotBefore(series.last.plus(self.settings.min_gap)));
            }
        }
    }

    /// Closes the hours that are over, and with them learns what is usual.
    fn turn(&mut self, at: EventTime) {
        if self.hour_ends.is_some_and(|ends| at < ends) {
            return;
        }
        self.hour_ends = Some(HOUR.end_of(at));
        self.dirty.touch(Part::Head);
        for (dimensions, series) in &mut self.series {
            self.dirty.touch(Part::Series(dimensions.clone()));
            self.dirty.touch(Part::Learned(dimensions.clone()));
            series.seasons.advance(at, series.silent_since);
            // What is usual has changed.
            if series.silent_since.is_none() {
                series.due = Some(Due::NotBefore(series.last.plus(self.settings.min_gap)));
            }
        }
    }

    fn verdict(&self, dimensions: &Dimensions, series: &Series, view: &StepView<'_>) -> Verdict {
        let silent = series.silent_since.is_some();
        let (since, until) = match series.silent_since {
            Some(since) => (since, view.step_end),
            // It is over: from the old end to where events are again.
            None => (series.last, series.last),
        };
        let rate = series.rate(since);
        let gap = until.since(since).as_secs_f64();
        let expected = if rate > 0.0 { 1.0 / rate } else { 0.0 };
        let bound = series.silent_at(&self.settings, self.grid).unwrap_or(until);
        Verdict {
            series: dimensions.clone(),
            state: if silent { State::Enter } else { State::Leave },
            claim: Claim::Own,
            slot: view.step_end,
            every: Millis::ZERO,
            starts_at: since,
            ends_at: until,
            window: self.settings.min_gap,
            value: gap,
            expected,
            lower: 0.0,
            upper: bound.since(since).as_secs_f64().max(0.0),
            n: series.seasons.recent_events(),
            effect: gap - expected,
            p_value: (-series.arrivals(since, until)).exp(),
            maturity: 1.0,
            completeness: view.completeness,
            contributors: Vec::new(),
            at_risk: Value::new(),
            evidence: (since.minus(EVIDENCE), view.step_end),
            unit: Unit::Seconds,
        }
    }
}

impl Detect for SilenceState {
    fn step(&mut self, view: &StepView<'_>, episodes: Episodes<'_>, out: &mut Vec<Verdict>) -> u64 {
        if self.closed != view.closed {
            self.dirty.touch(Part::Head);
        }
        self.closed = view.closed;
        let mut tests = 0;
        if !view.closed {
            self.turn(view.step_end);
        }
        self.arrive(view);
        let mut heard: Vec<Dimensions> = Vec::new();
        for (dimensions, series) in &mut self.series {
            let before = (series.due, series.silent_since);
            let is_due = series.is_due(&self.settings, self.grid, view.step_end);
            if is_due && !view.closed {
                tests += 1;
                series.silent_since.get_or_insert(series.last);
            } else if !is_due && series.silent_since.take().is_some() {
                heard.push(dimensions.clone());
            }
            if before != (series.due, series.silent_since) {
                self.dirty.touch(Part::Series(dimensions.clone()));
            }
        }
        for (dimensions, series) in &self.series {
            let over = heard.contains(dimensions) && episodes.open_since(dimensions).is_some();
            if over || (series.silent_since.is_some() && !view.closed) {
                out.push(self.verdict(dimensions, series, view));
            }
        }
        tests
    }

    fn next_due(&self) -> Option<EventTime> {
        if self.closed {
            return None;
        }
        let quiet = self.series.values().filter(|series| series.silent_since.is_none());
        let time = |due| match due {
            Due::NotBefore(time) | Due::At(time) => time,
        };
        quiet.filter_map(|series| series.due.map(time)).min()
    }
}
