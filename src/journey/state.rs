//! The fold's state as entries: small ones that nearly always change, tables that only grow, and one
//! entry per customer. Timers follow from customers.

use super::profile::TenantId;
use super::store::Restored;
use super::{CompactString, Journey, SourcePartition, cells, counts};
use crate::engine::progress::Report;
use crate::engine::state::{Checkpointed, Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::model::time::{EventTime, Millis, Slice};
use serde::{Deserialize, Serialize};

/// Version of the fold: changes with whatever makes the same records give other outputs.
pub const FOLD_VERSION: u32 = 5;
/// Version of the values of small entries.
const VALUES: u8 = 1;

const HEAD: u8 = 1;
const SOURCE: u8 = 2;
pub(super) const TENANT: u8 = 3;
pub(super) const CURRENCY: u8 = 4;
pub(super) const SERIES: u8 = 5;
pub(super) const VALUE: u8 = 6;
pub(super) const PROFILE: u8 = 7;
const PARTIALS: u8 = 8;
const COUNTS: u8 = 9;
const CUSTOMER: u8 = 10;

#[derive(Serialize, Deserialize)]
struct Head {
    slice: Millis,
    partitions: i32,
    rollup_partitions: i32,
    progress: (usize, Option<EventTime>, Option<EventTime>),
    ids: (i64, u64),
    stream_time: Option<EventTime>,
    flushes: u64,
    flushed_slice: Option<Slice>,
    flushed_at: Option<EventTime>,
    records: u64,
    closed: bool,
}

impl Journey {
    fn head(&self) -> Head {
        Head {
            slice: self.grid.length(),
            partitions: self.settings.partitions,
            rollup_partitions: self.settings.rollup_partitions,
            progress: self.progress.saved(),
            ids: self.ids.saved(),
            stream_time: self.stream_time,
            flushes: self.flushes,
            flushed_slice: self.flushed_slice,
            flushed_at: self.flushed_at,
            records: self.records,
            closed: self.closed,
        }
    }

    fn restore_head(&mut self, head: Head) -> Result<(), StateError> {
        let settings = &self.settings;
        let now = (self.grid.length(), settings.partitions, settings.rollup_partitions);
        let was = (head.slice, head.partitions, head.rollup_partitions);
        if was != now {
            let show = |(slice, journey, rollup): (Millis, i32, i32)| {
                format!("slices of {slice}, {journey} journey and {rollup} rollup partitions")
            };
            let text = format!("it was made with {}, and this is {}", show(was), show(now));
            return Err(StateError::Settings(text));
        }
        self.progress.restore(head.progress);
        self.ids.restore(head.ids);
        self.stream_time = head.stream_time;
        self.flushes = head.flushes;
        self.flushed_slice = head.flushed_slice;
        self.flushed_at = head.flushed_at;
        self.records = head.records;
        self.closed = head.closed;
        Ok(())
    }

    /// Small entries: as they are made at every checkpoint, nothing keeps track of them.
    fn take_small(&mut self, out: &mut Vec<Entry>) {
        let head = encode(VALUES, &self.head());
        self.small.put(KeyWriter::new(HEAD).done(), head, out);
        let mut sources: Vec<&SourcePartition> = self.offsets.keys().collect();
        sources.extend(self.progress.reports().map(|(source, _)| source));
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let value = (self.progress.get(source), self.offsets.get(source));
            let key = KeyWriter::new(SOURCE).text(&source.0).i64(source.1.into()).done();
            self.small.put(key, encode(VALUES, &value), out);
        }
        if let Some(partials) = self.partials.saved() {
            self.small.put(KeyWriter::new(PARTIALS).done(), encode(VALUES, &partials), out);
        }
        let counts = encode(VALUES, &self.counts);
        if counts != encode(VALUES, &counts::Counts::default()) {
            self.small.put(KeyWriter::new(COUNTS).done(), counts, out);
        }
        self.small.finish(out);
    }

    fn restore_small(
        &mut self,
        tag: u8,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        match tag {
            HEAD => {
                let value = value.ok_or_else(|| key.error())?;
                self.restore_head(decode("journey head", VALUES, value)?)?;
            }
            SOURCE => {
                let name = CompactString::from(key.text()?);
                let partition = i32::try_from(key.i64()?).map_err(|_| key.error())?;
                let source = (name, partition);
                let saved: Option<(Option<Report>, Option<i64>)> =
                    value.map(|value| decode("source partition", VALUES, value)).transpose()?;
                let (report, offset) = saved.unwrap_or_default();
                self.progress.restore_report(source.clone(), report);
                match offset {
                    Some(offset) => self.offsets.insert(source, offset),
                    None => self.offsets.remove(&source),
                };
            }
            PARTIALS => {
                let saved: Option<cells::SavedPartials> =
                    value.map(|value| decode("partials", VALUES, value)).transpose()?;
                self.partials = cells::Partials::restore(saved.unwrap_or_default());
            }
            _ => {
                let saved: Option<counts::Counts> =
                    value.map(|value| decode("counts", VALUES, value)).transpose()?;
                self.counts = saved.unwrap_or_default();
            }
        }
        key.done()
    }
}

impl Checkpointed for Journey {
    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let start = out.len();
        // A task that has seen nothing has nothing to say.
        if self.ids.saved() != (-1, 0) {
            self.take_small(out);
        }
        self.profiles.take_dirty(out);
        let key = |tenant: TenantId, customer: &str| {
            KeyWriter::new(CUSTOMER).u32(tenant).rest(customer.as_bytes())
        };
        let mut gone: Vec<Entry> = Vec::new();
        let (clock, gap) = (self.progress.clock(), self.settings.session_gap);
        self.store.take_dirty(
            |customer| customer.rests(clock, gap),
            |tenant, customer, value| {
                out.push(Entry { key: key(tenant, customer), value: Some(value) });
            },
            |tenant, customer| gone.push(Entry { key: key(tenant, customer), value: None }),
        );
        // One may have been forgotten, written, and forgotten again.
        gone.sort_unstable();
        gone.dedup();
        out.append(&mut gone);
        out[start..].sort_unstable();
    }

    fn mark_all(&mut self) {
        self.small.touch_all();
        self.profiles.mark_all();
        self.store.touch_all();
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let mut reader = KeyReader::new(key);
        match reader.byte()? {
            tag @ (HEAD | SOURCE | PARTIALS | COUNTS) => {
                self.restore_small(tag, reader, value)?;
                self.small.note_restored(key, value);
                Ok(())
            }
            tag @ (TENANT | CURRENCY | SERIES | VALUE | PROFILE) => {
                self.profiles.restore(&self.settings, tag, reader, value)
            }
            CUSTOMER => {
                let tenant = reader.u32()?;
                let name = std::str::from_utf8(reader.rest()).map_err(|_| reader.error())?;
                if let Some(Restored { slot, old, new }) =
                    self.store.restore(tenant, name, value)?
                {
                    self.timers.set(slot, old, new);
                }
                self.tenants_needed = self.tenants_needed.max(tenant.saturating_add(1));
                Ok(())
            }
            _ => Err(reader.error()),
        }
    }

    fn restored(&mut self) -> Result<(), StateError> {
        self.profiles.restored()?;
        self.store.restored();
        if let Some(last) = self.tenants_needed.checked_sub(1)
            && !self.profiles.has_tenant(last)
        {
            return Err(StateError::Incomplete(format!("tenant number {last} is missing")));
        }
        Ok(())
    }
}
