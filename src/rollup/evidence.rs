//! Which offsets of the canonical partitions the slices of one tenant rest on.

use super::inbox::Stretch;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use std::collections::{BTreeMap, BTreeSet};

/// Slices that stand in the log as one.
const BLOCK: i64 = 32;

/// Stretches of offsets by slice, at most one per slice and partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    slices: BTreeMap<Slice, Vec<Stretch>>,
    /// Slices before this one have been forgotten.
    first: Option<Slice>,
    /// Blocks that have changed, or of which nothing is left.
    touched: BTreeSet<i64>,
    /// It has been written down: what has gone must go there, too.
    written: bool,
}

/// What stands in the log of the slices of one block.
pub(super) type Block = Vec<(Slice, Vec<Stretch>)>;

fn block_of(slice: Slice) -> i64 {
    slice.number().div_euclid(BLOCK)
}

impl Evidence {
    /// Widens the stretch of a slice and partition.
    pub(super) fn add(&mut self, slice: Slice, stretch: Stretch) {
        self.touched.insert(block_of(slice));
        let of_slice = self.slices.entry(slice).or_default();
        match of_slice.iter_mut().find(|known| known.partition == stretch.partition) {
            Some(known) => {
                known.from = known.from.min(stretch.from);
                known.to = known.to.max(stretch.to);
            }
            None => of_slice.push(stretch),
        }
    }

    /// Forgets the slices before `first`.
    pub(super) fn forget_before(&mut self, first: Slice) {
        while self.slices.first_key_value().is_some_and(|(slice, _)| *slice < first) {
            self.pop_first();
        }
        self.first = self.first.max(Some(first));
    }

    fn pop_first(&mut self) {
        let Some((gone, _)) = self.slices.pop_first() else { return };
        // What is left of a block in the log is cut off when it is restored.
        let block = block_of(gone);
        if self.slices.first_key_value().is_none_or(|(slice, _)| block_of(*slice) != block) {
            if self.written {
                self.touched.insert(block);
            } else {
                self.touched.remove(&block);
            }
        }
    }

    /// Slices before this one have been forgotten.
    pub(super) fn first(&self) -> Option<Slice> {
        self.first
    }

    /// The blocks that have changed since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<i64> {
        self.written = true;
        std::mem::take(&mut self.touched)
    }

    /// What there is in a block.
    pub(super) fn block(&self, block: i64) -> Block {
        let from = Slice::from_number(block * BLOCK);
        let slices = self.slices.range(from..from.plus(BLOCK));
        slices.map(|(slice, of_slice)| (*slice, of_slice.clone())).collect()
    }

    /// Makes it again from its blocks.
    pub(super) fn restore(first: Option<Slice>, blocks: impl Iterator<Item = Block>) -> Evidence {
        let kept = |(slice, _): &(Slice, Vec<Stretch>)| Some(*slice) >= first;
        let slices = blocks.flatten().filter(kept).collect();
        Evidence { slices, first, touched: BTreeSet::new(), written: true }
    }

    /// What `from` (inclusive) to `to` (exclusive) rests on: (partition, first offset, last offset),
    /// sorted by partition.
    pub(super) fn of(
        &self,
        grid: SliceGrid,
        from: EventTime,
        to: EventTime,
    ) -> Vec<(i32, i64, i64)> {
        if from >= to {
            return Vec::new();
        }
        let mut all: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        let slices = grid.slice(from)..=grid.slice(to.minus(Millis::from_ms(1)));
        for stretch in self.slices.range(slices).flat_map(|(_, of_slice)| of_slice) {
            let known = all.entry(stretch.partition).or_insert((stretch.from, stretch.to));
            *known = (known.0.min(stretch.from), known.1.max(stretch.to));
        }
        all.into_iter().map(|(partition, (from, to))| (partition, from, to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_the_hull_per_partition_over_the_slices_touched() {
        let mut evidence = Evidence::default();
        for (slice, partition, from, to) in
            [(1, 7, 30, 40), (0, 7, 10, 20), (1, 3, 5, 6), (1, 7, 25, 31), (2, 3, 7, 9)]
        {
            evidence.add(Slice::from_number(slice), Stretch { partition, from, to });
        }
        let grid = SliceGrid::new(Millis::from_secs(10));
        let check = |evidence: &Evidence, from: i64, to: i64, expected: &[(i32, i64, i64)]| {
            let of = evidence.of(grid, EventTime::from_ms(from), EventTime::from_ms(to));
            assert_eq!(of, expected);
        };
        check(&evidence, 0, 30_000, &[(3, 5, 9), (7, 10, 40)]);
        check(&evidence, 10_000, 20_000, &[(3, 5, 6), (7, 25, 40)]);
        check(&evidence, 0, 10_000, &[(7, 10, 20)]);
        check(&evidence, 9_999, 10_001, &[(3, 5, 6), (7, 10, 40)]);
        check(&evidence, 10_000, 10_000, &[]);
        evidence.forget_before(Slice::from_number(1));
        check(&evidence, 0, 20_000, &[(3, 5, 6), (7, 25, 40)]);
    }
}
