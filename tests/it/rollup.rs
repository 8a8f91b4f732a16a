//! The rollup fold against brute force: sets of customers and sorted lists of what each window said.
//!
//! `Journey` plays a journey partition: it makes cells, links and flushes from events as the contract
//! of flushes says, and keeps what it counted as plain rows for the comparison.

use compact_str::CompactString;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use touchline::engine::{Fact, Fold, Output};
use touchline::model::dimension::{Dimension, Dimensions};
use touchline::model::figures::{Cell, Cohort, Figures, Flush, Link, SliceEvidence, TenantCells};
use touchline::model::ids::PartitionId;
use touchline::model::observation::Observation;
use touchline::model::record::{LiveRecord, WindowRecord};
use touchline::model::time::{EventTime, Millis, Slice, SliceGrid};
use touchline::rollup::step::{AlertEngine, NoAlerts, StepView};
use touchline::rollup::{Input, Rollup, Settings, WindowSpec};

const SLICE: i64 = 10_000;
const LATENESS: i64 = 600_000;
const T_CHECKOUT: i64 = 300_000;
const MAX_AGE: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000;
const CLOSE: i64 = 40 * 86_400_000;
const CHANNELS: [&str; 2] = ["app", "web"];
/// Length and slide in seconds.
const WINDOWS: [(i64, i64); 4] = [(30, 10), (60, 30), (600, 20), (3_600, 60)];

fn settings(partitions: i32) -> Settings {
    let spec = |(length, slide): &(i64, i64)| WindowSpec {
        length: Millis::from_secs(*length),
        slide: Millis::from_secs(*slide),
    };
    Settings {
        app: "test".into(),
        partition: PartitionId::new(0),
        generation: Some(7),
        slice: Millis::from_ms(SLICE),
        windows: WINDOWS.iter().map(spec).collect(),
        allowed_lateness: Millis::from_ms(LATENESS),
        outage_tolerance: Millis::from_hours(1),
        t_checkout: Millis::from_ms(T_CHECKOUT),
        max_checkout_age: Millis::from_ms(MAX_AGE),
        canonical_topic: "touchpoints.canonical".into(),
        journey_partitions: partitions,
    }
}

fn grid() -> SliceGrid {
    SliceGrid::new(Millis::from_ms(SLICE))
}

fn slice(at: i64) -> Slice {
    grid().slice(EventTime::from_ms(at))
}

fn channel(name: &str) -> Dimensions {
    Dimensions::new([(Dimension::Channel, name.into())])
}

/// What becomes of a checkout that an event starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Checkout {
    None,
    Completed,
    Abandoned,
    Expired,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    at: i64,
    customer: u32,
    channel: usize,
    checkout: Checkout,
}

/// One event as it was counted.
#[derive(Clone, Copy, Debug)]
struct Row {
    slice: i64,
    due: i64,
    customer: u32,
    channel: usize,
    checkout: Checkout,
}

/// One journey partition.
struct Journey {
    partition: i32,
    partitions: i32,
    number: u64,
    clock: Option<i64>,
    watermark: Option<i64>,
    flushed: i64,
    offset: i64,
    visited: BTreeMap<(u32, Dimensions), BTreeSet<i64>>,
    cells: BTreeMap<(Slice, Slice, Dimensions), (Figures, Cohort, BTreeMap<u32, i32>)>,
    evidence: BTreeMap<(Slice, Slice), (i64, i64)>,
    timers: BTreeSet<(i64, i64, usize, bool)>,
    flushes: Vec<Flush>,
    rows: Vec<Row>,
}

