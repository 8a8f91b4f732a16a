//! The rollup fold against brute force: sets of customers and sorted lists of what each window said.
//!
//! `Journey` plays a journey partition: it makes cells, links and flushes from events as the contract
//! of flushes says, and keeps what it counted as plain rows for the comparison.

#![allow(clippy::unwrap_used, reason = "a helper of tests that cannot go on says where")]

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
use touchline::rollup::step::{AlertEngine, NoAlerts, StepView, WindowView};
use touchline::rollup::{Input, Rollup, Settings, WindowSpec};

const SLICE: i64 = 10_000;
const LATENESS: i64 = 600_000;
const T_CHECKOUT: i64 = 300_000;
const MAX_AGE: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000;
const CLOSE: i64 = 40 * 86_400_000;
const CHANNELS: [&str; 2] = ["app", "web"];
/// Length and slide in seconds.
const WINDOWS: [(i64, i64); 5] = [(30, 10), (60, 30), (600, 20), (3_600, 60), (86_400, 600)];

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

/// Figures, cohort, and links by their distance.
type Content = (Figures, Cohort, BTreeMap<u32, i32>);

/// One journey partition.
struct Journey {
    partition: i32,
    partitions: i32,
    tenant: CompactString,
    idle: bool,
    number: u64,
    clock: Option<i64>,
    watermark: Option<i64>,
    flushed: i64,
    offset: i64,
    visited: BTreeMap<(u32, Dimensions), BTreeSet<i64>>,
    /// By due, slice and series.
    cells: BTreeMap<(Slice, Slice, Dimensions), Content>,
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
            tenant: "default".into(),
            idle: false,
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
        let of_tenant = TenantCells { tenant: self.tenant.clone(), series, cells, evidence };
        self.number += 1;
        self.flushed = self.clock.map_or(i64::MIN, |clock| slice(clock).number());
        self.flushes.push(Flush {
            generation: 7,
            number: self.number,
            partition: self.partition,
            partitions: self.partitions,
            clock: self.clock.map(EventTime::from_ms),
            watermark: self.watermark.map(EventTime::from_ms),
            idle: self.idle,
            closed,
            tenants: if of_tenant.cells.is_empty() { vec![] } else { vec![of_tenant] },
        });
    }

    fn cell(&mut self, due: Slice, of: i64, series: &Dimensions) -> &mut Content {
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
crate::checkpoint::remembers_nothing!(Probe);

impl AlertEngine for Probe {
    fn step(&mut self, view: &StepView<'_>, out: &mut Vec<Output>) {
        let keys = |of: &[WindowView<'_>]| {
            assert!(of.is_sorted_by_key(|w| (w.window, w.start, w.dimensions.clone())));
            of.len() as u64
        };
        assert!(view.events.is_sorted());
        assert!((0.0..=1.0).contains(&view.completeness));
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

/// The partitions' flushes, one of each in turn.
fn in_turns(journeys: &[Journey]) -> Vec<&Flush> {
    let most = journeys.iter().map(|j| j.flushes.len()).max().unwrap_or(0);
    (0..most).flat_map(|n| journeys.iter().filter_map(move |j| j.flushes.get(n))).collect()
}

/// Records, each with the step at which it came out.
type Timed<'a, R> = Vec<(i64, &'a R)>;

fn timed(out: &[Output]) -> (Timed<'_, LiveRecord>, Timed<'_, WindowRecord>) {
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

/// Gaps are mostly short, sometimes longer than a window, up to 25 h; one event in eight is out of order or late.
fn event() -> impl Strategy<Value = (usize, i64, i64, u32, usize, Checkout)> {
    let gap = prop_oneof![
        8 => 0i64..8_000,
        2 => 8_000i64..120_000,
        1 => 120_000i64..8_000_000,
        1 => 80_000_000i64..90_000_000,
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
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_state_that_is_written_down_and_made_again_leaves_no_trace(
        raw in prop::collection::vec(event(), 1..80),
        partitions in 1i32..4,
        splits in prop::collection::vec(any::<bool>(), 80),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let journeys = journeys(partitions, &events(&raw), &splits);
        let flushes = in_turns(&journeys);
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(flushes.len())).collect();
        let make = || Rollup::new(settings(partitions), Box::new(Probe));
        crate::checkpoint::check(make, flushes.len(), &cuts, |rollup, input, out| {
            rollup.fold(Input::Flush(flushes[input]), out);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

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

/// A rollup partition that is fed by hand.
struct Bench {
    rollup: Rollup,
    journeys: Vec<Journey>,
    out: Vec<Output>,
}

impl Bench {
    fn new(partitions: i32) -> Bench {
        Bench {
            rollup: Rollup::new(settings(partitions), Box::new(Probe)),
            journeys: (0..partitions).map(|p| Journey::new(p, partitions)).collect(),
            out: Vec::new(),
        }
    }

    /// An event so and so many seconds after the start.
    fn event(&mut self, partition: usize, secs: i64, checkout: Checkout) {
        let customer = partition as u32;
        let at = START + secs * 1_000;
        self.journeys[partition].event(Event { at, customer, channel: 0, checkout });
        self.pass(partition);
    }

    /// The partition's clock moves on, its watermark too unless it is idle.
    fn clock(&mut self, partition: usize, secs: i64, idle: bool) {
        let journey = &mut self.journeys[partition];
        let watermark = journey.watermark;
        journey.idle = idle;
        journey.advance(START + secs * 1_000);
        if idle {
            journey.watermark = watermark;
            // What the advance flushed carries the watermark of data alone.
            for flush in &mut journey.flushes {
                flush.watermark = flush.watermark.min(watermark.map(EventTime::from_ms));
            }
        }
        self.pass(partition);
    }

    fn close(&mut self) {
        let end = self.journeys.iter().filter_map(|j| j.clock).max().unwrap();
        for partition in 0..self.journeys.len() {
            self.journeys[partition].close(end);
            self.pass(partition);
        }
    }

    fn pass(&mut self, partition: usize) {
        for flush in self.journeys[partition].flushes.drain(..) {
            self.rollup.fold(Input::Flush(&flush), &mut self.out);
        }
    }

    /// `step revision events/started/undecided flags` of the total's windows of that name and start.
    fn revisions(&self, window: &str, start: i64) -> Vec<String> {
        let start = EventTime::from_ms(START + start * 1_000);
        timed(&self.out)
            .1
            .into_iter()
            .filter(|(_, r)| r.window == window && r.start == start && r.dimensions.is_empty())
            .map(|(at, r)| {
                let flag = |on: bool, name: &'static str| if on { name } else { "" };
                format!(
                    "{} r{} {}/{}/{}{}{}",
                    (at - START) / 1_000,
                    r.revision,
                    r.events,
                    r.abandonment.started,
                    r.abandonment.undecided,
                    flag(r.abandonment.mature, " mature"),
                    flag(r.is_final, " final"),
                )
            })
            .collect()
    }

    fn late(&self) -> u64 {
        self.out
            .iter()
            .map(|o| if let Output::Observation(Observation::Late(n)) = o { *n } else { 0 })
            .sum()
    }
}

/// The start of the tests lies on no border of a window of a minute: this is the next one that does.
const MINUTE: i64 = 40;

#[test]
fn an_abandoned_checkout_matures_its_window_and_is_worth_a_revision() {
    let mut bench = Bench::new(1);
    bench.event(0, MINUTE, Checkout::Abandoned);
    bench.close();
    // Abandoned at 40 s + 5 min, in the slice that ends at 350 s, known in the step that ends there;
    // mature 5 min after the window's end at 100 s; final 10 min after the decision's slice.
    let expected =
        ["100 r0 1/1/1", "350 r1 1/1/0", "410 r2 1/1/0 mature", "950 r3 1/1/0 mature final"];
    assert_eq!(bench.revisions("1m", MINUTE), expected);
    // The window of zeros after it, and no other.
    assert_eq!(bench.revisions("1m", MINUTE + 60), ["160 r0 0/0/0", "760 r1 0/0/0 mature final"]);
    assert_eq!(bench.revisions("1m", MINUTE + 120), [""; 0]);
}

#[test]
fn an_undecided_checkout_holds_its_window_until_its_age() {
    let mut bench = Bench::new(1);
    bench.event(0, MINUTE, Checkout::Expired);
    bench.close();
    // Expired at 40 s + 1 h, in the slice that ends at 3,650 s.
    let expected = ["100 r0 1/1/1", "3650 r1 1/1/0 mature", "4250 r2 1/1/0 mature final"];
    assert_eq!(bench.revisions("1m", MINUTE), expected);
}

#[test]
fn late_events_amend_once_a_minute() {
    let mut bench = Bench::new(1);
    bench.event(0, MINUTE, Checkout::None);
    bench.event(0, 125, Checkout::None);
    // Three late ones: the first is out at the next step but one minute after revision 0, at 160 s.
    bench.event(0, 50, Checkout::None);
    bench.event(0, 135, Checkout::None);
    bench.event(0, 60, Checkout::None);
    bench.event(0, 190, Checkout::None);
    bench.event(0, 70, Checkout::None);
    bench.event(0, 195, Checkout::None);
    bench.close();
    let expected = ["100 r0 1/0/0", "160 r1 3/0/0", "220 r2 4/0/0", "700 r3 4/0/0 mature final"];
    assert_eq!(bench.revisions("1m", MINUTE), expected);
}

#[test]
fn an_idle_partition_holds_finality_but_not_the_clock() {
    let mut bench = Bench::new(2);
    bench.event(0, MINUTE, Checkout::None);
    bench.event(1, MINUTE, Checkout::None);
    bench.clock(1, 60, true);
    bench.clock(0, 1_000, false);
    assert_eq!(bench.rollup.clock(), Some(EventTime::from_ms(START + 1_000_000)));
    assert_eq!(bench.rollup.holding_back(), Some(0));
    // 100 + 600 s is long past, but partition 1 had data up to 35 s only.
    assert_eq!(bench.revisions("1m", MINUTE), ["100 r0 2/0/0"]);
    let share = |bench: &Bench| timed(&bench.out).1.last().map(|(_, r)| r.completeness);
    assert_eq!(share(&bench), Some(0.5));
    // It is back: nothing is late, everything amends.
    bench.journeys[1].idle = false;
    bench.event(1, 70, Checkout::None);
    bench.clock(1, 1_100, false);
    bench.clock(0, 1_100, false);
    // Steps at which it may have been idle still hold finality, whenever it came back.
    bench.clock(1, 1_200, false);
    bench.clock(0, 1_200, false);
    let amended = ["100 r0 2/0/0", "1010 r1 3/0/0 mature", "1110 r2 3/0/0 mature final"];
    assert_eq!(bench.revisions("1m", MINUTE), amended);
    assert_eq!(bench.late(), 0);
}

#[test]
fn what_comes_after_finality_is_late_and_changes_nothing() {
    let mut bench = Bench::new(2);
    bench.event(0, MINUTE, Checkout::None);
    bench.event(1, MINUTE, Checkout::None);
    bench.clock(1, 60, true);
    // Beyond the outage tolerance of 1 h, the idle partition holds nothing any more.
    bench.clock(0, 5_000, false);
    let expected = ["100 r0 2/0/0", "4300 r1 2/0/0 mature final"];
    assert_eq!(bench.revisions("1m", MINUTE), expected);
    bench.journeys[1].idle = false;
    bench.event(1, 70, Checkout::None);
    bench.close();
    assert_eq!(bench.revisions("1m", MINUTE), expected);
    assert_eq!(bench.late(), 1);
}

#[test]
fn a_partition_without_data_holds_nothing_once_it_says_so() {
    let mut bench = Bench::new(2);
    bench.event(0, MINUTE, Checkout::None);
    bench.clock(0, 200, false);
    assert_eq!((bench.rollup.clock(), bench.rollup.holding_back()), (None, Some(1)));
    bench.journeys[1].flush(false);
    bench.pass(1);
    // It has reported, and is not idle: something may still come.
    assert_eq!((bench.rollup.clock(), bench.rollup.holding_back()), (None, Some(1)));
    bench.journeys[1].idle = true;
    bench.journeys[1].flush(false);
    bench.pass(1);
    assert_eq!(bench.rollup.clock(), Some(EventTime::from_ms(START + 200_000)));
    assert_eq!(bench.revisions("1m", MINUTE), ["100 r0 1/0/0"]);
}

#[test]
fn a_repeated_flush_changes_nothing() {
    let journeys = journeys(1, &events(&[(0, 0, 0, 1, 0, Checkout::None)]), &[]);
    let mut rollup = Rollup::new(settings(1), Box::new(NoAlerts));
    let mut out = Vec::new();
    rollup.fold(Input::Flush(&journeys[0].flushes[0]), &mut out);
    out.clear();
    rollup.fold(Input::Flush(&journeys[0].flushes[0]), &mut out);
    assert_eq!(out, [Output::Observation(Observation::RepeatedFlush)]);
}

#[track_caller]
fn refused(change: impl Fn(&mut Flush), reason: &str) {
    let mut journeys = journeys(1, &events(&[(0, 0, 0, 1, 0, Checkout::None)]), &[]);
    let flush = &mut journeys[0].flushes[0];
    change(flush);
    let fold = || {
        let mut rollup = Rollup::new(settings(1), Box::new(NoAlerts));
        rollup.fold(Input::Flush(flush), &mut Vec::new());
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fold)).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains(reason), "{message}");
}

#[test]
fn a_broken_invariant_stops_the_task() {
    refused(|f| f.number = 2, "misses flushes");
    refused(|f| f.generation = 8, "of generation 8, and expects 7");
    refused(|f| f.partitions = 2, "fixed at creation");
    refused(|f| f.partition = 1, "fixed at creation");
}

#[test]
fn empty_stretches_are_jumped_over() {
    let mut bench = Bench::new(1);
    bench.event(0, MINUTE, Checkout::None);
    bench.close();
    let steps = bench
        .out
        .iter()
        .filter(|o| matches!(o, Output::Observation(Observation::Tests { detector: "at", .. })))
        .count();
    // Forty days have 345,600 slices. The day's window slides 144 times, the hour's 60 times.
    assert!(steps < 300, "{steps} steps");
    assert_eq!(total(&bench.out, "closed"), steps as u64, "the first event alone moves no step");
    assert_eq!(total(&bench.out, "finals"), total(&bench.out, "matured"));
}

/// Asks for one step at a time at which nothing else happens.
struct Asking(i64);
crate::checkpoint::remembers_nothing!(Asking);

impl AlertEngine for Asking {
    fn step(&mut self, view: &StepView<'_>, out: &mut Vec<Output>) {
        let at = (view.step_end.as_ms() - START).unsigned_abs() / 1_000;
        out.push(Output::Observation(Observation::Tests { detector: "asked", n: at }));
        if view.step_end.as_ms() >= self.0 {
            self.0 = i64::MAX;
        }
    }

    fn next_due(&self, _tenant: &str) -> Option<EventTime> {
        (self.0 < i64::MAX).then_some(EventTime::from_ms(self.0))
    }
}

#[test]
fn the_alert_engine_gets_the_step_that_it_asked_for() {
    let mut journeys = journeys(1, &events(&[(0, 0, 0, 1, 0, Checkout::None)]), &[]);
    let asked = START + 100_000_001;
    let mut rollup = Rollup::new(settings(1), Box::new(Asking(asked)));
    let mut out = Vec::new();
    for flush in journeys[0].flushes.drain(..) {
        rollup.fold(Input::Flush(&flush), &mut out);
    }
    let last = out.last().cloned();
    // Steps end with slices: the first end at or after the time.
    assert_eq!(
        last,
        Some(Output::Observation(Observation::Tests { detector: "asked", n: 100_010 }))
    );
}

#[test]
fn tenants_do_not_mix_and_come_in_order() {
    let mut bench = Bench::new(2);
    bench.journeys[0].tenant = "b".into();
    bench.journeys[1].tenant = "a".into();
    bench.event(0, MINUTE, Checkout::None);
    bench.event(1, MINUTE, Checkout::None);
    bench.event(1, MINUTE + 1, Checkout::None);
    bench.close();
    let (live, _) = timed(&bench.out);
    let first: Vec<(&str, i64)> = live
        .iter()
        .filter(|(_, r)| r.window == "30s" && r.end == live[0].1.end && r.dimensions.is_empty())
        .map(|(_, r)| (r.tenant.as_str(), r.events))
        .collect();
    assert_eq!(first, [("a", 2), ("b", 1)]);
}
