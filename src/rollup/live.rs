//! Rolling windows of one series: a running sum over panes, and exact distinct customers by links.
//!
//! A pane is a slide's worth of slices. A window is evaluated at the ends of panes only, so sums are
//! kept per pane, and a link counts from the end of the pane in which its first window ends. So the
//! cost of a slide is one add and one subtract, and the memory of a window depends on its number of
//! panes, whatever the length of a slice. What leaves the window is forgotten with its pane.

mod state;

use super::settings::Window;
use crate::model::figures::{Figures, Link};
use crate::model::time::Slice;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One rolling window of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// Sum over the complete panes of the window.
    sum: Figures,
    /// By pane number; those without data are not there.
    panes: BTreeMap<i64, Figures>,
    /// Distinct customers of the last slide.
    customers: i64,
    /// What the number of customers changes by at the end of the present pane and of those after.
    changes: VecDeque<i64>,
    /// The present pane: that of the first of `changes`.
    present: i64,
    /// True if the last slide had anything to show.
    shown: bool,
    /// Blocks of panes that have changed, or of which nothing is left.
    touched: BTreeSet<i64>,
    /// The one of them that was touched last: changes come in runs.
    last_touched: Option<i64>,
    /// It has been written down: what has gone must go there, too.
    written: bool,
}

pub(super) use state::{Block, Head};

impl Live {
    /// Adds figures of `slice`, which became known at `step` (the same or a later slice).
    pub(super) fn add(&mut self, window: &Window, slice: Slice, step: Slice, figures: &Figures) {
        let (pane, present) = (window.pane(slice.number()), window.pane(step.number()));
        if figures.is_zero() || pane <= present - 1 - window.panes {
            return;
        }
        self.present = present;
        self.touch(state::block_of(pane));
        if pane < present {
            self.sum.add(figures, 1);
        }
        self.panes.entry(pane).or_default().add(figures, 1);
    }

    /// Adds links to `slice`, which became known at `step`.
    ///
    /// A link counts for the ends in max(p, q + m)..p + m, and is seen at the ends of panes, that is
    /// from the pane of the one to before the pane of the other.
    pub(super) fn link(&mut self, window: &Window, slice: Slice, step: Slice, links: &[Link]) {
        let to = slice.number();
        let (pane, present) = (window.pane(to), window.pane(step.number()));
        self.present = present;
        let into_pane = to - pane * window.slide;
        let mut all = 0;
        let mut at_once = 0;
        for link in links {
            let n = i64::from(link.n);
            all += n;
            let wait = window.slices - i64::from(link.back);
            if link.back == 0 || wait <= 0 {
                at_once += n;
            } else {
                let panes = (into_pane + wait).unsigned_abs() / window.slide.unsigned_abs();
                self.change(pane + panes.cast_signed() - present, n);
            }
        }
        if !links.is_empty() {
            self.change(pane - present, at_once);
            self.change(window.pane(to + window.slices) - present, -all);
        }
    }

    fn change(&mut self, ahead: i64, n: i64) {
        let Ok(ahead) = usize::try_from(ahead) else {
            self.customers += n;
            return;
        };
        if self.changes.len() <= ahead {
            self.changes.resize(ahead + 1, 0);
        }
        self.changes[ahead] += n;
        self.touch(state::block_of(self.present + ahead as i64));
    }

    fn touch(&mut self, block: i64) {
        if self.last_touched != Some(block) {
            self.touched.insert(block);
            self.last_touched = Some(block);
        }
    }

    /// Moves on to the end of `step`, with which a slide ends. True if there is something to show:
    /// a window that is not empty, or the first that is empty again.
    pub(super) fn slide(&mut self, window: &Window, step: Slice) -> bool {
        let pane = window.pane(step.number());
        if let Some(entered) = self.panes.get(&pane) {
            self.sum.add(entered, 1);
        }
        if let Some(left) = self.panes.remove(&(pane - window.panes)) {
            self.sum.add(&left, -1);
        }
        self.present = pane + 1;
        self.leave(pane - window.panes);
        self.customers += self.changes.pop_front().unwrap_or(0);
        let before = self.shown;
        self.shown = !self.sum.is_zero() || self.customers != 0;
        self.shown || before
    }

    /// True if nothing will be shown before something new comes in.
    pub(super) fn is_silent(&self) -> bool {
        !self.shown
            && self.panes.is_empty()
            && self.sum.is_zero()
            && self.customers == 0
            && self.changes.iter().all(|n| *n == 0)
    }

    /// Forgets what is left of a silent window.
    pub(super) fn rest(&mut self, window: &Window) {
        let touched = self.blocks(window).collect();
        *self = Live { touched, written: self.written, ..Live::default() };
    }

    /// Figures of the last slide.
    pub(super) fn figures(&self) -> &Figures {
        &self.sum
    }

    /// Distinct customers of the last slide.
    pub(super) fn customers(&self) -> i64 {
        self.customers
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Plan;
    use super::*;

    fn events(n: i64) -> Figures {
        Figures { events: n, ..Figures::default() }
    }

    /// Six slices long, sliding by three: events and customers at each slide; `-` where silent.
    fn slides(live: &mut Live, steps: std::ops::Range<i64>) -> String {
        let window = &Plan::for_tests().windows[0];
        let mut said = Vec::new();
        for step in steps.map(Slice::from_number).filter(|step| window.slides_at(*step)) {
            said.push(match live.slide(window, step) {
                true => format!("{}/{}", live.figures().events, live.customers()),
                false => "-".to_owned(),
            });
        }
        said.join(" ")
    }

    #[track_caller]
    fn check(slice: i64, step: i64, back: u32, expected: &str) {
        let window = &Plan::for_tests().windows[0];
        let (slice, step) = (Slice::from_number(slice), Slice::from_number(step));
        let mut live = Live::default();
        live.add(window, slice, step, &events(2));
        live.link(window, slice, step, &[Link { back, n: 1 }]);
        assert_eq!(slides(&mut live, step.number()..step.number() + 15), expected);
        assert!(live.is_silent());
    }

    #[test]
    fn a_slice_is_in_the_window_until_it_has_left_it_and_zeros_are_said_once() {
        check(0, 0, 0, "2/1 2/1 0/0 - -");
        check(2, 2, 0, "2/1 2/1 0/0 - -");
        check(-6, -6, 0, "2/1 2/1 0/0 - -");
        // Late: known in the next pane, and after it has left.
        check(0, 3, 0, "2/1 0/0 - - -");
        check(0, 6, 0, "- - - - -");
    }

    #[test]
    fn a_link_counts_only_where_the_visit_before_has_left() {
        // Before: slice −1, which the window that ends with slice 2 has and that with slice 5 not.
        check(0, 0, 1, "2/0 2/1 0/0 - -");
        check(2, 2, 3, "2/0 2/1 0/0 - -");
        check(2, 2, 6, "2/1 2/1 0/0 - -");
        // Before: slice 0; both leave together.
        check(2, 2, 2, "2/0 2/0 0/0 - -");
    }
}
