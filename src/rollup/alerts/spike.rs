//! Which ratios there are, and the settings of their detector (`ratio`).
//!
//! Another ratio of a cohort is a variant and a line in `counts`.

use super::baseline::Learning;
use crate::model::time::Millis;
use crate::rollup::step::WindowView;
use serde::{Deserialize, Serialize};

/// Which ratio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ratio {
    /// Abandoned / (started − expired − undecided), of the checkouts that started in the window.
    CheckoutAbandonment,
}

/// Settings of the detector.
#[derive(Clone, PartialEq, Debug)]
pub struct RatioSpike {
    /// Which ratio.
    pub ratio: Ratio,
    /// Length of the aligned windows that it is taken from.
    pub window: Millis,
    /// It is tested over the last 1 to so many windows, and over twice as many.
    pub over: u32,
    /// It is tested from so many decided on.
    pub min_n: i64,
    /// Least effect relative to what is expected.
    pub min_relative: f64,
    /// Least effect as a difference of shares.
    pub min_points: f64,
    /// False-discovery level at which it is an alert.
    pub enter: f64,
    /// False-discovery level from which on it counts as suspicious.
    pub suspicious: f64,
    /// How the baseline learns.
    pub learning: Learning,
}

impl Default for RatioSpike {
    fn default() -> RatioSpike {
        RatioSpike {
            ratio: Ratio::CheckoutAbandonment,
            window: Millis::from_mins(5),
            over: 3,
            min_n: 30,
            min_relative: 0.2,
            min_points: 0.05,
            enter: 1e-7,
            suspicious: 1e-3,
            learning: Learning::default(),
        }
    }
}

impl RatioSpike {
    /// The least rate that is worth an alert where `expected` is usual.
    pub fn enter_rate(&self, expected: f64) -> f64 {
        (expected * (1.0 + self.min_relative)).max(expected + self.min_points)
    }
}

/// What a window contributes to a ratio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Numerator.
    pub(super) k: i64,
    /// Denominator.
    pub(super) n: i64,
    /// All that may come into the denominator or have been left out of it.
    pub(super) started: i64,
    /// Of these, undecided.
    pub(super) undecided: i64,
}

impl Counts {
    pub(super) fn rate(&self) -> f64 {
        self.k as f64 / self.n.max(1) as f64
    }
}

impl Ratio {
    pub(super) fn counts(self, view: &WindowView<'_>) -> Counts {
        let cohort = view.cohort;
        match self {
            Ratio::CheckoutAbandonment => Counts {
                k: cohort.abandoned,
                n: cohort.started - cohort.expired - cohort.undecided(),
                started: cohort.started,
                undecided: cohort.undecided(),
            },
        }
    }
}