impl Journey {
    fn new(partition: i32, partitions: i32) -> Journey {
        Journey {
            partition,
            partitions,
            number: 0,
            clock: None,
            watermark: None,
            flushed: i64::MIN,
            offset: 0,
            visited: BTreeMap::new(),
            cells: BTreeMap::new(),
            evidence: BTreeMap::new(),
            timers: BTreeSet::new(),
            flushes: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn flush(&mut self, closed: bool) {
        let cells = std::mem::take(&mut self.cells);
        let evidence = std::mem::take(&mut self.evidence);
        let series: BTreeSet<Dimensions> = cells.keys().map(|(_, _, d)| d.clone()).collect();
        let series: Vec<Dimensions> = series.into_iter().collect();
        let cells: Vec<Cell> = cells
            .into_iter()
            .map(|((due, slice, dimensions), (figures, cohort, links))| Cell {
                slice,
                due,
                series: series.binary_search(&dimensions).unwrap() as u32,
                figures,
                cohort,
                links: links.into_iter().map(|(back, n)| Link { back, n }).collect(),
            })
            .collect();
        let evidence = evidence
            .into_iter()
            .map(|((due, slice), (from, to))| SliceEvidence { slice, due, from, to })
            .collect();
        let of_tenant = TenantCells { tenant: "default".into(), series, cells, evidence };
        self.number += 1;
        self.flushed = self.clock.map_or(i64::MIN, |clock| slice(clock).number());
        self.flushes.push(Flush {
            generation: 7,
            number: self.number,
            partition: self.partition,
            partitions: self.partitions,
            clock: self.clock.map(EventTime::from_ms),
            watermark: self.watermark.map(EventTime::from_ms),
            idle: false,
            closed,
            tenants: if of_tenant.cells.is_empty() { vec![] } else { vec![of_tenant] },
        });
    }

    fn cell(
        &mut self,
        due: Slice,
        of: i64,
        series: &Dimensions,
    ) -> &mut (Figures, Cohort, BTreeMap<u32, i32>) {
        let place = Slice::from_number(of);
        self.cells.entry((due.max(place), place, series.clone())).or_default()
    }

    fn advance(&mut self, clock: i64) {
        // Timers fire at their time; one that is overdue when it is made, at the clock before.
        let before = self.clock.unwrap_or(i64::MIN);
        self.clock = self.clock.max(Some(clock));
        self.watermark = self.watermark.max(Some(clock));
        let clock = self.clock.unwrap();
        while let Some(timer) = self.timers.first().copied().filter(|t| t.0 < clock) {
            self.timers.remove(&timer);
            let (due, started, of, expires) = timer;
            let step = slice(before.max(due + 1));
            for series in [Dimensions::TOTAL, channel(CHANNELS[of])] {
                let decided = Some(slice(due));
                let decision = Cohort { latest_decision: decided, ..Cohort::default() };
                let cohort = &mut self.cell(step, started, &series).1;
                if expires {
                    cohort.add(&Cohort { expired: 1, ..decision });
                } else {
                    cohort.add(&Cohort { abandoned: 1, unique_abandoners: 1, ..decision });
                    let at = slice(due).number();
                    self.cell(step, at, &series).0.checkouts_abandoned += 1;
                }
            }
        }
        if slice(clock).number() > self.flushed {
            self.flush(false);
        }
    }

    fn event(&mut self, event: Event) {
        self.advance(event.at - 5_000);
        self.offset += 1;
        if event.at < self.watermark.unwrap() - LATENESS {
            return;
        }
        let at = slice(event.at);
        let due = at.max(slice(self.clock.unwrap()));
        let Event { customer, channel: of, checkout, .. } = event;
        self.rows.push(Row {
            slice: at.number(),
            due: due.number(),
            customer,
            channel: of,
            checkout,
        });
        let offset = self.offset;
        let known = self.evidence.entry((due, at)).or_insert((offset, offset));
        known.1 = offset;
        for series in [Dimensions::TOTAL, channel(CHANNELS[of])] {
            self.count(&event, due, &series);
            self.link(&event, due, &series);
        }
        match checkout {
            Checkout::Abandoned => {
                self.timers.insert((event.at + T_CHECKOUT, at.number(), of, false));
            }
            Checkout::Expired => {
                self.timers.insert((event.at + MAX_AGE, at.number(), of, true));
            }
            Checkout::None | Checkout::Completed => {}
        }
    }

    fn count(&mut self, event: &Event, due: Slice, series: &Dimensions) {
        let at = slice(event.at);
        let (figures, cohort, _) = self.cell(due, at.number(), series);
        figures.events += 1;
        if event.checkout != Checkout::None {
            figures.checkouts_started += 1;
            cohort.started += 1;
        }
        if event.checkout == Checkout::Completed {
            figures.checkouts_completed += 1;
            figures.orders += 1;
            figures.value.add("EUR", 100);
            cohort.add(&Cohort { completed: 1, latest_decision: Some(at), ..Cohort::default() });
        }
    }

    fn link(&mut self, event: &Event, due: Slice, series: &Dimensions) {
        let longest = WINDOWS.iter().map(|(length, _)| length * 1_000 / SLICE).max().unwrap();
        let v = slice(event.at).number();
        let visited = self.visited.entry((event.customer, series.clone())).or_default();
        if !visited.insert(v) {
            return;
        }
        let before = visited.range(..v).next_back().copied();
        let after = visited.range(v + 1..).next().copied();
        let back = |from: Option<i64>, to: i64| {
            from.filter(|q| to - q < longest).map_or(0, |q| (to - q) as u32)
        };
        let mut link = |to: i64, back: u32, n: i32| {
            let links = &mut self.cell(due, to, series).2;
            let sum = links.entry(back).or_default();
            *sum += n;
            if *sum == 0 {
                links.remove(&back);
            }
        };
        link(v, back(before, v), 1);
        if let Some(w) = after {
            link(w, back(before, w), -1);
            link(w, back(Some(v), w), 1);
        }
    }

    fn close(&mut self, at: i64) {
        let to = self.clock.unwrap_or(at).max(at) + CLOSE;
        // The timers, then one flush that is closed.
        self.flushed = i64::MAX;
        self.advance(to);
        self.flush(true);
    }
}

/// Remembers what it is shown, and writes the time of each step behind the step's records.
struct Probe;

impl AlertEngine for Probe {
    fn step(&mut self, view: &StepView<'_>, out: &mut Vec<Output>) {
        let sorted = |keys: Vec<(Millis, EventTime, &Dimensions)>| {
            assert!(keys.is_sorted(), "windows come by length, start, dimensions");
            keys.len() as u64
        };
        let keys = |of: &[touchline::rollup::step::WindowView<'_>]| {
            sorted(of.iter().map(|w| (w.window, w.start, unborrow(w.dimensions))).collect())
        };
        assert!(view.events.is_sorted());
        assert!(view.watermark <= view.step_end);
        let at = view.step_end.as_ms().unsigned_abs();
        for (name, n) in [
            ("matured", keys(view.matured)),
            ("revised", keys(view.revised)),
            ("finals", keys(view.finals)),
            ("events", view.events.iter().map(|(_, _, n)| n.unsigned_abs()).sum()),
            ("evidence", (view.evidence)(EventTime::MIN, view.step_end).len() as u64),
            ("closed", u64::from(view.closed)),
            ("at", at),
        ] {
            out.push(Output::Observation(Observation::Tests { detector: name, n }));
        }
    }

    fn next_due(&self, _tenant: &str) -> Option<EventTime> {
        None
    }
}

/// Leaks nothing: only shortens what `collect` must know about lifetimes.
fn unborrow(dimensions: &Dimensions) -> &Dimensions {
    dimensions
}

/// Plays the events, in the order of arrival, into their partitions, and closes these.
fn journeys(partitions: i32, events: &[(usize, Event)], splits: &[bool]) -> Vec<Journey> {
    let mut all: Vec<Journey> = (0..partitions).map(|p| Journey::new(p, partitions)).collect();
    for (i, (partition, event)) in events.iter().enumerate() {
        let journey = &mut all[partition % partitions as usize];
        journey.event(*event);
        if splits.get(i).copied().unwrap_or(false) {
            journey.flush(false);
        }
    }
    let end = events.iter().map(|(_, e)| e.at).max().unwrap_or(START);
    for journey in &mut all {
        journey.close(end);
    }
    all
}

/// Folds the partitions' flushes; `picks` says whose turn it is while there is a choice.
fn fold(journeys: &[Journey], picks: &[usize]) -> Vec<Output> {
    let mut rollup = Rollup::new(settings(journeys.len() as i32), Box::new(Probe));
    let mut queues: Vec<_> = journeys.iter().map(|j| j.flushes.iter()).collect();
    let mut out = Vec::new();
    let mut picks = picks.iter().cycle();
    while !queues.is_empty() {
        let turn = picks.next().copied().unwrap_or(0) % queues.len();
        match queues[turn].next() {
            Some(flush) => rollup.fold(Input::Flush(flush), &mut out),
            None => drop(queues.remove(turn)),
        }
    }
    out
}

/// Records with the step at which they came out.
fn timed(out: &[Output]) -> (Vec<(i64, &LiveRecord)>, Vec<(i64, &WindowRecord)>) {
    let (mut live, mut windows) = (Vec::new(), Vec::new());
    let (mut live_step, mut window_step) = (Vec::new(), Vec::new());
    for output in out {
        match output {
            Output::Fact(Fact::Live(record)) => live_step.push(record.as_ref()),
            Output::Fact(Fact::Window(record)) => window_step.push(record.as_ref()),
            Output::Observation(Observation::Tests { detector: "at", n }) => {
                live.extend(live_step.drain(..).map(|r| (*n as i64, r)));
                windows.extend(window_step.drain(..).map(|r| (*n as i64, r)));
            }
            _ => {}
        }
    }
    (live, windows)
}

fn of_series(row: &Row, dimensions: &BTreeMap<CompactString, CompactString>) -> bool {
    dimensions.get("channel").is_none_or(|c| c == CHANNELS[row.channel])
}

fn total(out: &[Output], name: &str) -> u64 {
    out.iter()
        .map(|o| match o {
            Output::Observation(Observation::Tests { detector, n }) if *detector == name => *n,
            _ => 0,
        })
        .sum()
}

/// Every slide's figures equal what a set says about the events known at that step, and every slide
/// with anything in it is there.
fn check_live(rows: &[Row], live: &[(i64, &LiveRecord)]) {
    let mut seen = BTreeSet::new();
    for (at, record) in live {
        assert_eq!(record.end.as_ms(), *at, "a slide is emitted at its end, once");
        let key = (record.window.clone(), record.end, record.dimensions.clone());
        assert!(seen.insert(key), "twice: {record:?}");
        let (first, last) = (slice(record.start.as_ms()).number(), slice(at - 1).number());
        let known: Vec<&Row> = rows
            .iter()
            .filter(|r| r.due <= last && (first..=last).contains(&r.slice))
            .filter(|r| of_series(r, &record.dimensions))
            .collect();
        let customers: BTreeSet<u32> = known.iter().map(|r| r.customer).collect();
        assert_eq!(record.events, known.len() as i64, "{record:?}");
        assert_eq!(record.customers, customers.len() as i64, "{record:?}");
    }
    for row in rows {
        for (length, slide) in WINDOWS {
            // The first slide that ends at or after the step at which the event was known.
            let slices = slide * 1_000 / SLICE;
            let last = (row.due.div_euclid(slices) + 1) * slices - 1;
            if last - length * 1_000 / SLICE < row.slice {
                let end = grid().end(Slice::from_number(last));
                let window = Millis::from_secs(length).to_string();
                let key = (CompactString::from(window), end, BTreeMap::new());
                assert!(seen.contains(&key), "no slide for {row:?} {length}");
            }
        }
    }
}

/// Final windows equal what sets say; revisions have no gaps, one a minute, one last.
fn check_windows(rows: &[Row], windows: &[(i64, &WindowRecord)]) {
    let mut by_key: BTreeMap<_, Vec<(i64, &WindowRecord)>> = BTreeMap::new();
    for (at, record) in windows {
        let key = (record.window.clone(), record.start, record.dimensions.clone());
        by_key.entry(key).or_default().push((*at, record));
    }
    for revisions in by_key.values() {
        let (first, last) = (revisions[0], revisions[revisions.len() - 1]);
        assert!(first.0 >= first.1.end.as_ms());
        for (i, (_, record)) in revisions.iter().enumerate() {
            assert_eq!(record.revision, i as i64, "{record:?}");
            assert_eq!(record.is_final, i + 1 == revisions.len(), "{record:?}");
            assert_eq!(record.completeness, 1.0);
        }
        for pair in revisions.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= 60_000, "{pair:?}");
            let same = |r: &WindowRecord| {
                (r.events, r.customers, r.checkouts_abandoned, r.abandonment.clone())
            };
            assert!(same(pair[0].1) != same(pair[1].1) || pair[1].1.is_final, "{pair:?}");
        }
        check_final(rows, last.1);
    }
    for row in rows {
        for (length, _) in WINDOWS {
            let start = (row.slice * SLICE).div_euclid(length * 1_000) * length * 1_000;
            let window = CompactString::from(Millis::from_secs(length).to_string());
            let key = (window, EventTime::from_ms(start), BTreeMap::new());
            assert!(by_key.contains_key(&key), "no window for {row:?} {length}");
        }
    }
}

