//! Rolling windows of one series: a running sum over panes, and exact distinct customers by links.
//!
//! A pane is a slide's worth of slices. A window is evaluated at the ends of panes only, so sums are
//! kept per pane, and a link counts from the end of the pane in which its first window ends. So the
//! cost of a slide is one add and one subtract, and the memory of a window depends on its number of
//! panes, whatever the length of a slice. What leaves the window is forgotten with its pane.

use super::settings::Window;
use crate::model::figures::{Figures, Link};
use crate::model::time::Slice;
use std::collections::{BTreeMap, VecDeque};

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
    /// True if the last slide had anything to show.
    shown: bool,
}

impl Live {
    /// Adds figures of `slice`, which became known at `step` (the same or a later slice).
    pub(super) fn add(&mut self, window: &Window, slice: Slice, step: Slice, figures: &Figures) {
        let (pane, present) = (window.pane(slice.number()), window.pane(step.number()));
        if figures.is_zero() || pane <= present - 1 - window.panes {
            return;
        }
        if pane < present {
            self.sum.add(figures, 1);
        }
        self.panes.entry(pane).or_default().add(figures, 1);
    }

    /// Adds a link to `slice`, which became known at `step`.
    pub(super) fn link(&mut self, window: &Window, slice: Slice, step: Slice, link: Link) {
        let to = slice.number();
        let until = to + window.slices;
        let from = match link.back {
            0 => to,
            back => to.max(until - i64::from(back)),
        };
        // Distinct for the ends in from..until; seen at the ends of panes, that is these panes.
        let (from, until) = (window.pane(from), window.pane(until));
        if from < until {
            let present = window.pane(step.number());
            self.change(from - present, i64::from(link.n));
            self.change(until - present, -i64::from(link.n));
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
    pub(super) fn rest(&mut self) {
        *self = Live::default();
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
