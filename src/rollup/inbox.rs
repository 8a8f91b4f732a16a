//! What has come in and is not applied yet: flush numbers, boundary reports, cells by due step.
//!
//! The times of a step are those that the journey partitions had reported when each *first* passed
//! the step's end, so they do not depend on how the partitions interleave. A partition that was idle
//! and behind may have been passed by the others: it speaks by the report with which it fell idle,
//! whether the one after it has arrived or not. (Only one that wakes behind the step and falls idle
//! again can have been passed at either time. Behind `ingest` none is idle: all of them hear of all
//! source partitions.)

mod state;

use super::settings::Settings;
use crate::engine::progress::{Report, combine};
use crate::engine::state::Dirty;
use crate::model::figures::{Cohort, Figures, Flush, Link, TenantCells};
use crate::model::ids::PartitionId;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// What all journey partitions together say about one slice of one series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Delta {
    pub(super) figures: Figures,
    pub(super) cohort: Cohort,
    /// In the order of arrival: they only ever add up.
    pub(super) links: Vec<Link>,
}

/// Offsets of one canonical partition, inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) partition: i32,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// What is due for one tenant at one step. Only sums, so that the order of arrival leaves no trace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Bucket {
    pub(super) cells: BTreeMap<(Slice, u32), Delta>,
    pub(super) evidence: Vec<(Slice, Stretch)>,
}

/// What a journey partition said at the boundary of a slice.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Boundary {
    report: Report,
    closed: bool,
    /// The report with which the partition had fallen idle before this one, if it was.
    idle_before: Option<Report>,
}

impl Boundary {
    /// The report with which the partition fell idle, if it is.
    fn fell_idle(&self) -> Option<Report> {
        self.report.idle.then(|| self.idle_before.unwrap_or(self.report))
    }

    /// The watermark for a step whose end this is the first report to have passed.
    fn passed(&self) -> Option<EventTime> {
        self.idle_before.unwrap_or(self.report).watermark
    }
}

/// One journey partition, as its flushes tell it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Journey {
    generation: Option<u64>,
    /// Number of the last flush taken.
    number: u64,
    latest: Option<Boundary>,
    /// The first report in each slice of its clock that the steps have not passed yet.
    queue: VecDeque<Boundary>,
}

/// Time as one step sees it.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) step: Slice,
    /// End of the step's slice: the clock of this step.
    pub(super) end: EventTime,
    pub(super) watermark: EventTime,
    /// Slices that end here or before take no more events: one decision for all windows.
    pub(super) floor: EventTime,
    /// The journey partitions' watermarks, sorted; those that never had data are left out.
    marks: Vec<EventTime>,
    pub(super) closed: bool,
}

impl Moment {
    /// Share of the journey partitions whose watermark passed `at`; 1 if none ever had data.
    pub(super) fn completeness(&self, at: EventTime) -> f64 {
        if self.marks.is_empty() {
            return 1.0;
        }
        let behind = self.marks.partition_point(|mark| *mark < at);
        (self.marks.len() - behind) as f64 / self.marks.len() as f64
    }
}

/// Everything that waits for its step.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    app: CompactString,
    task: PartitionId,
    generation: Option<u64>,
    expected: i32,
    outage_tolerance: Millis,
    allowed_lateness: Millis,
    grid: SliceGrid,
    journeys: BTreeMap<i32, Journey>,
    clock: Option<EventTime>,
    watermark: Option<EventTime>,
    /// Watermark of the last step made: what was final then is final.
    stepped: EventTime,
    pending: BTreeMap<Slice, BTreeMap<CompactString, Bucket>>,
    dirty: Dirty<state::Part>,
}

impl Inbox {
    pub(super) fn new(settings: &Settings) -> Inbox {
        Inbox {
            app: settings.app.clone(),
            task: settings.partition,
            generation: settings.generation,
            expected: settings.journey_partitions,
            outage_tolerance: settings.outage_tolerance,
            allowed_lateness: settings.allowed_lateness,
            grid: SliceGrid::new(settings.slice),
            journeys: BTreeMap::new(),
            clock: None,
            watermark: None,
            stepped: EventTime::MIN,
            pending: BTreeMap::new(),
            dirty: Dirty::default(),
        }
    }

