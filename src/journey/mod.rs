//! The journey fold: one partition of canonical touchpoints in; sessions, checkouts, late
//! touchpoints and partials per slice out.
//!
//! One input, in order: progress of the source partitions; timers that the clock has passed; a
//! flush if the clock has passed the end of a slice; the record itself; a flush if stream time and
//! records since the last one ask for it.
//!
//! | file | what |
//! | --- | --- |
//! | `profile` | what figures need to know of a touchpoint, interned |
//! | `store`, `customer`, `frozen` | state per customer, and of one at rest |
//! | `log` | a customer's stored events |
//! | `links` | exact distinct customers |
//! | `sessions`, `session_records` | sessions, and what is published of them |
//! | `checkout` | checkouts and carts |
//! | `packed_bytes` | packed state as it is written down |
//! | `cells`, `counts` | partials and observations between two flushes |
//! | `state` | all of that as entries of checkpoints |
//! | `timers`, `settings` | when to look again; what is configured |
//! | `context`, `parts` | what state may reach; that, the store and timers beside one another |
//!
//! Records of sessions and checkouts are published when the clock has passed what they state, so
//! that within the bound for disorder they do not depend on the order of arrival. Counts go out at
//! once: their cells take effect at the step of their slice anyway.
//!
//! Not done here: identity across keys. A customer that logs in during a checkout is two.

mod cells;
mod checkout;
mod context;
mod counts;
mod customer;
mod frozen;
mod links;
mod log;
mod packed_bytes;
mod parts;
mod profile;
mod session_records;
mod sessions;
mod settings;
mod state;
mod store;
mod timers;

pub use settings::{Direct, Settings};
pub use state::FOLD_VERSION;

use crate::codec::murmur2;
use crate::engine::progress::{Progress, Report};
use crate::engine::state::Compared;
use crate::engine::{Fact, Fold, Output, PART, Tick};
use crate::model::control::Control;
use crate::model::dimension::Dimension;
use crate::model::figures::{Flush, TenantCells};
use crate::model::ids::{Offset, PartitionId};
use crate::model::observation::Observation;
use crate::model::record::LateRecord;
use crate::model::reject::FilterReason;
use crate::model::taxonomy::Meaning;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use crate::model::touchpoint::{OriginRef, TouchpointRef};
use checkout::RichEvent;
use compact_str::CompactString;
use context::{Context, FactIds, fingerprint};
use customer::{Next, Stored};
use parts::Parts;
use std::collections::BTreeMap;
use timers::Slot;

/// How far the clock moves when the input is closed: beyond every timer.
const CLOSE_AFTER: Millis = Millis::from_hours(40 * 24);

/// One input of the fold.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A canonical touchpoint.
    Touchpoint {
        /// Where it is in the partition.
        offset: Offset,
        /// Where it came from; `None` if a source topic is read directly.
        origin: Option<OriginRef<'a>>,
        /// The touchpoint.
        touchpoint: &'a TouchpointRef<'a>,
        /// Its record's key, for `touchpoints.late`.
        key: &'a [u8],
        /// Its record's value, for `touchpoints.late`.
        value: &'a [u8],
    },
    /// A control record.
    Control {
        /// Where it is in the partition.
        offset: Offset,
        /// The record.
        control: &'a Control,
    },
    /// Time passes in a partition to which nothing comes (only under `direct`).
    Tick(Tick),
    /// The end of a bounded run: what has not been said yet is flushed. No time passes.
    Seal {
        /// Number of this side input.
        number: u64,
    },
    /// Nothing will come any more (offline): everything ends.
    Close,
}

/// A partition of a source; under `direct` the one input partition.
type SourcePartition = (CompactString, i32);

