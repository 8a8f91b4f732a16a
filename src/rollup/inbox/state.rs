//! The inbox as entries: its head, one per journey partition, one per step and tenant.

use super::{Inbox, Journey};
use crate::engine::state::{Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::model::time::{EventTime, Millis, Slice};
use crate::rollup::fold::{BUCKET, HEAD, JOURNEY, VALUES};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// What is written as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::rollup) enum Part {
    Head,
    Journey(i32),
    Bucket(Slice, CompactString),
}

#[derive(Serialize, Deserialize)]
struct Head {
    slice: Millis,
    journey_partitions: i32,
    clock: Option<EventTime>,
    watermark: Option<EventTime>,
    stepped: EventTime,
}

impl Inbox {
    pub(in crate::rollup) fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let key = |part: &Part| match part {
            Part::Head => KeyWriter::new(HEAD).done(),
            Part::Journey(partition) => KeyWriter::new(JOURNEY).i64((*partition).into()).done(),
            Part::Bucket(step, tenant) => {
                KeyWriter::new(BUCKET).i64(step.number()).text(tenant).done()
            }
        };
        dirty.take(out, key, |part| match part {
            Part::Head => Some(encode(VALUES, &self.head())),
            Part::Journey(partition) => {
                self.journeys.get(partition).map(|journey| encode(VALUES, journey))
            }
            Part::Bucket(step, tenant) => {
                self.pending.get(step)?.get(tenant).map(|bucket| encode(VALUES, bucket))
            }
        });
        self.dirty = dirty;
    }

    pub(in crate::rollup) fn mark_all(&mut self) {
        self.dirty.touch_saved();
    }

    fn head(&self) -> Head {
        Head {
            slice: self.grid.length(),
            journey_partitions: self.expected,
            clock: self.clock,
            watermark: self.watermark,
            stepped: self.stepped,
        }
    }

    pub(in crate::rollup) fn restore_head(
        &mut self,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        self.dirty.note_restored(Part::Head, value.is_some());
        let Some(value) = value else { return Ok(()) };
        let head: Head = decode("rollup head", VALUES, value)?;
        let differ = |what: &str, was: String, is: String| {
            Err(StateError::Settings(format!("{what} was {was} and is {is}")))
        };
        if head.slice != self.grid.length() {
            let (was, is) = (head.slice.to_string(), self.grid.length().to_string());
            return differ("the length of a slice", was, is);
        }
        if head.journey_partitions != self.expected {
            let (was, is) = (head.journey_partitions.to_string(), self.expected.to_string());
            return differ("the number of journey partitions", was, is);
        }
        (self.clock, self.watermark, self.stepped) = (head.clock, head.watermark, head.stepped);
        Ok(())
    }

    pub(in crate::rollup) fn restore_journey(
        &mut self,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let partition = i32::try_from(key.i64()?).map_err(|_| key.error())?;
        key.done()?;
        self.dirty.note_restored(Part::Journey(partition), value.is_some());
        match value {
            Some(value) => {
                let journey: Journey = decode("journey partition", VALUES, value)?;
                self.journeys.insert(partition, journey);
            }
            None => {
                self.journeys.remove(&partition);
            }
        }
        Ok(())
    }

    pub(in crate::rollup) fn restore_bucket(
        &mut self,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let step = Slice::from_number(key.i64()?);
        let tenant = CompactString::from(key.text()?);
        key.done()?;
        self.dirty.note_restored(Part::Bucket(step, tenant.clone()), value.is_some());
        let of_step = self.pending.entry(step).or_default();
        match value {
            Some(value) => {
                of_step.insert(tenant, decode("cells", VALUES, value)?);
            }
            None => {
                of_step.remove(&tenant);
            }
        }
        if of_step.is_empty() {
            self.pending.remove(&step);
        }
        Ok(())
    }

    /// The tenants for which something waits, with the highest number of their series.
    pub(in crate::rollup) fn waiting_series(
        &self,
    ) -> impl Iterator<Item = (&CompactString, Option<u32>)> {
        self.pending
            .values()
            .flatten()
            .map(|(tenant, bucket)| (tenant, bucket.cells.keys().map(|(_, series)| *series).max()))
    }
}
