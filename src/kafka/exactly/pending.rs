//! Outputs that no acknowledged transaction carries yet, in order, and whose they are.

use crate::engine::mutation::Mutation;
use crate::kafka::task::OutRecord;

/// Number of a slot: a partition that comes again is another one.
pub(super) type SlotId = u64;

/// Outputs in order.
#[derive(Default, Debug)]
pub(super) struct Pending {
    records: Vec<OutRecord>,
    /// Runs of records of one slot: whose, and where the run ends.
    runs: Vec<(SlotId, usize)>,
    bytes: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn records(&self) -> &[OutRecord] {
        &self.records
    }

    /// Appends outputs of one slot.
    pub(super) fn push(&mut self, slot: SlotId, records: impl IntoIterator<Item = OutRecord>) {
        for record in records {
            self.bytes += record.len();
            self.records.push(record);
        }
        let end = self.records.len();
        match self.runs.last_mut() {
            Some((last, at)) if *last == slot => *at = end,
            Some((_, at)) if *at == end => {}
            None if end == 0 => {}
            _ => self.runs.push((slot, end)),
        }
    }

    /// Puts what an aborted transaction carried in front again.
    pub(super) fn put_back(&mut self, aborted: &Pending, is_owned: impl Fn(SlotId) -> bool) {
        let later = std::mem::take(self);
        let parts =
            if Mutation::AbortReorders.is_on() { [&later, aborted] } else { [aborted, &later] };
        for part in parts {
            for (slot, records) in part.by_slot() {
                if is_owned(slot) {
                    self.push(slot, records.iter().cloned());
                }
            }
        }
    }

    /// Drops what belongs to a slot that is no more.
    pub(super) fn drop_slot(&mut self, gone: SlotId) {
        let all = std::mem::take(self);
        self.put_back(&all, |slot| slot != gone);
    }

    /// Slots and their outputs, run by run.
    pub(super) fn by_slot(&self) -> impl Iterator<Item = (SlotId, &[OutRecord])> {
        let mut from = 0;
        self.runs.iter().map(move |(slot, end)| {
            let run = &self.records[from..*end];
            from = *end;
            (*slot, run)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn record(key: &str) -> OutRecord {
        let topic: Arc<str> = "t".into();
        OutRecord::new(&topic, key.as_bytes().to_vec(), None)
    }

    #[track_caller]
    fn check(pending: &Pending, expected: &[(SlotId, &[&str])]) {
        let got: Vec<(SlotId, Vec<OutRecord>)> =
            pending.by_slot().map(|(slot, records)| (slot, records.to_vec())).collect();
        let made = |(slot, keys): &(SlotId, &[&str])| {
            (*slot, keys.iter().map(|key| record(key)).collect::<Vec<_>>())
        };
        assert_eq!(got, expected.iter().map(made).collect::<Vec<_>>());
        assert_eq!(pending.bytes(), pending.records().iter().map(OutRecord::len).sum::<usize>());
    }

    #[test]
    fn an_abort_puts_outputs_back_in_front_for_the_slots_that_are_left() {
        let mut aborted = Pending::default();
        aborted.push(1, [record("a"), record("b")]);
        aborted.push(2, [record("c")]);
        aborted.push(1, [record("d")]);
        let mut pending = Pending::default();
        pending.push(3, []);
        pending.push(1, [record("e")]);
        pending.put_back(&aborted, |slot| slot != 2);
        check(&pending, &[(1, &["a", "b", "d", "e"])]);
        pending.push(4, [record("f")]);
        pending.push(1, [record("g")]);
        pending.drop_slot(1);
        check(&pending, &[(4, &["f"])]);
        pending.drop_slot(4);
        check(&pending, &[]);
        assert!(pending.is_empty());
    }
}