fn check_final(rows: &[Row], record: &WindowRecord) {
    let known: Vec<&Row> = rows
        .iter()
        .filter(|r| {
            (record.start.as_ms()..record.end.as_ms()).contains(&(r.slice * SLICE))
                && of_series(r, &record.dimensions)
        })
        .collect();
    let customers: BTreeSet<u32> = known.iter().map(|r| r.customer).collect();
    let checkouts = |of: Checkout| known.iter().filter(|r| r.checkout == of).count() as i64;
    let started = known.len() as i64 - checkouts(Checkout::None);
    assert_eq!(record.events, known.len() as i64, "{record:?}");
    assert_eq!(record.customers, customers.len() as i64, "{record:?}");
    assert_eq!(record.checkouts_started, started, "{record:?}");
    assert_eq!(record.orders, checkouts(Checkout::Completed), "{record:?}");
    assert_eq!(record.abandonment.started, started, "{record:?}");
    assert_eq!(record.abandonment.abandoned, checkouts(Checkout::Abandoned), "{record:?}");
    assert_eq!(record.abandonment.expired, checkouts(Checkout::Expired), "{record:?}");
    assert_eq!(record.abandonment.undecided, 0, "{record:?}");
    assert!(record.abandonment.mature, "{record:?}");
}

fn counted(out: &[Output]) -> i64 {
    out.iter()
        .map(|o| match o {
            Output::Observation(Observation::Counted(n)) => *n,
            Output::Observation(Observation::Late(n)) => panic!("{n} late, which cannot be"),
            _ => 0,
        })
        .sum()
}

