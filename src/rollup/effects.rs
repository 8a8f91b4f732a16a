//! What one step does to one tenant's windows, gathered for the alert engine and for counting.

use super::agenda::Key;
use super::aligned::Verdict;
use crate::engine::Output;
use crate::model::observation::Observation;
use crate::model::time::Slice;
use std::collections::BTreeSet;

/// A window as a detector is to see it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) key: Key,
    pub(super) mature: bool,
    pub(super) is_final: bool,
}

/// What one step did to the windows.
#[derive(Default)]
pub(super) struct Effects {
    /// Windows past their end to which something was added.
    pub(super) changed: BTreeSet<Key>,
    /// Events by series and slice.
    pub(super) events: Vec<(u32, Slice, i64)>,
    pub(super) counted: i64,
    pub(super) late: i64,
    pub(super) live_records: u64,
    pub(super) revisions: u64,
    pub(super) matured: Vec<Seen>,
    pub(super) revised: Vec<Seen>,
    pub(super) finals: Vec<Seen>,
    pub(super) over: Vec<Key>,
}

impl Effects {
    /// Takes note of what a window said.
    pub(super) fn note(&mut self, key: Key, had_matured: bool, verdict: &Verdict) {
        let seen = Seen { key, mature: verdict.mature, is_final: verdict.over };
        if verdict.matured {
            self.matured.push(seen);
        } else if had_matured && self.changed.contains(&key) {
            self.revised.push(seen);
        }
        if verdict.over {
            self.over.push(key);
            if verdict.revision.is_some() {
                self.finals.push(seen);
            }
        }
    }

    /// What is worth counting.
    pub(super) fn report(&self, out: &mut Vec<Output>) {
        let mut observe = |worth: bool, what| {
            if worth {
                out.push(Output::Observation(what));
            }
        };
        observe(self.counted != 0, Observation::Counted(self.counted));
        observe(self.late > 0, Observation::Late(self.late.max(0).unsigned_abs()));
        let revisions = |view, n| Observation::WindowRevisions { view, n };
        observe(self.live_records != 0, revisions("live", self.live_records));
        observe(self.revisions != 0, revisions("channel_stage", self.revisions));
    }
}
