//! One window of one series, aligned to its own length: its content, and when it says what.
//!
//! | revision | when |
//! | --- | --- |
//! | 0 | at the first step at or beyond the end that finds something in it; or with nothing in it, directly after a window that had something |
//! | next | something that a record shows has changed, and a minute of the clock has passed since the last record |
//! | final | watermark ≥ the later of end and end of the latest decision's slice + `allowed_lateness` and nothing undecided, or watermark ≥ end + `max_checkout_age` + `allowed_lateness`; and the same minute has passed |
//!
//! Decisions:
//! - Mature: the clock is `t_checkout` past the end and at most 5 % are undecided. A window that is
//!   final with nothing undecided is mature, too, also where `allowed_lateness` is shorter than
//!   `t_checkout`: nothing can start in it any more. To become mature is worth a revision only if
//!   there is a cohort.
//! - A change that has been taken back within the minute is none.
//! - A window that never had anything in it ends without a word.

use super::inbox::{Delta, Moment};
use super::settings::{Plan, REVISION_INTERVAL};
use crate::model::figures::{Cohort, Figures};
use crate::model::time::{EventTime, Slice};
use serde::{Deserialize, Serialize};

/// What a record of the window shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Content {
    figures: Figures,
    cohort: Cohort,
    customers: i64,
    mature: bool,
}

/// One aligned window of one series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Aligned {
    pub(super) figures: Figures,
    pub(super) cohort: Cohort,
    /// Distinct customers.
    pub(super) customers: i64,
    /// The number of the last revision, the step of it, what it showed.
    shown: Option<(i64, EventTime, Content)>,
    /// True if the window before had something in it, so that this one is worth a record of zeros.
    follows: bool,
    /// True once it has been old enough to be judged, mature or not.
    pub(super) has_matured: bool,
}

/// What is to be done about a window at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// Number of the revision to emit.
    pub(super) revision: Option<i64>,
    /// Nothing more will be said or taken.
    pub(super) over: bool,
    pub(super) mature: bool,
    /// It is old enough to be judged for the first time, mature or not.
    pub(super) matured: bool,
    /// True if there is anything in it.
    pub(super) active: bool,
    /// Look again when the clock gets here.
    pub(super) clock: Option<EventTime>,
    /// Look again when the watermark gets here.
    pub(super) watermark: Option<EventTime>,
}

impl Aligned {
    /// A window that is worth a record even with nothing in it.
    pub(super) fn following() -> Aligned {
        Aligned { follows: true, ..Aligned::default() }
    }

    /// Marks it as worth a record even with nothing in it.
    pub(super) fn follow(&mut self) {
        self.follows = true;
    }

    /// Adds what became known about `slice`, which is in this window; `first` is the window's first.
    pub(super) fn add(&mut self, first: Slice, slice: Slice, delta: &Delta) {
        self.figures.add(&delta.figures, 1);
        self.cohort.add(&delta.cohort);
        // A customer is counted at the first slice that it visited in the window.
        let within = slice.number() - first.number();
        self.customers += delta
            .links
            .iter()
            .filter(|link| link.back == 0 || i64::from(link.back) > within)
            .map(|link| i64::from(link.n))
            .sum::<i64>();
    }

    /// Adds a cohort's news alone.
    pub(super) fn add_cohort(&mut self, cohort: &Cohort) {
        self.cohort.add(cohort);
    }

    /// Decides what to do at `now`, which is at or beyond the window's `end`, and takes it as done.
    pub(super) fn decide(&mut self, end: EventTime, now: &Moment, plan: &Plan) -> Verdict {
        let final_from = self.final_from(end, plan);
        let over = now.watermark >= final_from;
        let maturity = end.plus(plan.t_checkout);
        let undecided = self.cohort.undecided();
        let old_enough = now.end >= maturity || (over && undecided == 0);
        let mature = old_enough && undecided * 20 <= self.cohort.started;
        // Detectors hear of a window as soon as it is old enough: pending payments must not blind them.
        let matured = old_enough && !self.has_matured;
        self.has_matured |= old_enough;

        let content = self.content(mature);
        let active = !self.is_empty();
        let (news, soonest) = match &self.shown {
            None => (active || self.follows, now.end),
            Some((_, at, shown)) => (over || *shown != content, at.plus(REVISION_INTERVAL)),
        };
        let emit = news && now.end >= soonest;
        let revision = emit.then(|| self.shown.as_ref().map_or(0, |(last, _, _)| last + 1));
        if let Some(revision) = revision {
            self.shown = Some((revision, now.end, content));
        }
        let over = over && (emit || self.shown.is_none());
        let ahead = (now.end < maturity && !over).then_some(maturity);
        let held = (news && !emit).then_some(soonest);
        Verdict {
            revision,
            over,
            mature,
            matured,
            active,
            clock: ahead.into_iter().chain(held).min(),
            watermark: (now.watermark < final_from).then_some(final_from),
        }
    }

