//! The rollup task: flushes in, windows and alerts out.

use super::context::Context;
use crate::app::parts::Parts;
use crate::codec::derived::Produce;
use crate::codec::flush;
use crate::engine::state::Checkpointed;
use crate::engine::{Fact, Fold, Output};
use crate::kafka::task::{Produced, Record, Task, TaskError, TaskFactory, TaskProgress};
use crate::model::ids::PartitionId;
use crate::model::time::Millis;
use crate::rollup::{Input, Rollup};
use std::sync::Arc;

/// Makes rollup tasks.
pub struct Rollups {
    /// Shared context.
    pub context: Arc<Context>,
    /// Settings of the folds.
    pub parts: Parts,
    /// Partitions of the canonical topic.
    pub journey_partitions: i32,
}

impl TaskFactory for Rollups {
    fn create(&self, _topic: &str, partition: PartitionId) -> Result<Box<dyn Task>, String> {
        Ok(Box::new(RollupTask {
            context: self.context.clone(),
            partition,
            rollup: self.parts.rollup_task(partition, self.journey_partitions),
            has_more: false,
            outputs: Vec::new(),
            scratch: Vec::new(),
        }))
    }
}

struct RollupTask {
    context: Arc<Context>,
    partition: PartitionId,
    rollup: Rollup,
    /// True if the last flush asks for more.
    has_more: bool,
    outputs: Vec<Output>,
    scratch: Vec<Produce>,
}

impl Task for RollupTask {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        let flush = flush::decode(record.value.unwrap_or_default()).map_err(|e| {
            let (topic, partition, offset) = (record.topic, record.partition, record.offset);
            TaskError::Fatal(format!("{topic}/{partition} offset {offset} is no flush: {e}"))
        })?;
        self.has_more = self.rollup.fold_part(Input::Flush(&flush), &mut self.outputs);
        if out.replaying {
            // All of it was published and counted before.
            self.outputs.clear();
            return Ok(());
        }
        let mut totals = self.context.totals();
        for output in &self.outputs {
            totals.observe_rollup(output);
        }
        drop(totals);
        for output in self.outputs.drain(..) {
            out.urgent |= matches!(output, Output::Fact(Fact::Alert(_)));
            match output {
                Output::Fact(fact) => self.context.produce(&fact, &mut self.scratch, out),
                Output::Observation(observation) => {
                    self.context.metrics.observe("rollup", self.partition.get(), &observation);
                }
            }
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn idle(&mut self, _: Millis, _: bool, _: &mut Produced) -> Result<(), TaskError> {
        // Time comes with the flushes.
        Ok(())
    }

    fn seal(&mut self, _: &mut Produced) -> Result<(), TaskError> {
        self.context.totals().seal_rollup(self.partition, self.rollup.waiting());
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        Some(&mut self.rollup)
    }

    fn progress(&self) -> TaskProgress {
        TaskProgress {
            clock: self.rollup.clock(),
            watermark: self.rollup.watermark(),
            holding_back: self.rollup.holding_back().map(|p| format!("journey partition {p}")),
        }
    }
}
