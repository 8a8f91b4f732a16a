//! What a ratio usually is: a trailing mean, how much windows differ, and how sure that is.
//!
//! All sums forget exponentially in event time, so the state is a handful of numbers per series. The
//! correlation `rho` within a window (over-dispersion) is estimated by the method of moments from the
//! weighted squares of the windows' rates (Kleinman 1973), drawn towards a prior while few or only
//! small windows are known. A daily pattern of the rate shows up as over-dispersion: the test gets blunter, not
//! wrong. Hour-of-week cells are not kept.

use super::detector::Episodes;
use crate::model::dimension::Dimensions;
use crate::model::figures::Money;
use crate::model::record::Value;
use crate::model::time::{EventTime, Millis};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a baseline learns and when it speaks.
#[derive(Clone, PartialEq, Debug)]
pub struct Learning {
    /// After this long a window counts half.
    pub half_life: Millis,
    /// The watermark is this far past a window's end when it is learned: cohort maturity and allowed
    /// lateness.
    pub after: Millis,
    /// Says nothing before it has seen this many windows with data.
    pub min_windows: i64,
    /// Says nothing before it has seen this many decided checkouts.
    pub min_decided: i64,
    /// Windows of an episode are left out for this long; then what lasts is the new normal.
    pub relearn_after: Millis,
}

impl Default for Learning {
    fn default() -> Learning {
        Learning {
            half_life: Millis::from_hours(72),
            after: Millis::from_mins(90),
            min_windows: 24,
            min_decided: 200,
            relearn_after: Millis::from_hours(24),
        }
    }
}

/// Correlation that is assumed while nothing is known, and how sure that is (1 / variance).
const RHO_PRIOR: f64 = 0.002;
const RHO_PRIOR_PRECISION: f64 = 50_000.0;
/// No shop is a perfect coin.
const RHO_LEAST: f64 = 0.000_5;

/// What a window of a ratio should look like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Expected {
    /// Mean share.
    pub(super) rate: f64,
    /// Correlation within a window, uncertainty of the mean included.
    pub(super) rho: f64,
    /// Weight of the series: decided checkouts, forgetting.
    pub(super) weight: f64,
}

/// Trailing sums of one series, each window weighted by its age relative to `at`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Baseline {
    at: Option<EventTime>,
    windows_seen: i64,
    decided_seen: i64,
    windows: f64,
    n: f64,
    n_squared: f64,
    k: f64,
    /// Sum of k²/n: the weighted squares of the rates.
    k_squared_by_n: f64,
    orders: f64,
    value: BTreeMap<CompactString, f64>,
}

impl Baseline {
    /// Learns one window that ended at `end`: `k` of `n`.
    pub(super) fn learn(&mut self, learning: &Learning, end: EventTime, k: i64, n: i64) {
        if n <= 0 {
            return;
        }
        let weight = self.weigh(learning, end);
        let (k, n) = (k as f64, n as f64);
        self.windows_seen += 1;
        self.decided_seen += n as i64;
        self.windows += weight;
        self.n += weight * n;
        self.n_squared += weight * n * n;
        self.k += weight * k;
        self.k_squared_by_n += weight * k * k / n;
    }

    /// Learns what an order is worth. Comes before `learn` of the same window.
    pub(super) fn learn_orders(
        &mut self,
        learning: &Learning,
        end: EventTime,
        orders: i64,
        value: &Money,
    ) {
        let weight = self.weigh(learning, end);
        self.orders += weight * orders as f64;
        for (currency, minor) in value.sums() {
            *self.value.entry(currency.clone()).or_default() += weight * *minor as f64;
        }
    }

    /// Says what is to be expected; `None` while learning.
    pub(super) fn expected(&self, learning: &Learning) -> Option<Expected> {
        if self.windows_seen < learning.min_windows || self.decided_seen < learning.min_decided {
            return None;
        }
        let rate = (self.k + 0.5) / (self.n + 1.0);
        let rho = self.rho();
        let per_window = self.n_squared / self.n;
        // The mean itself is known only so well: windows that differ tell less about it.
        let unsure = (1.0 + (per_window - 1.0).max(0.0) * rho) / (self.n + 1.0);
        Some(Expected { rate, rho: (rho + unsure).min(0.5), weight: self.n })
    }

    /// Money at risk in an hour if `excess_per_hour` orders are lost.
    pub(super) fn at_risk(&self, excess_per_hour: f64) -> Value {
        if self.orders < 1.0 || excess_per_hour <= 0.0 {
            return Value::new();
        }
        let lost = |sum: f64| (sum / self.orders * excess_per_hour).round() as i128;
        let by_currency = self.value.iter().map(|(currency, sum)| (currency.clone(), lost(*sum)));
        by_currency.filter(|(_, minor)| *minor > 0).collect()
    }

    /// Moves the sums on to `end`; the weight of a window that ended then (less than 1 if it is older
    /// than what is known).
    fn weigh(&mut self, learning: &Learning, end: EventTime) -> f64 {
        let at = self.at.unwrap_or(end);
        let halvings = end.since(at).as_ms() as f64 / learning.half_life.as_ms() as f64;
        if halvings <= 0.0 {
            self.at = Some(at);
            return halvings.exp2();
        }
        let keep = (-halvings).exp2();
        let sums = [
            &mut self.windows,
            &mut self.n,
            &mut self.n_squared,
            &mut self.k,
            &mut self.k_squared_by_n,
            &mut self.orders,
        ];
        for sum in sums.into_iter().chain(self.value.values_mut()) {
            *sum *= keep;
        }
        self.at = Some(end);
        1.0
    }

