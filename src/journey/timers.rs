//! Timers: per customer the earliest moment at which there is something to do.
//!
//! A timer fires when the clock passes its due time. Those due at one moment fire by (tenant,
//! customer); what one customer has to do then is ordered by the customer itself.
//!
//! Those of the nearest second or so are sorted; all others lie unsorted in their second, 8 bytes
//! each, and are not looked for when they are replaced: whoever comes to that second asks the
//! customer, who knows best, and so which timers there are never depends on what is left lying.

use crate::model::time::EventTime;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// Place of a customer in the store.
pub(super) type Slot = u32;

/// Bits of a due time, in ms, that lie within one bucket.
const BUCKET_BITS: u32 = 10;

/// Due times, each customer's at most once.
#[derive(Default, Debug)]
pub(super) struct Timers {
    /// All those in buckets up to `sorted_to`.
    near: BTreeSet<(EventTime, Slot)>,
    sorted_to: Option<i64>,
    /// By bucket: ms within it, and whose. Some may have been replaced.
    far: BTreeMap<i64, Vec<(u32, Slot)>>,
    /// How many there are, without those replaced.
    len: usize,
}

fn bucket(due: EventTime) -> i64 {
    due.as_ms() >> BUCKET_BITS
}

fn due_in(bucket: i64, ms: u32) -> EventTime {
    EventTime::from_ms((bucket << BUCKET_BITS) + i64::from(ms))
}

impl Timers {
    /// Replaces a customer's due time.
    pub(super) fn set(&mut self, slot: Slot, old: Option<EventTime>, new: Option<EventTime>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.len -= 1;
            if Some(bucket(old)) <= self.sorted_to {
                self.near.remove(&(old, slot));
            }
        }
        if let Some(new) = new {
            self.len += 1;
            let bucket = bucket(new);
            if Some(bucket) <= self.sorted_to {
                self.near.insert((new, slot));
            } else {
                let ms = new.as_ms() - (bucket << BUCKET_BITS);
                self.far.entry(bucket).or_default().push((ms as u32, slot));
            }
        }
    }

    /// The earliest due time. `of` tells the due time of a customer.
    pub(super) fn next(&self, of: impl Fn(Slot) -> Option<EventTime>) -> Option<EventTime> {
        if let Some((due, _)) = self.near.first() {
            return Some(*due);
        }
        let valid = |(bucket, timers): (&i64, &Vec<(u32, Slot)>)| {
            let dues = timers.iter().map(|(ms, slot)| (due_in(*bucket, *ms), *slot));
            dues.filter(|(due, slot)| of(*slot) == Some(*due)).map(|(due, _)| due).min()
        };
        self.far.iter().find_map(valid)
    }

    /// The earliest due time, if the clock has passed it.
    pub(super) fn passed(
        &mut self,
        clock: EventTime,
        of: impl Fn(Slot) -> Option<EventTime>,
    ) -> Option<EventTime> {
        while self.near.is_empty() {
            let first = self.far.first_entry().filter(|far| *far.key() <= bucket(clock))?;
            let (bucket, timers) = first.remove_entry();
            let dues = timers.into_iter().map(|(ms, slot)| (due_in(bucket, ms), slot));
            self.near.extend(dues.filter(|(due, slot)| of(*slot) == Some(*due)));
            self.sorted_to = Some(bucket);
        }
        self.near.first().map(|(due, _)| *due).filter(|due| *due < clock)
    }

    /// Takes out those due at the earliest moment, if the clock has passed it: mostly one.
    pub(super) fn pass(
        &mut self,
        clock: EventTime,
        of: impl Fn(Slot) -> Option<EventTime>,
    ) -> Option<(EventTime, SmallVec<[Slot; 8]>)> {
        let due = self.passed(clock, of)?;
        let mut slots = SmallVec::new();
        while let Some((at, slot)) = self.near.first().copied().filter(|(at, _)| *at == due) {
            self.near.remove(&(at, slot));
            slots.push(slot);
        }
        self.len -= slots.len();
        Some((due, slots))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    #[test]
    fn a_timer_fires_when_the_clock_passes_it_and_not_at_it() {
        let at = EventTime::from_ms;
        let mut timers = Timers::default();
        timers.set(7, None, Some(at(100)));
        timers.set(3, None, Some(at(100)));
        timers.set(5, None, Some(at(90)));
        timers.set(5, Some(at(90)), Some(at(110)));
        let of = |slot| Some(if slot == 5 { at(110) } else { at(100) });
        assert_eq!(timers.pass(at(100), of), None);
        assert_eq!(timers.pass(at(101), of), Some((at(100), smallvec![3, 7])));
        assert_eq!((timers.next(of), timers.len()), (Some(at(110)), 1));
    }

    proptest! {
        /// Whatever is set, replaced and passed: the same as of a sorted set.
        #[test]
        fn timers_are_a_sorted_set(
            steps in prop::collection::vec(
                (0_u32..8, prop::option::of(-9_000_i64..9_000), 0..4),
                1..200,
            ),
        ) {
            let (mut timers, mut set) = (Timers::default(), BTreeSet::new());
            let mut own: [Option<EventTime>; 8] = [None; 8];
            let mut clock = EventTime::from_ms(-9_000);
            for (slot, ms, moves) in steps {
                let new = ms.map(EventTime::from_ms);
                let old = std::mem::replace(&mut own[slot as usize], new);
                timers.set(slot, old, new);
                set.retain(|(_, other)| *other != slot);
                set.extend(new.map(|due| (due, slot)));
                clock = clock.plus(crate::model::time::Millis::from_ms(i64::from(moves) * 300));
                prop_assert_eq!(timers.len(), set.len());
                prop_assert_eq!(
                    timers.next(|slot| own[slot as usize]),
                    set.first().map(|(due, _)| *due)
                );
                while let Some((due, slots)) = timers.pass(clock, |slot| own[slot as usize]) {
                    prop_assert!(due < clock);
                    for slot in slots {
                        prop_assert_eq!(set.pop_first(), Some((due, slot)));
                        own[slot as usize] = None;
                    }
                }
                prop_assert!(set.first().is_none_or(|(due, _)| *due >= clock));
            }
        }
    }
}