/// The fold over one partition of canonical touchpoints.
#[derive(Debug)]
pub struct Journey {
    settings: Settings,
    grid: SliceGrid,
    progress: Progress<SourcePartition>,
    /// Highest source offset per source partition: what is below is a repeat.
    offsets: BTreeMap<SourcePartition, i64>,
    profiles: profile::Profiles,
    store: store::Store,
    timers: timers::Timers,
    /// While a state is restored: how many tenants its customers need.
    tenants_needed: profile::TenantId,
    partials: cells::Partials,
    counts: counts::Counts,
    ids: FactIds,
    /// Highest event time seen.
    stream_time: Option<EventTime>,
    /// Number of the last flush.
    flushes: u64,
    /// The clock's slice at the last flush.
    flushed_slice: Option<Slice>,
    /// Stream time at the last flush.
    flushed_at: Option<EventTime>,
    /// Records since the last flush.
    records: u64,
    closed: bool,
    /// True while timers that the present input has made due are still to fire.
    underway: bool,
    /// Tenant of the last touchpoint.
    tenant: profile::TenantId,
    /// True if the present input is a repeat of one that `ingest` wrote before.
    repeat: bool,
    overflow: Vec<Dimension>,
    /// Small entries as they were written last.
    small: Compared,
    scratch: log::Unpacked,
    neighbours: Vec<links::Neighbours>,
}

impl Journey {
    /// A task that has seen nothing.
    pub fn new(settings: Settings) -> Journey {
        Journey {
            grid: SliceGrid::new(settings.slice),
            progress: Progress::new(settings.outage_tolerance, 1),
            offsets: BTreeMap::new(),
            profiles: profile::Profiles::default(),
            store: store::Store::default(),
            timers: timers::Timers::default(),
            tenants_needed: 0,
            partials: cells::Partials::default(),
            counts: counts::Counts::default(),
            ids: FactIds::new(&settings.app, settings.generation, settings.partition),
            stream_time: None,
            flushes: 0,
            flushed_slice: None,
            flushed_at: None,
            records: 0,
            closed: false,
            underway: false,
            tenant: 0,
            repeat: false,
            overflow: Vec::new(),
            small: Compared::default(),
            scratch: log::Unpacked::default(),
            neighbours: Vec::new(),
            settings,
        }
    }

    /// The clock; `None` before every source partition has reported.
    pub fn clock(&self) -> Option<EventTime> {
        self.progress.clock()
    }

    /// The watermark; `None` while there is no clock.
    pub fn watermark(&self) -> Option<EventTime> {
        self.progress.watermark()
    }