    fn final_from(&self, end: EventTime, plan: &Plan) -> EventTime {
        let latest = end.plus(plan.max_checkout_age).plus(plan.allowed_lateness);
        if self.cohort.undecided() != 0 {
            return latest;
        }
        let decision = self.cohort.latest_decision.map_or(end, |slice| plan.grid.end(slice));
        end.max(decision).plus(plan.allowed_lateness).min(latest)
    }

    fn is_empty(&self) -> bool {
        self.figures.is_zero() && self.cohort.is_zero() && self.customers == 0
    }

    fn content(&self, mature: bool) -> Content {
        Content {
            figures: self.figures.clone(),
            cohort: Cohort { latest_decision: None, ..self.cohort.clone() },
            customers: self.customers,
            mature: mature && self.cohort.started != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of the first minute with `started` checkouts, of which `undecided` are.
    fn window(started: i64, undecided: i64) -> Aligned {
        let mut window = Aligned::default();
        window.figures.events = started;
        window.cohort.started = started;
        window.cohort.completed = started - undecided;
        window
    }

    /// Decides at clock and watermark (seconds): `revision mature? final?`, next clock and watermark.
    #[track_caller]
    fn check(window: &mut Aligned, clock: i64, watermark: i64, expected: &str) {
        let now = Moment::for_tests(clock, watermark);
        let verdict = window.decide(EventTime::from_ms(60_000), &now, &Plan::for_tests());
        let secs = |at: Option<EventTime>| {
            at.map_or("-".to_owned(), |at| (at.as_ms() / 1_000).to_string())
        };
        let got = format!(
            "{}{}{} {} {}",
            verdict.revision.map_or("-".to_owned(), |n| format!("r{n}")),
            if verdict.mature { " mature" } else { "" },
            if verdict.over { " over" } else { "" },
            secs(verdict.clock),
            secs(verdict.watermark),
        );
        assert_eq!(got, expected);
    }

    #[test]
    fn mature_is_t_past_the_end_with_at_most_a_twentieth_undecided() {
        check(&mut window(20, 1), 350, 0, "r0 360 4260");
        check(&mut window(20, 1), 360, 0, "r0 mature - 4260");
        check(&mut window(20, 2), 360, 0, "r0 - 4260");
        check(&mut window(19, 1), 360, 0, "r0 - 4260");
    }

    #[test]
    fn maturity_is_worth_a_revision_only_with_a_cohort() {
        let mut with = window(20, 1);
        check(&mut with, 60, 0, "r0 360 4260");
        check(&mut with, 360, 0, "r1 mature - 4260");
        let mut without = window(0, 0);
        without.figures.events = 3;
        check(&mut without, 60, 0, "r0 360 660");
        check(&mut without, 360, 0, "- mature - 660");
    }

    #[test]
    fn final_is_the_lateness_past_end_and_decision_or_the_age() {
        check(&mut window(1, 0), 700, 659, "r0 mature - 660");
        check(&mut window(1, 0), 700, 660, "r0 mature over - -");
        let mut decided = window(1, 0);
        decided.cohort.latest_decision = Some(Slice::from_number(9));
        check(&mut decided, 700, 699, "r0 mature - 700");
        check(&mut decided, 710, 700, "- mature 760 -");
        check(&mut decided, 760, 750, "r1 mature over - -");
        check(&mut window(1, 1), 4_260, 4_259, "r0 - 4260");
        check(&mut window(1, 1), 4_260, 4_260, "r0 over - -");
        // A decision beyond the age does not prolong it.
        decided.cohort.latest_decision = Some(Slice::from_number(9_999));
        decided.shown = None;
        check(&mut decided, 4_260, 4_260, "r0 mature over - -");
    }

    #[test]
    fn revisions_keep_a_minute_apart_and_say_something_new() {
        let mut window = window(1, 0);
        check(&mut window, 60, 0, "r0 360 660");
        window.figures.events += 1;
        check(&mut window, 70, 0, "- 120 660");
        window.figures.events -= 1;
        check(&mut window, 120, 0, "- 360 660");
        window.customers += 1;
        check(&mut window, 130, 0, "r1 360 660");
        check(&mut window, 700, 660, "r2 mature over - -");
    }

    #[test]
    fn an_empty_window_is_worth_a_record_only_after_one_that_was_not() {
        check(&mut Aligned::default(), 60, 0, "- 360 660");
        check(&mut Aligned::default(), 700, 660, "- mature over - -");
        check(&mut Aligned::following(), 60, 0, "r0 360 660");
    }

    #[test]
    fn a_customer_counts_at_its_first_slice_in_the_window() {
        let check = |slice: i64, back: u32, customers: i64| {
            let mut window = Aligned::default();
            let links = vec![crate::model::figures::Link { back, n: 2 }];
            let delta = Delta { links, ..Delta::default() };
            window.add(Slice::from_number(6), Slice::from_number(slice), &delta);
            assert_eq!(window.customers, customers);
        };
        check(6, 0, 2);
        check(6, 1, 2);
        check(8, 2, 0);
        check(8, 3, 2);
        check(11, 0, 2);
    }
}