    pub(super) fn clock(&self) -> Option<EventTime> {
        self.clock
    }

    pub(super) fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// True if `flush` is the next one of its partition, false if it is a repeat.
    ///
    /// # Panics
    /// If it is neither: a gap, a foreign generation, another number of partitions. The task must
    /// stop then, without a commit, as figures from here on would be wrong.
    pub(super) fn accept(&mut self, flush: &Flush) -> bool {
        let (app, task, from) = (&self.app, self.task, flush.partition);
        self.dirty.touch(state::Part::Journey(from));
        let journey = self.journeys.entry(from).or_default();
        let generation =
            *journey.generation.get_or_insert(self.generation.unwrap_or(flush.generation));
        assert!(
            flush.generation == generation,
            "{app}: rollup partition {task} got a flush of journey partition {from} of generation \
             {}, and expects {generation}: reset the roles journey and rollup together",
            flush.generation,
        );
        assert!(
            flush.partitions == self.expected && (0..self.expected).contains(&from),
            "{app}: rollup partition {task} got a flush of journey partition {from} of {}, and \
             expects {}: the number of canonical partitions is fixed at creation",
            flush.partitions,
            self.expected,
        );
        if flush.number <= journey.number {
            return false;
        }
        assert!(
            flush.number == journey.number + 1,
            "{app}: rollup partition {task} misses flushes of journey partition {from}: {} came \
             after {}",
            flush.number,
            journey.number,
        );
        journey.number = flush.number;
        true
    }

    /// Puts a tenant's cells where they are due: at their own step, or at the present one if that
    /// has passed. `numbers` are those of the flush's series.
    pub(super) fn put(&mut self, from: i32, of_tenant: &TenantCells, numbers: &[u32]) {
        for cells in of_tenant.cells.chunk_by(|a, b| a.due == b.due) {
            let bucket = self.bucket(cells[0].due, &of_tenant.tenant);
            for cell in cells {
                let at = (cell.slice, numbers[cell.series as usize]);
                let delta = bucket.cells.entry(at).or_default();
                delta.figures.add(&cell.figures, 1);
                delta.cohort.add(&cell.cohort);
                delta.links.extend_from_slice(&cell.links);
            }
        }
        for of in &of_tenant.evidence {
            let stretch = Stretch { partition: from, from: of.from, to: of.to };
            self.bucket(of.due, &of_tenant.tenant).evidence.push((of.slice, stretch));
        }
    }

    fn bucket(&mut self, due: Slice, tenant: &CompactString) -> &mut Bucket {
        let open = self.clock.map_or(due, |clock| self.grid.slice(clock));
        let at = due.max(open);
        self.dirty.touch(state::Part::Bucket(at, tenant.clone()));
        let step = self.pending.entry(at).or_default();
        step.entry(tenant.clone()).or_default()
    }

    /// The first step for which cells wait.
    pub(super) fn next_step(&self) -> Option<Slice> {
        self.pending.first_key_value().map(|(step, _)| *step)
    }

    /// Events that wait for their step, of the series that `counts` says yes to.
    pub(super) fn waiting(&self, counts: impl Fn(&CompactString, u32) -> bool) -> i64 {
        let buckets = self.pending.values().flatten();
        let cells = buckets.flat_map(|(tenant, bucket)| {
            bucket.cells.iter().map(move |((_, series), delta)| (tenant, *series, delta))
        });
        let counted = cells.filter(|(tenant, series, _)| counts(tenant, *series));
        counted.map(|(_, _, delta)| delta.figures.events).sum()
    }

    /// Takes out the cells due at `step`.
    pub(super) fn take(&mut self, step: Slice) -> BTreeMap<CompactString, Bucket> {
        let buckets = self.pending.remove(&step).unwrap_or_default();
        for tenant in buckets.keys() {
            self.dirty.remove(state::Part::Bucket(step, tenant.clone()));
        }
        buckets
    }