    /// The source partition with the lowest watermark, if there is more than one.
    pub fn holding_back(&self) -> Option<(CompactString, i32)> {
        let reports = self
            .offsets
            .keys()
            .filter_map(|partition| Some((self.progress.get(partition)?.watermark?, partition)));
        let mut reports: Vec<_> = reports.collect();
        reports.sort_unstable();
        match reports.as_slice() {
            [(_, slowest), _, ..] => Some((*slowest).clone()),
            _ => None,
        }
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<EventTime> {
        self.timers.next(|slot| self.store.timer(slot))
    }

    /// Number of the last side input.
    pub fn last_side_input(&self) -> u64 {
        self.ids.last_side_input()
    }

    /// Customers with state.
    pub fn customers(&self) -> usize {
        self.store.len()
    }

    /// Brings into the cache what is kept of the customers that records with these keys are of.
    pub fn fetch(&self, keys: &[&[u8]]) {
        if self.store.len() == 0 {
            return;
        }
        let direct = self.settings.direct.is_some();
        self.store.fetch(keys.iter().filter_map(|key| {
            // Most are of the tenant of the last one.
            let customer = match direct {
                true => key,
                false => key
                    .strip_prefix(self.profiles.tenant(self.tenant).as_bytes())?
                    .strip_prefix(b"|")?,
            };
            Some((self.tenant, customer))
        }));
    }

    /// Everything outside of one customer, beside the store; the clock is just after `due`, or the
    /// task's own.
    fn context<'a>(&'a mut self, due: Option<EventTime>, out: &'a mut Vec<Output>) -> Parts<'a> {
        let (now, reached) = (self.progress.clock(), self.progress.watermark());
        let clock = due.map(|due| due.plus(Millis::from_ms(1))).or(now);
        Parts {
            store: &mut self.store,
            timers: &mut self.timers,
            ctx: Context {
                settings: &self.settings,
                grid: self.grid,
                profiles: &self.profiles,
                partials: &mut self.partials,
                counts: &mut self.counts,
                ids: &mut self.ids,
                out,
                scratch: &mut self.scratch,
                neighbours: &mut self.neighbours,
                clock,
                slice: due.or(now).map(|at| self.grid.slice(at)),
                now,
                watermark: reached.map(|w| clock.map_or(w, |clock| w.min(clock))),
                reached,
            },
        }
    }

    /// Fires what the clock has passed. While a timer fires, it is just after its due time. True if
    /// there are more than one part has room for.
    fn fire_timers(&mut self, out: &mut Vec<Output>) -> bool {
        let Some(clock) = self.progress.clock() else { return false };
        let full = out.len() + PART;
        // Whose timers are looked for is tended to soon.
        while let Some((due, mut slots)) =
            self.timers.pass(clock, |slot| self.store.fetch_timer(slot))
        {
            let (store, profiles) = (&self.store, &self.profiles);
            slots.sort_unstable_by(|a, b| {
                let name = |slot: &Slot| {
                    let (tenant, customer) = store.who(*slot);
                    (profiles.tenant(tenant), customer)
                };
                name(a).cmp(&name(b))
            });
            let mut parts = self.context(Some(due), out);
            for slot in slots {
                parts.store.get_mut(slot).timer = None;
                parts.tend(slot, None);
            }
            // Those due at one moment fire together: they are as many as their customers.
            let more = |journey: &mut Journey| {
                journey.timers.passed(clock, |slot| journey.store.timer(slot)).is_some()
            };
            if out.len() >= full && more(self) {
                return true;
            }
        }
        false
    }

    /// True if the clock is in another slice than at the last flush.
    fn is_in_another_slice(&self) -> bool {
        self.progress.clock().map(|clock| self.grid.slice(clock)) > self.flushed_slice
    }

    fn end_slice(&mut self, out: &mut Vec<Output>) {
        if self.is_in_another_slice() {
            self.flush(out);
        }
    }

    /// Flushes within a slice if enough has come in.
    fn flush_if_due(&mut self, out: &mut Vec<Output>) {
        let moved = match (self.stream_time, self.flushed_at) {
            (Some(now), Some(then)) => now.since(then) >= self.settings.flush_interval,
            (now, _) => now.is_some(),
        };
        if moved && self.records >= self.settings.flush_records {
            self.flush(out);
        }
    }

    /// Sends what has been counted to every rollup partition, and clock and watermark with it.
    fn flush(&mut self, out: &mut Vec<Output>) {
        self.flushes += 1;
        self.flushed_slice = self.progress.clock().map(|clock| self.grid.slice(clock));
        self.flushed_at = self.stream_time;
        self.records = 0;
        let partitions = self.settings.rollup_partitions;
        let mut tenants: BTreeMap<i32, Vec<TenantCells>> = BTreeMap::new();
        let drained = self.partials.drain(&self.profiles);
        for cells in drained.tenants.into_values() {
            let to = murmur2::partition_of(cells.tenant.as_bytes(), partitions);
            tenants.entry(to).or_default().push(cells);
        }
        for partition in 0..partitions {
            let mut tenants = tenants.remove(&partition).unwrap_or_default();
            tenants.sort_unstable_by(|a, b| a.tenant.cmp(&b.tenant));
            let flush = Flush {
                generation: self.settings.generation,
                number: self.flushes,
                partition: self.settings.partition.get(),
                partitions: self.settings.partitions,
                clock: self.progress.clock(),
                watermark: self.progress.watermark(),
                // Every journey partition hears of all source partitions, which marks move on while they
                // are idle: none has to be left out, and so no result depends on which is read first.
                idle: self.settings.direct.is_some() && self.progress.all_idle(),
                closed: self.closed,
                tenants,
            };
            out.push(Output::Fact(Fact::Flush(PartitionId::new(partition), Box::new(flush))));
        }
        self.counts.drain(&self.profiles, &drained.by_profile, out);
        let state = |store, entries| Output::Observation(Observation::State { store, entries });
        out.push(state("customers", self.store.len() as u64));
        out.push(Output::Observation(Observation::Timers(self.timers.len() as u64)));
    }

    /// Takes over how far a source partition has got; true if the record is a repeat of one that
    /// `ingest` wrote before.
    fn report(&mut self, origin: Option<OriginRef<'_>>, time: EventTime) -> bool {
        match (origin, self.settings.direct) {
            (Some(origin), _) => {
                let partition = (CompactString::from(origin.source), origin.partition);
                self.progress.report_data(&partition, origin.watermark);
                let Some(highest) = self.offsets.get_mut(&partition) else {
                    self.offsets.insert(partition, origin.offset);
                    return false;
                };
                let repeat = origin.offset < *highest;
                *highest = origin.offset.max(*highest);
                repeat
            }
            (None, Some(direct)) => {
                let watermark = time.minus(direct.max_out_of_orderness);
                self.progress.report_data(&SourcePartition::default(), watermark);
                false
            }
            // A record without origin where one is due says nothing about progress.
            (None, None) => false,
        }
    }

    fn touchpoint(&mut self, record: &Record<'_>, repeat: bool, out: &mut Vec<Output>) {
        let touchpoint = record.touchpoint;
        self.counts.events_in += 1;
        self.overflow.clear();
        let mut overflow = std::mem::take(&mut self.overflow);
        let profile = self.profiles.resolve(&self.settings, touchpoint, &mut overflow);
        for dimension in &overflow {
            self.counts.overflow(*dimension);
        }
        self.overflow = overflow;
        self.tenant = self.profiles.get(profile).tenant;
        let currency = touchpoint.value.map(|_| self.profiles.currency_id(touchpoint.currency));
        let direct_offset = record.offset.get();
        let partition = self.settings.partition;
        let name = touchpoint.customer_id.or(touchpoint.anonymous_id);
        let named = |id: &&str| !id.is_empty() && !self.settings.degenerate_ids.contains(*id);
        let customer = name.filter(|_| self.settings.follow_customers).filter(named);
        let mut parts = self.context(None, out);
        let ctx = &mut parts.ctx;
        // What is nobody's is not told apart.
        let fingerprint = customer.map_or(0, |_| fingerprint(touchpoint.source, touchpoint.id));
        let tag = match touchpoint.session_id {
            Some(id) if ctx.settings.sessions_by_source && !id.is_empty() => {
                (xxhash_rust::xxh3::xxh3_64(id.as_bytes()) as u32).max(1)
            }
            _ => 0,
        };
        let (time, original) = (touchpoint.event_time, touchpoint.original_event_time);
        let stored = Stored::new(time, original, fingerprint, profile, tag, ctx.profiles);
        let tenant = ctx.profiles.get(profile).tenant;
        let known = customer.and_then(|id| parts.store.find(tenant, id));
        let seen = known.is_some_and(|slot| parts.store.thawed(slot).knows(time, fingerprint, ctx));
        if repeat || seen {
            ctx.counts.duplicate += 1;
            return;
        }
        let filter = match ctx.profiles.get(profile).meaning {
            _ if touchpoint.is_bot => Some(FilterReason::Bot),
            _ if touchpoint.is_test => Some(FilterReason::Test),
            Meaning::Fact => Some(FilterReason::Fact),
            _ => None,
        };
        if let Some(reason) = filter {
            ctx.counts.filtered(reason);
            return;
        }
        let late = time < ctx.floor()
            || known.is_some_and(|slot| parts.store.get(slot).has_forgotten(time));
        let rich = RichEvent::of(touchpoint, stored, currency, late, ctx.profiles);
        if late {
            ctx.counts.late += 1;
            let origin = match record.origin {
                Some(o) => format!("{}/{}/{}", o.source, o.partition, o.offset),
                None => format!("direct/{partition}/{direct_offset}"),
            };
            record.say_late(origin, ctx);
            if let (Some(slot), Some(rich)) = (known, rich) {
                let rich = parts.store.get(slot).add_late(&stored, rich);
                parts.tend(slot, Some(rich));
            }
            return;
        }
        let slice = ctx.grid.slice(time);
        ctx.partials.evidence(ctx.slice, slice, tenant, direct_offset);
        let by_event = ctx.settings.value_of_events;
        let value = touchpoint.value.zip(currency).map(|(minor, currency)| (currency, minor));
        let counted = value.filter(|_| by_event);
        ctx.partials.event(ctx.profiles, ctx.slice, (slice, profile), counted);
        let Some(id) = customer else {
            // Nobody's: an order stands for itself.
            if ctx.profiles.get(profile).is_order() {
                ctx.post(time, profile, cells::What::Order, 1);
                let value = value.filter(|(_, minor)| !by_event && *minor != 0);
                if let Some((currency, minor)) = value {
                    ctx.post(time, profile, cells::What::Value { currency, minor }, 1);
                }
            }
            return;
        };
        let slot = known.unwrap_or_else(|| parts.store.slot(tenant, id));
        let state = parts.store.get_mut(slot);
        match state.add(stored, rich, counted, &mut parts.ctx) {
            Next::Now(rich) => parts.tend(slot, rich),
            Next::At(at) => parts.wake(slot, at),
        }
    }

    fn seal(&mut self, out: &mut Vec<Output>) {
        // Timers count, too, also where no record came.
        let unsaid = self.records > 0 || !self.partials.is_empty() || !self.counts.is_empty();
        if unsaid || self.is_in_another_slice() {
            self.flush(out);
        }
    }

    /// Takes over what an input says about progress; true if it is a touchpoint that is a repeat of
    /// one that `ingest` wrote before.
    fn begin(&mut self, input: &Input<'_>) -> bool {
        match input {
            Input::Touchpoint { offset, origin, touchpoint, .. } => {
                self.ids.record(offset.get());
                self.records += 1;
                self.stream_time = self.stream_time.max(Some(touchpoint.event_time));
                let repeat = self.report(*origin, touchpoint.event_time);
                self.progress.advance();
                return repeat;
            }
            Input::Control { offset, control: Control::Mark(mark) } => {
                self.ids.record(offset.get());
                self.progress.expect(mark.of as usize);
                let report =
                    Report { watermark: mark.watermark, clock: mark.clock, idle: mark.idle };
                let partition = (mark.source.clone(), mark.partition);
                self.progress.report(&partition, report);
                self.offsets.entry(partition).or_insert(-1);
                self.progress.advance();
            }
            Input::Tick(tick) => {
                self.ids.side_input(tick.number);
                // With `ingest` in front, source partitions are those of the marks, which tell the
                // time.
                if self.settings.direct.is_some() {
                    let partition = SourcePartition::default();
                    let old = self.progress.get(&partition).copied().unwrap_or_default();
                    let clock = old.clock.map(|clock| clock.plus(tick.advance));
                    self.progress.report(&partition, Report { clock, idle: true, ..old });
                }
                self.progress.advance();
            }
            Input::Seal { number } => self.ids.side_input(*number),
            Input::Close => {
                self.ids.side_input(self.ids.last_side_input() + 1);
                let reached = self.progress.clock().max(self.progress.watermark());
                self.closed = true;
                if let Some(latest) = reached.max(self.stream_time) {
                    self.progress.close(latest.plus(CLOSE_AFTER));
                }
            }
        }
        false
    }
}

impl Fold for Journey {
    type Input<'a> = Input<'a>;

