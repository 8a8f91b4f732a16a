//! Timers: per customer the earliest moment at which there is something to do.
//!
//! A timer fires when the clock passes its due time. Those due at one moment fire by (tenant,
//! customer); what one customer has to do then is ordered by the customer itself.

use crate::model::time::EventTime;
use std::collections::BTreeSet;

/// Place of a customer in the store.
pub(super) type Slot = u32;

/// Due times, each customer's at most once.
#[derive(Default, Debug)]
pub(super) struct Timers {
    due: BTreeSet<(EventTime, Slot)>,
}

impl Timers {
    /// Replaces a customer's due time.
    pub(super) fn set(&mut self, slot: Slot, old: Option<EventTime>, new: Option<EventTime>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.due.remove(&(old, slot));
        }
        if let Some(new) = new {
            self.due.insert((new, slot));
        }
    }

    /// The earliest due time.
    pub(super) fn next(&self) -> Option<EventTime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes out those due at the earliest moment, if the clock has passed it.
    pub(super) fn pass(&mut self, clock: EventTime) -> Option<(EventTime, Vec<Slot>)> {
        let due = self.next().filter(|due| *due < clock)?;
        let mut slots = Vec::new();
        while let Some((at, slot)) = self.due.first().copied().filter(|(at, _)| *at == due) {
            self.due.remove(&(at, slot));
            slots.push(slot);
        }
        Some((due, slots))
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_when_the_clock_passes_it_and_not_at_it() {
        let at = EventTime::from_ms;
        let mut timers = Timers::default();
        timers.set(7, None, Some(at(100)));
        timers.set(3, None, Some(at(100)));
        timers.set(5, None, Some(at(90)));
        timers.set(5, Some(at(90)), Some(at(110)));
        assert_eq!(timers.pass(at(100)), None);
        assert_eq!(timers.pass(at(101)), Some((at(100), vec![3, 7])));
        assert_eq!((timers.next(), timers.len()), (Some(at(110)), 1));
    }
}
