//! Who is it: the whole, or some of its parts? So that one incident is one alert.
//!
//! When the total is up, the parts (channels) that are up by themselves are taken out of it. If the
//! remainder is where it should be, they explain the total, and each of them gets its alert with its
//! own dimensions. If the remainder is up as well, everything is: the total gets the alert, and no
//! part. Which of the two it is, a likelihood ratio says: the remainder shifted as the parts did (in
//! log-odds), against not at all. While that is not clear nothing new opens until the next
//! evaluation, which has more to go by.
//!
//! | open already | remainder | total | parts that are up |
//! | --- | --- | --- | --- |
//! | – | moved, too | own | covered |
//! | – | large enough, not clear | held | held |
//! | – | did not move | covered | own |
//! | – | too small to tell | covered if one part is up, own if more are | own, covered |
//! | the total | – | own | covered |
//! | some part | up by the enter level | own | covered |
//! | some part | else | covered | own |
//!
//! Parts are the series of one scope that divides the total; what further scopes say is their own.

use super::detector::Claim;

/// A log-likelihood ratio this far from zero is clear.
const CLEAR: f64 = 1.0;

/// What is left of the total without the parts that are up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Remainder {
    /// Log-likelihood ratio of "it moved, too" against "it did not".
    pub(super) evidence: f64,
    /// Up by the enter level: certain and large.
    pub(super) enters: bool,
    /// Large enough to be tested.
    pub(super) is_eligible: bool,
}

/// Some count beside what it should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Share {
    pub(super) k: i64,
    pub(super) n: i64,
    pub(super) expected: f64,
}

/// How much better the remainder fits the parts' shift than none; `rho` is the correlation
/// within a window, which makes every checkout tell less.
pub(super) fn evidence(parts: Share, remainder: Share, rho: f64) -> f64 {
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let rate = (parts.k as f64 + 0.5) / (parts.n as f64 + 1.0);
    let usual = remainder.expected.clamp(0.001, 0.999);
    let shift = logit(rate) - logit(parts.expected.clamp(0.001, 0.999));
    let moved = 1.0 / (1.0 + (-(logit(usual) + shift)).exp());
    let (k, n) = (remainder.k as f64, remainder.n as f64);
    let ratio = k * (moved / usual).ln() + (n - k) * ((1.0 - moved) / (1.0 - usual)).ln();
    ratio / (1.0 + (n - 1.0).max(0.0) * rho)
}

/// What is open and what is up when the total is up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Situation {
    pub(super) total_open: bool,
    pub(super) any_part_open: bool,
    /// Number of parts that are up or open.
    pub(super) parts_up: usize,
    pub(super) remainder: Remainder,
}

/// The claims of the total and of the parts that are up.
pub(super) fn attribute(situation: &Situation) -> (Claim, Claim) {
    const TOTAL: (Claim, Claim) = (Claim::Own, Claim::Covered);
    const PARTS: (Claim, Claim) = (Claim::Covered, Claim::Own);
    let remainder = &situation.remainder;
    if situation.total_open || situation.parts_up == 0 {
        TOTAL
    } else if situation.any_part_open {
        if remainder.enters { TOTAL } else { PARTS }
    } else if remainder.evidence >= CLEAR {
        TOTAL
    } else if !remainder.is_eligible {
        if situation.parts_up > 1 { TOTAL } else { PARTS }
    } else if remainder.evidence > -CLEAR {
        (Claim::Held, Claim::Held)
    } else {
        PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Claim::{Covered, Held, Own};

    #[test]
    fn one_incident_is_one_alert() {
        let check = |open: (bool, bool), parts_up, evidence, enters, is_eligible, expected| {
            let remainder = Remainder { evidence, enters, is_eligible };
            let (total_open, any_part_open) = open;
            let situation = Situation { total_open, any_part_open, parts_up, remainder };
            assert_eq!(attribute(&situation), expected, "{situation:?}");
        };
        let none = (false, false);
        check(none, 0, 0.0, false, true, (Own, Covered));
        check(none, 1, -1.0, false, true, (Covered, Own));
        check(none, 2, -9.0, false, true, (Covered, Own));
        check(none, 1, 1.0, false, true, (Own, Covered));
        check(none, 1, 0.9, false, true, (Held, Held));
        check(none, 1, -0.9, false, true, (Held, Held));
        check(none, 1, 0.9, false, false, (Covered, Own));
        check(none, 2, 0.0, false, false, (Own, Covered));
        check((true, false), 2, -9.0, false, true, (Own, Covered));
        check((false, true), 1, 5.0, false, true, (Covered, Own));
        check((false, true), 1, 5.0, true, true, (Own, Covered));
        check((true, true), 1, -9.0, false, true, (Own, Covered));
    }

    #[test]
    fn a_remainder_tells_whether_it_moved() {
        let check = |k, n, rho, least: f64, most: f64| {
            let parts = Share { k: 75, n: 100, expected: 0.35 };
            let got = evidence(parts, Share { k, n, expected: 0.3 }, rho);
            assert!((least..=most).contains(&got), "{k} of {n}: {got}");
        };
        check(0, 0, 0.0, 0.0, 0.0);
        check(30, 100, 0.0, -35.0, -32.0);
        check(50, 100, 0.0, -1.0, 1.0);
        check(70, 100, 0.0, 32.0, 35.0);
        check(30, 100, 0.01, -18.0, -16.0);
        check(3, 5, 0.0, 0.5, 1.5);
    }
}