    /// Takes over what `flush` says about progress, and moves the clock.
    pub(super) fn report(&mut self, flush: &Flush) {
        self.dirty.touch(state::Part::Head);
        self.dirty.touch(state::Part::Journey(flush.partition));
        let journey = self.journeys.entry(flush.partition).or_default();
        let mut report = journey.latest.map(|b| b.report).unwrap_or_default();
        report.update(Report { watermark: flush.watermark, clock: flush.clock, idle: flush.idle });
        let idle_before = journey.latest.and_then(|latest| latest.fell_idle());
        let boundary = Boundary { report, closed: flush.closed, idle_before };
        journey.latest = Some(boundary);
        let slice = |b: &Boundary| b.report.clock.map(|clock| self.grid.slice(clock));
        // Only the first report in a slice can be the first beyond the end of one.
        let first = journey.queue.back().is_none_or(|last| slice(last) < slice(&boundary));
        if report.clock.is_some() && first {
            journey.queue.push_back(boundary);
        }
        self.advance();
    }

    fn advance(&mut self) {
        let latest = || self.journeys.values().filter_map(|j| j.latest);
        if latest().count() < usize::try_from(self.expected).unwrap_or(0) {
            return;
        }
        let open: Vec<Report> = latest().filter(|b| !b.closed).map(|b| b.report).collect();
        // What is closed holds nothing back. If all is closed, everything is to be decided.
        let times = if open.is_empty() {
            latest().filter_map(|b| b.report.clock).max().map(|clock| (clock, clock))
        } else {
            combine(open.into_iter(), self.outage_tolerance)
        };
        if let Some((clock, watermark)) = times {
            self.clock = self.clock.max(Some(clock));
            self.watermark = self.watermark.max(Some(watermark));
        }
    }

    /// Time as `step` sees it; steps only ever grow.
    pub(super) fn moment(&mut self, step: Slice) -> Moment {
        let before = self.stepped;
        let (watermark, marks, closed) = self.times(step);
        Moment {
            step,
            end: self.grid.end(step),
            watermark,
            floor: before.minus(self.allowed_lateness),
            marks,
            closed,
        }
    }

    fn times(&mut self, step: Slice) -> (EventTime, Vec<EventTime>, bool) {
        let end = self.grid.end(step);
        let mut marks = Vec::with_capacity(self.journeys.len());
        let mut closed = true;
        for (partition, journey) in &mut self.journeys {
            while journey.queue.front().is_some_and(|b| b.report.clock < Some(end)) {
                journey.queue.pop_front();
                self.dirty.touch(state::Part::Journey(*partition));
            }
            let (boundary, watermark) = match (journey.queue.front(), &journey.latest) {
                (Some(first), _) => (first, first.passed()),
                (None, Some(latest)) => {
                    (latest, latest.fell_idle().unwrap_or(latest.report).watermark)
                }
                (None, None) => continue,
            };
            closed &= boundary.closed;
            if boundary.closed {
                marks.push(EventTime::MAX);
            } else {
                marks.extend(watermark);
            }
        }
        marks.sort_unstable();
        // Not ahead of the step, however far the partitions are: what is due later is still to come.
        let floor = end.minus(self.outage_tolerance);
        let least = marks.first().copied().unwrap_or(floor);
        self.dirty.touch(state::Part::Head);
        self.stepped = self.stepped.max(least.clamp(floor, end));
        (self.stepped, marks, closed)
    }

    /// The journey partition that holds the clock back: one that has not reported, else the slowest
    /// that is neither idle nor closed.
    pub(super) fn holding_back(&self) -> Option<i32> {
        let silent = |p: &i32| self.journeys.get(p).is_none_or(|j| j.latest.is_none());
        if let Some(partition) = (0..self.expected).find(silent) {
            return Some(partition);
        }
        self.journeys
            .iter()
            .filter_map(|(partition, journey)| Some((journey.latest?, *partition)))
            .filter(|(b, _)| !b.closed && !b.report.idle)
            .map(|(b, partition)| (b.report.clock, partition))
            .min()
            .map(|(_, partition)| partition)
    }
}

