//! Which canonical partitions get a mark of a source partition, and when.
//!
//! The shell asks once a second. A canonical partition that got a record in that second knows from
//! its `origin` all that a mark would say; the others get one. Everybody gets one at the start,
//! before any data, and when the source partition falls idle or awakes.

use crate::model::ids::PartitionId;

/// The marks of one source partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkSchedule {
    /// By canonical partition: got a record since the last round.
    reached: Vec<bool>,
    /// Idle at the last round; `None` before the first.
    idle: Option<bool>,
}

impl MarkSchedule {
    /// Begins with no mark sent to any of so many canonical partitions.
    pub fn new(canonical_partitions: u32) -> MarkSchedule {
        MarkSchedule { reached: vec![false; canonical_partitions as usize], idle: None }
    }

    /// A record of the source partition goes to that canonical partition.
    pub fn sent(&mut self, canonical: PartitionId) {
        let index = usize::try_from(canonical.get()).ok();
        if let Some(reached) = index.and_then(|index| self.reached.get_mut(index)) {
            *reached = true;
        }
    }

    /// The canonical partitions that get a mark now; a new round begins.
    pub fn due(&mut self, idle: bool) -> Vec<PartitionId> {
        let all = self.idle.replace(idle) != Some(idle);
        let mut due = Vec::new();
        for (number, reached) in (0..).zip(&mut self.reached) {
            if !std::mem::take(reached) || all {
                due.push(PartitionId::new(number));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_where_no_record_went() {
        let mut schedule = MarkSchedule::new(3);
        let due = |schedule: &mut MarkSchedule, idle: bool| -> Vec<i32> {
            schedule.due(idle).into_iter().map(PartitionId::get).collect()
        };
        assert_eq!(due(&mut schedule, false), [0, 1, 2], "at the start");
        schedule.sent(PartitionId::new(1));
        schedule.sent(PartitionId::new(1));
        schedule.sent(PartitionId::new(7));
        assert_eq!(due(&mut schedule, false), [0, 2]);
        assert_eq!(due(&mut schedule, false), [0, 1, 2], "a new round");
        schedule.sent(PartitionId::new(0));
        assert_eq!(due(&mut schedule, true), [0, 1, 2], "falls idle");
        schedule.sent(PartitionId::new(2));
        assert_eq!(due(&mut schedule, false), [0, 1, 2], "awakes");
    }
}
