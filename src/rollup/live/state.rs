//! A rolling window as entries: its head, and blocks of panes, so that a long window is never
//! written as a whole. What has left the window since a block was written is cut off by the head.

use super::Live;
use crate::model::figures::Figures;
use crate::rollup::settings::Window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Panes that stand in the log as one.
const BLOCK: i64 = 32;

/// What is not kept by pane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::rollup) struct Head {
    sum: Figures,
    customers: i64,
    present: i64,
    shown: bool,
}

/// The panes of one block, and what the number of customers changes by at their ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::rollup) struct Block {
    panes: Vec<(i64, Figures)>,
    changes: Vec<(i64, i64)>,
}

pub(super) fn block_of(pane: i64) -> i64 {
    pane.div_euclid(BLOCK)
}

impl Live {
    /// Takes note that a pane has left the window.
    pub(super) fn leave(&mut self, pane: i64) {
        if block_of(pane) != block_of(pane + 1) {
            self.last_touched = None;
            if self.written {
                self.touched.insert(block_of(pane));
            } else {
                self.touched.remove(&block_of(pane));
            }
        }
    }

    /// All blocks that may stand in the log.
    pub(super) fn blocks(&self, window: &Window) -> impl Iterator<Item = i64> + use<> {
        let last = self.present + self.changes.len() as i64;
        block_of(self.present - 1 - window.panes)..=block_of(last)
    }

    /// The blocks that have changed since the last call.
    pub(in crate::rollup) fn take_touched(&mut self) -> BTreeSet<i64> {
        self.written = true;
        self.last_touched = None;
        std::mem::take(&mut self.touched)
    }

    pub(in crate::rollup) fn head(&self) -> Head {
        Head {
            sum: self.sum.clone(),
            customers: self.customers,
            present: self.present,
            shown: self.shown,
        }
    }

    /// What there is in a block, if anything.
    pub(in crate::rollup) fn block(&self, block: i64) -> Option<Block> {
        let (from, to) = (block * BLOCK, (block + 1) * BLOCK);
        let panes = self.panes.range(from..to).map(|(pane, sum)| (*pane, sum.clone())).collect();
        let place = |pane: i64| usize::try_from(pane - self.present).unwrap_or(0);
        let ahead = place(from)..place(to).min(self.changes.len());
        let changes = ahead
            .filter(|at| self.changes[*at] != 0)
            .map(|at| (self.present + at as i64, self.changes[at]))
            .collect();
        let block = Block { panes, changes };
        (!block.panes.is_empty() || !block.changes.is_empty()).then_some(block)
    }

    /// Makes it again from its head and blocks.
    pub(in crate::rollup) fn restore(
        window: &Window,
        head: Head,
        blocks: impl Iterator<Item = Block>,
    ) -> Live {
        let Head { sum, customers, present, shown } = head;
        let mut live = Live { sum, customers, present, shown, written: true, ..Live::default() };
        let first = present - window.panes;
        for block in blocks {
            live.panes.extend(block.panes.into_iter().filter(|(pane, _)| *pane >= first));
            for (pane, n) in block.changes {
                let Ok(ahead) = usize::try_from(pane - present) else { continue };
                if live.changes.len() <= ahead {
                    live.changes.resize(ahead + 1, 0);
                }
                live.changes[ahead] = n;
            }
        }
        live
    }
}