#[cfg(test)]
impl Moment {
    /// A step that ends at `end` seconds, with the watermark at `watermark` seconds.
    pub(super) fn for_tests(end: i64, watermark: i64) -> Moment {
        let end = EventTime::from_ms(end * 1_000);
        let watermark = EventTime::from_ms(watermark * 1_000);
        let step = SliceGrid::new(Millis::from_secs(10)).slice(end).plus(-1);
        Moment {
            step,
            end,
            watermark,
            floor: EventTime::MIN,
            marks: vec![watermark],
            closed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(&Settings {
            app: "shop".into(),
            partition: PartitionId::new(0),
            generation: None,
            slice: Millis::from_secs(10),
            windows: Vec::new(),
            allowed_lateness: Millis::from_mins(5),
            outage_tolerance: Millis::from_mins(60),
            t_checkout: Millis::from_mins(30),
            max_checkout_age: Millis::from_mins(60),
            canonical_topic: "canonical".into(),
            journey_partitions: 2,
        })
    }

    /// Watermarks, in seconds, of the steps up to 120 s, which are made whenever the clock allows
    /// while `reports` come in: partition, clock and watermark in seconds, whether it is idle.
    fn watermarks(reports: &[(i32, i64, i64, bool)]) -> Vec<i64> {
        let at = |secs: i64| EventTime::from_ms(secs * 1_000);
        let (mut inbox, mut ends, mut seen) = (inbox(), (1..=12).map(|n| n * 10), Vec::new());
        let mut next = ends.next();
        for (partition, clock, watermark, idle) in reports {
            inbox.report(&Flush {
                generation: 1,
                number: 1,
                partition: *partition,
                partitions: 2,
                clock: Some(at(*clock)),
                watermark: Some(at(*watermark)),
                idle: *idle,
                closed: false,
                tenants: Vec::new(),
            });
            while let Some(end) = next.filter(|end| inbox.clock() >= Some(at(*end))) {
                let step = inbox.grid.slice(at(end)).plus(-1);
                seen.push(inbox.moment(step).watermark.as_ms() / 1_000);
                next = ends.next();
            }
        }
        seen
    }

    #[test]
    fn steps_see_the_same_times_in_any_interleaving() {
        let moves: Vec<_> = (1..=12).map(|n| (0, n * 10, n * 10 - 5, false)).collect();
        let falls_idle = [(1, 18, 13, false), (1, 22, 13, true), (1, 25, 13, true)];
        let wakes = [(1, 95, 90, false), (1, 120, 115, false)];
        let expected = [5, 13, 13, 13, 13, 13, 13, 13, 13, 95, 105, 115];
        // It wakes before anybody passed it, when it was passed long ago, and in between.
        let before = [&falls_idle[..], &wakes, &moves].concat();
        let after = [&falls_idle[..], &moves[..9], &wakes, &moves[9..]].concat();
        let between = [&moves[..3], &falls_idle[..2], &moves[3..6], &falls_idle[2..], &wakes];
        let between = [&between.concat()[..], &moves[6..]].concat();
        for reports in [before, after, between] {
            assert_eq!(watermarks(&reports), expected);
        }
    }

    #[test]
    fn completeness_is_the_share_that_passed() {
        let at = |secs: i64| EventTime::from_ms(secs * 1_000);
        let mut moment = Moment::for_tests(100, 0);
        moment.marks = vec![at(10), at(20), at(20), at(30)];
        let check = |secs: i64, share: f64| assert_eq!(moment.completeness(at(secs)), share);
        check(10, 1.0);
        check(11, 0.75);
        check(20, 0.75);
        check(30, 0.25);
        check(31, 0.0);
        moment.marks.clear();
        assert_eq!(moment.completeness(at(10)), 1.0);
    }
}
