//! Which parts of a whole a change of its ratio comes from.
//!
//! The change of a ratio is split over its parts (Kitagawa 1955): a part's *rate* effect is its share
//! now times the change of its own rate; its *mix* effect is the change of its share times how far
//! its usual rate is from the whole's. Both add up to the change. A part's effect is their sum.

use crate::model::dimension::Dimensions;
use crate::model::record::Contributor;

/// As many contributors as an alert names.
pub const CONTRIBUTORS_MAX: usize = 3;

/// One part of the whole: now, and as it usually is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) series: &'a Dimensions,
    /// Now: `k` of `n`.
    pub(super) k: i64,
    pub(super) n: i64,
    /// Usual rate.
    pub(super) rate: f64,
    /// Usual size, in any unit common to the parts.
    pub(super) weight: f64,
}

/// The parts that add most to the whole's change, largest effect first; ties in the order given.
pub(super) fn contributors(parts: &[Part<'_>]) -> Vec<Contributor> {
    let total: i64 = parts.iter().map(|part| part.n).sum();
    let weight: f64 = parts.iter().map(|part| part.weight).sum();
    if total == 0 || weight <= 0.0 {
        return Vec::new();
    }
    let usual: f64 = parts.iter().map(|part| part.weight * part.rate).sum::<f64>() / weight;
    let mut all: Vec<Contributor> = parts
        .iter()
        .filter(|part| part.n > 0)
        .map(|part| {
            let value = part.k as f64 / part.n as f64;
            let share = part.n as f64 / total as f64;
            let rate_effect = share * (value - part.rate);
            let mix_effect = (share - part.weight / weight) * (part.rate - usual);
            Contributor {
                dimensions: part.series.to_map(),
                effect: rate_effect + mix_effect,
                value,
                n: part.n,
            }
        })
        .collect();
    all.sort_by(|a, b| b.effect.total_cmp(&a.effect));
    all.truncate(CONTRIBUTORS_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dimension::Dimension;

    /// Parts as (k, n, usual rate, usual weight); expected effects in points of 100, by index.
    fn check(parts: &[(i64, i64, f64, f64)], expected: &[(usize, f64)]) {
        let name = |i: usize| Dimensions::new([(Dimension::Channel, format!("c{i}").into())]);
        let names: Vec<Dimensions> = (0..parts.len()).map(name).collect();
        let parts: Vec<Part<'_>> = parts
            .iter()
            .zip(&names)
            .map(|(&(k, n, rate, weight), series)| Part { series, k, n, rate, weight })
            .collect();
        let got = contributors(&parts);
        assert_eq!(got.len(), expected.len());
        for (got, (i, effect)) in got.iter().zip(expected) {
            assert_eq!(got.dimensions, names[*i].to_map());
            assert!((got.effect * 100.0 - effect).abs() < 1e-9, "{}", got.effect);
        }
    }

    #[test]
    fn effects_are_rate_and_mix() {
        check(&[], &[]);
        // Rate alone: half of the traffic is 20 points up.
        check(&[(30, 100, 0.3, 1.0), (50, 100, 0.3, 1.0)], &[(1, 10.0), (0, 0.0)]);
        // Mix alone: more of the part with the higher rate, 20 points above the other.
        check(&[(20, 100, 0.2, 1.0), (120, 300, 0.4, 1.0)], &[(0, 2.5), (1, 2.5)]);
        // Nobody there: no word; three at most.
        check(
            &[
                (0, 0, 0.3, 0.0),
                (1, 10, 0.1, 1.0),
                (1, 10, 0.1, 1.0),
                (9, 10, 0.1, 1.0),
                (1, 10, 0.1, 1.0),
            ],
            &[(3, 20.0), (1, 0.0), (2, 0.0)],
        );
    }
}
