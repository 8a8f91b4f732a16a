//! The recent windows of one series of a ratio, and the tests over runs of them.
//!
//! A run is the last 1 to `over` windows, or twice `over`. Testing each length (and paying for it,
//! Bonferroni) finds a sharp rise at once, and a small one later rather than never. Undecided checkouts are left out while they are few; a run with
//! more of them is judged by the worst case: for entering they count as completed, for leaving as
//! abandoned. So payments that stay pending for a day neither blind the alert nor feed it.
//!
//! Keeps [`KEEP`] of windows with at least one checkout; older ones can neither be tested nor learned.

use super::baseline::Expected;
use super::betabinomial::upper_tail;
use super::spike::{Counts, RatioSpike};
use crate::model::figures::Money;
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long windows are kept.
pub(super) const KEEP: Millis = Millis::from_hours(24);
/// A window shows the start of something if chance does that so rarely.
const START_P: f64 = 0.000_2;
/// A window still shows it if chance does that so rarely.
const ELEVATED_P: f64 = 0.01;
/// Runs this unlikely are not normal yet.
const LEAVE_P: f64 = 0.05;
/// A window with fewer decided checkouts shows nothing by itself.
const OWN_N_MIN: i64 = 5;

/// One window as last seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) completeness: f64,
    pub(super) orders: i64,
    pub(super) value: Money,
    pub(super) is_final: bool,
    pub(super) learned: bool,
}

/// Sums over a stretch of windows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Run {
    pub(super) from: EventTime,
    pub(super) to: EventTime,
    /// Numerator, worst case.
    pub(super) k: i64,
    /// Denominator, worst case.
    pub(super) n: i64,
    pub(super) started: i64,
    pub(super) undecided: i64,
    pub(super) completeness: f64,
}

/// Which way the undecided count if they are too many to leave out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worst {
    Completed,
    Abandoned,
}

/// The best of the tests of one evaluation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tested {
    pub(super) run: Run,
    /// Adjusted for the lengths that were tried.
    pub(super) p: f64,
}

/// Windows by start.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Runs {
    pub(super) windows: BTreeMap<EventTime, Seen>,
}

impl Run {
    pub(super) fn rate(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.k as f64 / self.n as f64 }
    }

    /// Share of the cohort that is decided.
    pub(super) fn maturity(&self) -> f64 {
        if self.started == 0 { 1.0 } else { 1.0 - self.undecided as f64 / self.started as f64 }
    }

    /// Whether the effect is worth an alert, however certain it is.
    pub(super) fn is_large(&self, settings: &RatioSpike, expected: &Expected) -> bool {
        self.rate() >= settings.enter_rate(expected.rate)
    }
}

impl Runs {
    /// Sums the windows from `from` to `to`.
    fn sum(&self, from: EventTime, to: EventTime, worst: Worst) -> Run {
        let mut run = Run { from, to, k: 0, n: 0, started: 0, undecided: 0, completeness: 1.0 };
        for seen in self.windows.range(from..to).map(|(_, seen)| seen) {
            run.k += seen.counts.k;
            run.n += seen.counts.n;
            run.started += seen.counts.started;
            run.undecided += seen.counts.undecided;
            run.completeness = run.completeness.min(seen.completeness);
        }
        // As in the contract of the windows: at most 5 % undecided, in whole numbers.
        if run.undecided * 20 > run.started {
            run.n += run.undecided;
            run.k += if worst == Worst::Abandoned { run.undecided } else { 0 };
        }
        run
    }

    /// Sums the last `length` windows before `to` for entering.
    pub(super) fn last(&self, settings: &RatioSpike, to: EventTime, length: u32) -> Run {
        let from = to.minus(times(settings.window, length));
        self.sum(from, to, Worst::Completed)
    }

    /// Tests runs of every length that end at `to`; `None` if all are too small.
    pub(super) fn test(
        &self,
        settings: &RatioSpike,
        expected: &Expected,
        to: EventTime,
    ) -> Option<Tested> {
        let mut best: Option<Tested> = None;
        let mut tried = 0;
        for length in (1..=settings.over).chain([2 * settings.over]) {
            let run = self.last(settings, to, length);
            if run.n < settings.min_n {
                continue;
            }
            tried += 1;
            let p = upper_tail(run.n, run.k, expected.rate, expected.rho);
            if best.is_none_or(|best| p <= best.p) {
                best = Some(Tested { run, p });
            }
        }
        best.map(|best| Tested { p: (best.p * f64::from(tried)).min(1.0), ..best })
    }