    fn rho(&self) -> f64 {
        let mean = self.k / self.n;
        let spread = mean * (1.0 - mean);
        let squares = self.k_squared_by_n - self.k * self.k / self.n;
        let free = self.windows - 1.0;
        let room = self.n - self.n_squared / self.n - free;
        if spread <= 0.0 || room <= 0.0 {
            return RHO_PRIOR;
        }
        let estimate = (squares / spread - free) / room;
        // Small windows tell little about it: the variance of the estimate is about 2 / Σn².
        let precision = self.n_squared / 2.0;
        let sure = precision / (precision + RHO_PRIOR_PRECISION);
        let rho = (RHO_PRIOR + (estimate - RHO_PRIOR) * sure).min(0.5);
        rho.max(RHO_LEAST)
    }
}

/// How a window stands to the episodes of its series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// No episode concerns it.
    Clear,
    /// It belongs to one: not to be learned.
    Episode,
    /// It belongs to one that lasts so long that it is the new normal.
    Settled,
}

/// Says how the window from `start` to `end` of `series` stands to `episodes`.
pub(super) fn standing(
    learning: &Learning,
    episodes: Episodes<'_>,
    series: &Dimensions,
    (start, end): (EventTime, EventTime),
) -> Standing {
    let mut standing = Standing::Clear;
    for span in episodes.spans.iter().filter(|span| span.concerns(series)) {
        // An episode starts at the end of the first window that shows it.
        let begins = span.starts_at.minus(end.since(start));
        if end <= begins || span.ends_at.is_some_and(|ends| start >= ends) {
            continue;
        }
        if start < span.starts_at.plus(learning.relearn_after) {
            return Standing::Episode;
        }
        standing = Standing::Settled;
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::super::detector::Span;
    use super::*;

    fn at(minutes: i64) -> EventTime {
        EventTime::from_ms(minutes * 60_000)
    }

    fn learned(windows: &[(i64, i64)]) -> Baseline {
        let mut baseline = Baseline::default();
        for (i, (k, n)) in windows.iter().enumerate() {
            baseline.learn(&Learning::default(), at(5 * i as i64), *k, *n);
        }
        baseline
    }

    #[test]
    fn it_says_nothing_before_it_has_seen_enough() {
        let check = |windows: &[(i64, i64)], speaks: bool| {
            assert_eq!(learned(windows).expected(&Learning::default()).is_some(), speaks);
        };
        check(&[], false);
        check(&[(3, 10); 23], false);
        check(&[(3, 8); 24], false);
        check(&[(3, 9); 24], true);
        check(&[(3, 200), (0, 0)], false);
    }

    #[test]
    fn windows_that_differ_are_over_dispersed() {
        let rho = |windows: &[(i64, i64)]| learned(windows).rho();
        let alike = rho(&[(30, 100); 100]);
        assert!((alike - RHO_LEAST).abs() < 1e-9, "{alike}");
        let apart: Vec<(i64, i64)> = (0..1000).map(|i| (20 + 20 * (i % 2), 100)).collect();
        let rho = rho(&apart);
        // Variance of the rates 0.01, of which 0.0021 is the coin's; 0.21 is the spread at 0.3.
        assert!((rho - (0.01 - 0.0021) / 0.21).abs() < 0.004, "{rho}");
    }

    #[test]
    fn old_windows_count_less_in_any_order_of_learning() {
        let learning = Learning::default();
        let (mut forward, mut backward) = (Baseline::default(), Baseline::default());
        let old = at(0);
        let new = old.plus(learning.half_life);
        forward.learn(&learning, old, 0, 1000);
        forward.learn(&learning, new, 1000, 1000);
        backward.learn(&learning, new, 1000, 1000);
        backward.learn(&learning, old, 0, 1000);
        for baseline in [forward, backward] {
            assert!((baseline.k / baseline.n - 2.0 / 3.0).abs() < 1e-9);
        }
    }

    #[test]
    fn an_hour_at_risk_is_excess_times_an_orders_worth() {
        let mut baseline = Baseline::default();
        let mut value = Money::none();
        value.add("EUR", 50_000);
        value.add("CHF", 10_000);
        baseline.learn_orders(&Learning::default(), at(5), 10, &value);
        let expected = Value::from([("CHF".into(), 12_000), ("EUR".into(), 60_000)]);
        assert_eq!(baseline.at_risk(12.0), expected);
        assert_eq!(baseline.at_risk(-1.0), Value::new());
        assert_eq!(Baseline::default().at_risk(12.0), Value::new());
    }

    #[test]
    fn windows_of_an_episode_are_left_out_until_it_is_the_new_normal() {
        let check = |ends_at: Option<i64>, start: i64, expected: Standing| {
            let ends_at = ends_at.map(at);
            let spans = [Span { series: Dimensions::TOTAL, starts_at: at(100), ends_at }];
            let window = (at(start), at(start + 5));
            let episodes = Episodes { spans: &spans };
            let got = standing(&Learning::default(), episodes, &Dimensions::TOTAL, window);
            assert_eq!(got, expected, "{ends_at:?} {start}");
        };
        check(Some(130), 90, Standing::Clear);
        check(Some(130), 95, Standing::Episode);
        check(Some(130), 125, Standing::Episode);
        check(Some(130), 130, Standing::Clear);
        check(None, 130, Standing::Episode);
        check(None, 100 + 24 * 60 - 5, Standing::Episode);
        check(None, 100 + 24 * 60, Standing::Settled);
    }
}