/// Gaps are mostly short, sometimes longer than windows; one event in eight is out of order or late.
fn event() -> impl Strategy<Value = (usize, i64, i64, u32, usize, Checkout)> {
    let gap = prop_oneof![
        8 => 0i64..8_000,
        2 => 8_000i64..120_000,
        1 => 120_000i64..8_000_000,
    ];
    let behind = prop_oneof![7 => Just(0i64), 1 => 0i64..LATENESS + 60_000];
    let checkout = prop_oneof![
        6 => Just(Checkout::None),
        2 => Just(Checkout::Completed),
        2 => Just(Checkout::Abandoned),
        1 => Just(Checkout::Expired),
    ];
    (0usize..4, gap, behind, 0u32..5, 0usize..2, checkout)
}

/// Equal, or the first difference.
#[track_caller]
fn same(got: &[Output], expected: &[Output]) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got, expected, "output {i}");
    }
    assert_eq!(got.len(), expected.len());
}

type Raw = (usize, i64, i64, u32, usize, Checkout);

/// A customer belongs to one partition.
fn events(raw: &[Raw]) -> Vec<(usize, Event)> {
    let mut now = START;
    raw.iter()
        .map(|(partition, gap, behind, customer, channel, checkout)| {
            now += gap;
            let customer = customer * 4 + *partition as u32;
            let at = now - behind;
            (*partition, Event { at, customer, channel: *channel, checkout: *checkout })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn interleaving_and_flush_points_leave_no_trace(
        raw in prop::collection::vec(event(), 1..80),
        partitions in 1i32..5,
        splits in prop::collection::vec(any::<bool>(), 80),
        picks in prop::collection::vec(0usize..64, 1..40),
    ) {
        let events = events(&raw);
        let whole = journeys(partitions, &events, &[]);
        let expected = fold(&whole, &[0]);
        same(&fold(&whole, &picks), &expected);
        let split = journeys(partitions, &events, &splits);
        same(&fold(&split, &picks), &expected);
    }

    #[test]
    fn windows_equal_sets_and_every_revision_is_in_order(
        raw in prop::collection::vec(event(), 1..80),
        partitions in 1i32..5,
        picks in prop::collection::vec(0usize..64, 1..40),
    ) {
        let journeys = journeys(partitions, &events(&raw), &[]);
        let rows: Vec<Row> = journeys.iter().flat_map(|j| j.rows.iter().copied()).collect();
        let out = fold(&journeys, &picks);
        let (live, windows) = timed(&out);
        check_live(&rows, &live);
        check_windows(&rows, &windows);
        prop_assert_eq!(counted(&out), rows.len() as i64);
        // Each event is in the total and in its channel.
        prop_assert_eq!(total(&out, "events"), 2 * rows.len() as u64);
    }
}
