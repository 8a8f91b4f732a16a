//! Who is it: the whole, or some of its parts? So that one incident is one alert.
//!
//! When the total is up, the parts (channels) that are up by themselves are taken out of it. If the
//! remainder is where it should be, they explain the total, and each of them gets its alert with its
//! own dimensions. If the remainder is up as well, everything is: the total gets the alert, and no
//! part. In between nothing new opens until the next evaluation, which has more to go by.
//!
//! | open already | remainder | total | parts that are up |
//! | --- | --- | --- | --- |
//! | – | clearly up, or too small beside two parts or more | own | covered |
//! | – | not clear | held | held |
//! | – | as usual | covered | own |
//! | the total | – | own | covered |
//! | some part | up by the enter level | own | covered |
//! | some part | else | covered | own |
//!
//! Parts are the series of one scope that divides the total; what further scopes say is their own.

use super::detector::Claim;

/// A remainder so unlikely is up.
const UP_P: f64 = 0.005;
/// A remainder at least so likely is as usual.
const USUAL_P: f64 = 0.05;

/// What is left of the total without the parts that are up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Remainder {
    /// Upper tail of its count.
    pub(super) p: f64,
    /// Up by the enter level: certain and large.
    pub(super) enters: bool,
    /// Large enough to be tested.
    pub(super) is_eligible: bool,
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
    } else if remainder.p <= UP_P || (situation.parts_up > 1 && !remainder.is_eligible) {
        TOTAL
    } else if remainder.p < USUAL_P {
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
        let check = |open: (bool, bool), parts_up, p, enters, is_eligible, expected| {
            let remainder = Remainder { p, enters, is_eligible };
            let (total_open, any_part_open) = open;
            let situation = Situation { total_open, any_part_open, parts_up, remainder };
            assert_eq!(attribute(&situation), expected, "{situation:?}");
        };
        let none = (false, false);
        check(none, 0, 1.0, false, true, (Own, Covered));
        check(none, 1, 0.3, false, true, (Covered, Own));
        check(none, 2, 0.3, false, true, (Covered, Own));
        check(none, 1, 0.005, false, true, (Own, Covered));
        check(none, 1, 0.0051, false, true, (Held, Held));
        check(none, 1, 0.05, false, true, (Covered, Own));
        check(none, 1, 1.0, false, false, (Covered, Own));
        check(none, 2, 1.0, false, false, (Own, Covered));
        check((true, false), 2, 1.0, false, true, (Own, Covered));
        check((false, true), 1, 0.001, false, true, (Covered, Own));
        check((false, true), 1, 1e-9, true, true, (Own, Covered));
        check((true, true), 1, 1.0, false, true, (Own, Covered));
    }
}