    fn fold_part(&mut self, input: Input<'_>, out: &mut Vec<Output>) -> bool {
        if !self.underway {
            self.repeat = self.begin(&input);
        }
        self.underway = self.fire_timers(out);
        if self.underway {
            return true;
        }
        match input {
            Input::Touchpoint { offset, origin, touchpoint, key, value } => {
                self.end_slice(out);
                let record = Record { offset, origin, touchpoint, key, value };
                self.touchpoint(&record, self.repeat, out);
                self.flush_if_due(out);
            }
            Input::Control { .. } | Input::Tick(_) => self.end_slice(out),
            Input::Seal { .. } => self.seal(out),
            Input::Close => self.flush(out),
        }
        false
    }
}

/// A touchpoint's record.
struct Record<'a> {
    offset: Offset,
    origin: Option<OriginRef<'a>>,
    touchpoint: &'a TouchpointRef<'a>,
    key: &'a [u8],
    value: &'a [u8],
}

impl Record<'_> {
    fn say_late(&self, origin: String, ctx: &mut Context<'_>) {
        let event_time = self.touchpoint.event_time;
        let watermark = ctx.watermark.unwrap_or(event_time);
        let record = LateRecord {
            id: ctx.ids.next(),
            key: self.key.to_vec(),
            value: self.value.to_vec(),
            event_time,
            late_by_ms: watermark.since(event_time).as_ms().max(0),
            watermark,
            origin,
        };
        ctx.say(Fact::Late(Box::new(record)));
    }
}
