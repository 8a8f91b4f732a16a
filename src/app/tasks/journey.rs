//! The journey task: canonical records in, facts and flushes out.

use super::context::Context;
use super::decode::{Decoder, Undecoded};
use crate::app::parts::Parts;
use crate::codec::canonical::Filled;
use crate::codec::derived::Produce;
use crate::codec::inputs::Taken;
use crate::engine::state::Checkpointed;
use crate::engine::{Fact, Fold, Output, Tick};
use crate::journey::{Input, Journey};
use crate::kafka::task::{Produced, Record, Task, TaskError, TaskFactory, TaskProgress};
use crate::model::ids::PartitionId;
use crate::model::reject::{FilterReason, Reject};
use crate::model::time::Millis;
use std::sync::Arc;

/// Between two ticks of an idle partition: each is a checkpoint and a record, as a mark is a record.
const TICK_EVERY: Millis = Millis::from_secs(1);

/// Makes journey tasks.
pub struct Journeys {
    /// Shared context.
    pub context: Arc<Context>,
    /// Settings of the folds.
    pub parts: Parts,
    /// Partitions of the topic that is read.
    pub partitions: i32,
    /// Name of the one source, if it is read directly.
    pub direct: Option<String>,
    /// Quiet time after which a partition is idle; matters under `direct` only.
    pub idle_timeout: Millis,
    /// Largest record that is decoded.
    pub max_bytes: usize,
}

impl TaskFactory for Journeys {
    fn create(&self, _topic: &str, partition: PartitionId) -> Result<Box<dyn Task>, String> {
        let settings = self.parts.journey_settings(partition, self.partitions);
        Ok(Box::new(JourneyTask {
            context: self.context.clone(),
            partition,
            decoder: Decoder::new(self.context.clone(), self.max_bytes, settings.needs()),
            journey: Journey::new(settings),
            direct: self.direct.clone(),
            idle_timeout: self.idle_timeout,
            ticked: Millis::ZERO,
            has_more: false,
            outputs: Vec::new(),
            scratch: Vec::new(),
        }))
    }
}

struct JourneyTask {
    context: Arc<Context>,
    partition: PartitionId,
    decoder: Decoder,
    journey: Journey,
    direct: Option<String>,
    idle_timeout: Millis,
    /// How much of the present wait has been given to ticks.
    ticked: Millis,
    /// True if the last record asks for more.
    has_more: bool,
    outputs: Vec<Output>,
    scratch: Vec<Produce>,
}

impl JourneyTask {
    fn publish(&mut self, out: &mut Produced) {
        if self.outputs.is_empty() {
            return;
        }
        if out.replaying {
            // All of it was published and counted before.
            self.outputs.clear();
            return;
        }
        let mut totals = self.context.totals();
        for output in &self.outputs {
            totals.observe_journey(output);
        }
        drop(totals);
        for output in self.outputs.drain(..) {
            out.urgent |= matches!(output, Output::Fact(Fact::Flush(..)));
            match output {
                Output::Fact(fact) => self.context.produce(&fact, &mut self.scratch, out),
                Output::Observation(observation) => {
                    self.context.metrics.observe("journey", self.partition.get(), &observation);
                }
            }
        }
    }

    fn set_aside(&mut self, record: &Record<'_>, reject: &Reject, out: &mut Produced) {
        if out.replaying {
            return;
        }
        out.records.push(self.context.dead_letter(record, reject));
        let mut totals = self.context.totals();
        let name = self.direct.as_deref().unwrap_or(record.topic);
        let counts = totals.sources.entry(name.to_owned()).or_default();
        counts.records_in += 1;
        *counts.dead_letter.entry(reject.reason).or_default() += 1;
    }

    fn tick(&mut self, advance: Millis, out: &mut Produced) {
        let tick = Tick { number: self.journey.last_side_input() + 1, advance };
        // Time that a worker waited is short: what follows from it need not be cut.
        self.journey.fold(Input::Tick(tick), &mut self.outputs);
        out.side_input = Some(Taken::Tick { advance });
        self.publish(out);
    }
}

impl Task for JourneyTask {
    fn record(&mut self, record: &Record<'_>, out: &mut Produced) -> Result<(), TaskError> {
        self.ticked = Millis::ZERO;
        let Some(value) = record.value else {
            if out.replaying {
                return Ok(());
            }
            let mut totals = self.context.totals();
            let name = self.direct.as_deref().unwrap_or(record.topic);
            let counts = totals.sources.entry(name.to_owned()).or_default();
            counts.records_in += 1;
            *counts.filtered.entry(FilterReason::Tombstone).or_default() += 1;
            return Ok(());
        };
        let offset = record.offset;
        let mut filled = Filled::new();
        match self.decoder.decode(value, &mut filled) {
            Ok(None) => {
                let key = record.key.unwrap_or_default();
                let (origin, touchpoint) = (filled.origin(), filled.touchpoint());
                let input = Input::Touchpoint { offset, origin, touchpoint, key, value };
                self.has_more = self.journey.fold_part(input, &mut self.outputs);
            }
            Ok(Some(control)) => {
                let input = Input::Control { offset, control: &control };
                self.has_more = self.journey.fold_part(input, &mut self.outputs);
            }
            Err(Undecoded::Retry(reason)) => return Err(TaskError::Retry { reason }),
            Err(Undecoded::Reject(reject)) => {
                self.set_aside(record, &reject, out);
                return Ok(());
            }
        }
        self.publish(out);
        Ok(())
    }

    fn fetch(&self, keys: &[&[u8]]) {
        self.journey.fetch(keys);
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn idle(
        &mut self,
        waited: Millis,
        caught_up: bool,
        out: &mut Produced,
    ) -> Result<(), TaskError> {
        // With ingest in front, marks let time pass.
        if self.direct.is_none() || !caught_up || waited < self.idle_timeout {
            return Ok(());
        }
        let advance = Millis::from_ms(waited.as_ms() - self.ticked.as_ms());
        if advance < TICK_EVERY {
            return Ok(());
        }
        self.ticked = waited;
        self.tick(advance, out);
        Ok(())
    }

    fn seal(&mut self, out: &mut Produced) -> Result<(), TaskError> {
        let number = self.journey.last_side_input() + 1;
        self.journey.fold(Input::Seal { number }, &mut self.outputs);
        out.side_input = Some(Taken::Seal);
        self.publish(out);
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn Checkpointed> {
        Some(&mut self.journey)
    }

    fn side_inputs(&self) -> u64 {
        self.journey.last_side_input()
    }

    fn progress(&self) -> TaskProgress {
        TaskProgress {
            clock: self.journey.clock(),
            watermark: self.journey.watermark(),
            holding_back: self.journey.holding_back().map(|(s, p)| format!("{s}/{p}")),
        }
    }
}