    /// When it began: the end of the first window that is up by itself, of those that are up without
    /// a break by at least half of what the highest one is. (The end, as whatever it is may have begun in its midst, and as checkouts
    /// that began shortly before it are hit, too.) `to` if none is.
    pub(super) fn starts_at(
        &self,
        settings: &RatioSpike,
        expected: &Expected,
        to: EventTime,
    ) -> EventTime {
        let from = to.minus(times(settings.window, 2 * settings.over));
        let half = self.half_way(expected, from, to);
        let mut first = None;
        for (start, seen) in self.windows.range(from..to).rev() {
            if seen.counts.n < OWN_N_MIN {
                continue;
            }
            if seen.counts.rate() >= half {
                first = if own_p(seen, expected) <= START_P { Some(*start) } else { first };
            } else if first.is_some() {
                break;
            }
        }
        first.map_or(to, |start| start.plus(settings.window))
    }

    /// End of the last window of what began at `since` that is up by itself, and by at least half of
    /// what the highest one is. `since` if none is.
    pub(super) fn ends_at(
        &self,
        settings: &RatioSpike,
        expected: &Expected,
        since: EventTime,
        to: EventTime,
    ) -> EventTime {
        let from = since.minus(settings.window).min(to);
        let half = self.half_way(expected, from, to);
        let mut windows = self.windows.range(from..to).rev();
        let last = windows.find(|(_, seen)| is_up(seen, expected, ELEVATED_P, half));
        last.map_or(since, |(start, _)| start.plus(settings.window))
    }

    /// Half way from what is expected to the highest window that is up by itself.
    fn half_way(&self, expected: &Expected, from: EventTime, to: EventTime) -> f64 {
        let up = self.windows.range(from..to).filter(|(_, seen)| own_p(seen, expected) <= START_P);
        let highest = up.map(|(_, seen)| seen.counts.rate()).fold(expected.rate, f64::max);
        (expected.rate + highest) / 2.0
    }

    /// The run that decides whether it is over: the windows since `since`, at most `over` of them,
    /// or more while they are too few checkouts. `None` if they are too few all the same.
    pub(super) fn since(
        &self,
        settings: &RatioSpike,
        since: EventTime,
        to: EventTime,
    ) -> Option<Run> {
        let usual = to.minus(times(settings.window, settings.over));
        let run = self.sum(since.max(usual), to, Worst::Abandoned);
        if run.n >= settings.min_n {
            return Some(run);
        }
        let mut starts = self.windows.range(since..to.max(since)).rev();
        starts.find_map(|(start, _)| {
            let run = self.sum(*start, to, Worst::Abandoned);
            (run.n >= settings.min_n).then_some(run)
        })
    }

    /// True if one window is so far up that it is no example of what is usual.
    pub(super) fn is_anomalous(settings: &RatioSpike, expected: &Expected, seen: &Seen) -> bool {
        seen.counts.rate() >= settings.enter_rate(expected.rate) && own_p(seen, expected) <= START_P
    }
}

/// True if a run is below the leave level: nearer to what is expected than half the least effect, or
/// not distinguishable from it.
pub(super) fn has_left(settings: &RatioSpike, expected: &Expected, run: &Run) -> bool {
    let level = (expected.rate + settings.enter_rate(expected.rate)) / 2.0;
    run.rate() < level || upper_tail(run.n, run.k, expected.rate, expected.rho) > LEAVE_P
}

fn is_up(seen: &Seen, expected: &Expected, p: f64, half: f64) -> bool {
    seen.counts.rate() >= half && own_p(seen, expected) <= p
}

fn own_p(seen: &Seen, expected: &Expected) -> f64 {
    if seen.counts.n < OWN_N_MIN {
        return 1.0;
    }
    upper_tail(seen.counts.n, seen.counts.k, expected.rate, expected.rho)
}

pub(super) fn times(length: Millis, n: u32) -> Millis {
    Millis::from_ms(length.as_ms() * i64::from(n))
}
