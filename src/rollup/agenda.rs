//! When the windows of one tenant want to be looked at again.
//!
//! The next step is found here, so that a stretch in which nothing can happen costs nothing,
//! however long it is.

use super::settings::Plan;
use crate::model::time::{EventTime, Slice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One aligned window of one series.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key {
    /// Index of the window's length.
    pub(super) spec: usize,
    /// Number of the window among those of its length.
    pub(super) index: i64,
    /// The series.
    pub(super) series: u32,
}

/// What one window is entered under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Entry {
    clock: Option<EventTime>,
    watermark: Option<EventTime>,
}

/// The windows to look at again, by clock and by watermark.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    by_clock: BTreeSet<(EventTime, Key)>,
    by_watermark: BTreeSet<(EventTime, Key)>,
}

impl Agenda {
    /// Enters `key` as it was entered before.
    pub(super) fn enter_again(&mut self, key: Key, entry: &Entry) {
        self.enter(key, &mut Entry::default(), entry.clock, entry.watermark);
    }

    /// Enters `key` under these times, in place of those of `entry`.
    pub(super) fn enter(
        &mut self,
        key: Key,
        entry: &mut Entry,
        clock: Option<EventTime>,
        watermark: Option<EventTime>,
    ) {
        let enter = |set: &mut BTreeSet<_>, old: &mut Option<_>, new: Option<_>| {
            if *old != new {
                old.map(|at| set.remove(&(at, key)));
                new.map(|at| set.insert((at, key)));
                *old = new;
            }
        };
        enter(&mut self.by_clock, &mut entry.clock, clock);
        enter(&mut self.by_watermark, &mut entry.watermark, watermark);
    }

    /// Adds to `due` what wants to be looked at now. It stays entered.
    pub(super) fn due(&self, clock: EventTime, watermark: EventTime, due: &mut BTreeSet<Key>) {
        due.extend(self.by_clock.iter().take_while(|(at, _)| *at <= clock).map(|(_, key)| *key));
        let reached = self.by_watermark.iter().take_while(|(at, _)| *at <= watermark);
        due.extend(reached.map(|(_, key)| *key));
    }

    /// The first step after `step` at which something may be due. The watermark can get anywhere up
    /// to the clock; where it lags behind, every step may be the one.
    pub(super) fn next_step(&self, step: Slice, plan: &Plan) -> Option<Slice> {
        let first = |set: &BTreeSet<(EventTime, Key)>| set.first().map(|(at, _)| *at);
        let soonest = first(&self.by_clock).into_iter().chain(first(&self.by_watermark)).min()?;
        Some(plan.step_at(soonest).max(step.plus(1)))
    }
}
