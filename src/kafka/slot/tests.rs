//! A slot with a task that does what the test says.

use super::*;
use crate::kafka::task::{Headers, OutRecord};
use crate::model::ids::{Offset as At, PartitionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Echo {
    busy: Arc<AtomicBool>,
    /// The record with this offset is folded in two parts.
    twice: i64,
}

impl Task for Echo {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        out.records.push(OutRecord::new(&"out".into(), record.offset.to_string().into(), None));
        if self.busy.load(Ordering::SeqCst) {
            return Err(TaskError::Retry { reason: "busy".to_owned() });
        }
        self.twice = if record.offset.get() == self.twice { -self.twice } else { 0 };
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.twice < 0
    }

    fn idle(&mut self, _: Millis, _: bool, _: &mut Produced) -> Result<(), TaskError> {
        Ok(())
    }

    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError> {
        out.records.push(OutRecord::new(&"out".into(), b"sealed".to_vec(), None));
        Ok(())
    }
}

struct Bench {
    slot: Slot,
    out: Produced,
    busy: Arc<AtomicBool>,
}

impl Bench {
    fn new(start: Offset) -> Bench {
        let busy = Arc::new(AtomicBool::new(false));
        let at = TopicPartition::new("in", PartitionId::new(0));
        let slot = Slot::new(at, Box::new(Echo { busy: busy.clone(), twice: 8 }), start);
        Bench { slot, out: Produced::default(), busy }
    }

    fn fold(&mut self, offset: i64) {
        let record = Record {
            topic: "in",
            partition: PartitionId::new(0),
            offset: At::new(offset),
            timestamp: 0,
            timestamp_is_append: false,
            key: None,
            value: None,
            headers: Headers::NONE,
        };
        self.slot.fold(&record, &mut self.out).expect("the task is never fatal");
    }

    #[track_caller]
    fn check(&mut self, outputs: &[&str], position: Option<i64>) {
        let keys: Vec<_> = self.out.records.drain(..).filter_map(|r| r.key).collect();
        assert_eq!(keys, outputs.iter().map(|o| o.as_bytes()).collect::<Vec<_>>());
        assert_eq!(self.slot.take_position().map(|(_, next)| next.get()), position);
    }
}

#[test]
fn positions_follow_folded_records_and_ends() {
    let mut bench = Bench::new(Offset::Beginning);
    bench.check(&[], None);
    bench.fold(7);
    bench.check(&["7"], Some(8));
    bench.check(&[], None);
    // The end lies behind a marker.
    bench.slot.end_seen(NextOffset::new(9));
    assert!(bench.slot.caught_up());
    bench.check(&[], Some(9));
    bench.fold(9);
    assert!(!bench.slot.caught_up());
    bench.check(&["9"], Some(10));
    // What was folded is not folded again.
    bench.fold(9);
    bench.check(&[], None);
}

#[test]
fn a_retry_leaves_no_output_and_no_position_and_skips_what_follows() {
    let mut bench = Bench::new(Offset::Offset(3));
    bench.busy.store(true, Ordering::SeqCst);
    bench.fold(5);
    bench.busy.store(false, Ordering::SeqCst);
    bench.fold(6);
    bench.slot.end_seen(NextOffset::new(7));
    bench.check(&[], None);
    assert_eq!(bench.slot.next(), Some(NextOffset::new(5)));
    assert!(!bench.slot.caught_up());
}

#[test]
fn a_bounded_run_stops_before_its_end_and_seals_once() {
    let mut bench = Bench::new(Offset::Beginning);
    bench.slot.stop_at(NextOffset::new(2));
    bench.fold(0);
    assert!(!bench.slot.wants_seal());
    // Offset 1 is a marker: the next record tells that the end is reached.
    bench.fold(2);
    bench.check(&["0"], Some(2));
    assert!(bench.slot.wants_seal());
    assert_eq!(bench.slot.seal(&mut bench.out), Ok(true));
    assert!(!bench.slot.wants_seal());
    bench.fold(3);
    bench.check(&["sealed"], None);
    assert!(bench.slot.acknowledged());
    assert!(bench.slot.is_sealed());
    assert!(!bench.slot.acknowledged());
}

#[test]
fn an_empty_partition_is_at_its_end_at_once() {
    let mut bench = Bench::new(Offset::Beginning);
    bench.slot.stop_at(NextOffset::new(0));
    assert!(bench.slot.wants_seal());
    let mut bench = Bench::new(Offset::Offset(4));
    bench.slot.stop_at(NextOffset::new(4));
    assert!(bench.slot.wants_seal());
}

#[test]
fn a_record_in_parts_has_a_position_only_after_the_last() {
    let mut bench = Bench::new(Offset::Offset(8));
    bench.fold(8);
    bench.check(&["8"], None);
    bench.fold(8);
    bench.check(&["8"], Some(9));
}
