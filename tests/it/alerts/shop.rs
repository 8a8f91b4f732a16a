//! A small seeded shop that shows its steps to the alert engine as the rollup fold would: slices of
//! events in clusters (sessions), and 5-minute cohorts of checkouts, 30 minutes after their end.

use crate::checkpoint::{Kept, Log, all};
use compact_str::CompactString;
use std::collections::{BTreeMap, VecDeque};
use touchline::engine::{Fact, Output};
use touchline::model::dimension::{Dimension, Dimensions};
use touchline::model::figures::{Cohort, Figures};
use touchline::model::observation::Observation;
use touchline::model::record::AlertRecord;
use touchline::model::time::{EventTime, Millis, Slice, SliceGrid};
use touchline::rollup::alerts::{Alerts, Rule, Settings};
use touchline::rollup::step::{AlertEngine, StepView, WindowView};

pub(super) const CHANNELS: [&str; 6] = ["web", "app", "store", "email", "call", "kiosk"];
/// Checkouts in 5 minutes at the peak.
const CHECKOUTS: [f64; 6] = [60.0, 25.0, 10.0, 0.0, 3.0, 5.0];
const RATES: [f64; 6] = [0.35, 0.42, 0.15, 0.3, 0.25, 0.3];
/// Sessions in a second at the peak.
const SESSIONS: [f64; 6] = [0.4, 0.2, 0.03, 0.05, 0.004, 0.01];
/// Events of a session in the mean.
const SESSION_EVENTS: f64 = 6.0;
const SLICES_OF_WINDOW: i64 = 30;
const MINUTE: i64 = 60_000;

/// Checkouts break, in one channel or all; minutes since the start.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) channel: Option<usize>,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) rate: f64,
}

pub(super) struct Shop {
    random: Random,
    alerts: Alerts,
    pub(super) scale: f64,
    /// Minute of the first day at which it begins.
    pub(super) start: i64,
    pub(super) faults: Vec<Fault>,
    /// From, to (minutes), factor of traffic.
    pub(super) promotion: Option<(i64, i64, f64)>,
    /// Channel, from, to (minutes).
    pub(super) silence: Option<(usize, i64, i64)>,
    /// Share of checkouts whose payment is pending for a day.
    pub(super) pending: f64,
    /// Cohorts that are not mature 30 min after their end are not shown.
    pub(super) only_mature: bool,
    /// How far the watermark is behind (minutes): a quiet source.
    pub(super) lag: i64,
    pub(super) closed_after: Option<i64>,
    /// From, to (minutes): no steps; the one after has all that came meanwhile.
    pub(super) jump: Option<(i64, i64)>,
    held: Vec<(usize, Slice, i64)>,
    /// After so many steps the alerts are written down and made again.
    pub(super) torn_every: Option<i64>,
    log: Log,
    dimensions: Vec<Dimensions>,
    /// Events to come, by slice ahead, per channel.
    ahead: Vec<VecDeque<i64>>,
    cohorts: BTreeMap<EventTime, Vec<Cohort>>,
}

#[derive(Default)]
pub(super) struct Summary {
    pub(super) records: Vec<AlertRecord>,
    pub(super) tests: u64,
}

fn new_alerts() -> Alerts {
    let rules = vec![Rule::checkout_abandonment_spike(), Rule::channel_silent()];
    let slice = Millis::from_secs(10);
    let canonical_topic = "touchpoints.canonical".into();
    Alerts::new(Settings { app: "test".into(), canonical_topic, slice, rules })
}

impl Shop {
    pub(super) fn new(seed: u64) -> Shop {
        let of = |name: &&str| Dimensions::new([(Dimension::Channel, CompactString::from(*name))]);
        Shop {
            random: Random(Random(seed).next()),
            alerts: new_alerts(),
            scale: 1.0,
            start: 0,
            faults: Vec::new(),
            promotion: None,
            silence: None,
            pending: 0.0,
            only_mature: false,
            lag: 0,
            closed_after: None,
            jump: None,
            held: Vec::new(),
            torn_every: None,
            log: Log::default(),
            dimensions: CHANNELS.iter().map(of).collect(),
            ahead: vec![VecDeque::new(); CHANNELS.len()],
            cohorts: BTreeMap::new(),
        }
    }

    /// Runs for so many minutes.
    pub(super) fn run(mut self, minutes: i64) -> Summary {
        let grid = SliceGrid::new(Millis::from_secs(10));
        let mut summary = Summary::default();
        for number in 0..minutes * 6 {
            if self.torn_every.is_some_and(|every| number % every == every - 1) {
                self.tear(number);
            }
            let slice = Slice::from_number(number);
            let end = grid.end(slice);
            let minute = number / 6;
            let closed = self.closed_after.is_some_and(|after| minute >= after);
            let counts = if closed { vec![0; CHANNELS.len()] } else { self.events(minute) };
            if (number + 1) % SLICES_OF_WINDOW == 0 {
                let start = end.minus(Millis::from_mins(5));
                let cohorts = self.window(start.as_ms() / MINUTE);
                self.cohorts.insert(start, cohorts);
            }
            let counts = counts.into_iter().enumerate().filter(|(_, n)| *n > 0);
            self.held.extend(counts.map(|(channel, n)| (channel, slice, n)));
            if !self.jump.is_some_and(|(from, to)| (from..to).contains(&minute)) {
                self.step(end, closed, &mut summary);
            }
        }
        summary
    }

    fn tear(&mut self, number: i64) {
        self.log.write(&mut self.alerts);
        let place = usize::try_from(number).unwrap();
        let restored = |kept| {
            let mut again = new_alerts();
            self.log.restore(&mut again, kept);
            again
        };
        let state = all(&mut restored(Kept::of(place)));
        assert_eq!(state, all(&mut self.alerts), "slice {number}");
        self.alerts = restored(Kept::of(place + 1));
    }

    fn step(&mut self, end: EventTime, closed: bool, summary: &mut Summary) {
        let minutes = |n| Millis::from_mins(n);
        let shown = end.minus(minutes(35));
        let mut matured = Vec::new();
        for (start, cohorts) in self.cohorts.range(..=shown) {
            let total = cohorts.iter().fold(Cohort::default(), |mut sum, cohort| {
                sum.add(cohort);
                sum
            });
            matured.push((*start, Dimensions::TOTAL, total));
            let parts = self.dimensions.iter().zip(cohorts);
            matured.extend(parts.map(|(of, cohort)| (*start, of.clone(), cohort.clone())));
        }
        matured.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        self.cohorts.retain(|at, _| *at > shown);
        let figures: Vec<Figures> = matured.iter().map(|(_, _, cohort)| worth(cohort)).collect();
        let windows: Vec<WindowView<'_>> = matured
            .iter()
            .zip(&figures)
            .map(|((start, of, cohort), figures)| (start, of, cohort, figures, is_mature(cohort)))
            .filter(|(_, _, _, _, mature)| *mature || !self.only_mature)
            .map(|(start, dimensions, cohort, figures, mature)| WindowView {
                window: minutes(5),
                start: *start,
                end: start.plus(minutes(5)),
                dimensions,
                figures,
                customers: cohort.started,
                cohort,
                mature,
                is_final: false,
                completeness: if self.lag > 30 { 0.0 } else { 1.0 },
            })
            .collect();
        let held = std::mem::take(&mut self.held);
        let mut events: Vec<(&Dimensions, Slice, i64)> = held
            .iter()
            .map(|(channel, slice, n)| (&self.dimensions[*channel], *slice, *n))
            .collect();
        events.sort();
        let evidence =
            |from: EventTime, to: EventTime| vec![(3, from.as_ms() / 1_000, to.as_ms() / 1_000)];
        let view = StepView {
            tenant: "shop",
            step_end: end,
            watermark: end.minus(minutes(self.lag)),
            completeness: if self.lag > 0 { 0.0 } else { 1.0 },
            closed,
            matured: &windows,
            revised: &[],
            finals: &[],
            events: &events,
            evidence: &evidence,
        };
        let mut out = Vec::new();
        self.alerts.step(&view, &mut out);
        for output in out {
            match output {
                Output::Fact(Fact::Alert(record)) => summary.records.push(*record),
                Output::Observation(Observation::Tests { n, .. }) => summary.tests += n,
                Output::Observation(Observation::Alert { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Traffic of one minute relative to the peak: nights at 7 %, evenings strong.
    fn traffic(&self, minute: i64) -> f64 {
        let of_day = (minute + self.start).rem_euclid(1_440) as f64 / 1_440.0;
        let wave = (1.0 - (std::f64::consts::TAU * (of_day + 0.05)).cos()) / 2.0;
        let promotion = match self.promotion {
            Some((from, to, factor)) if (from..to).contains(&minute) => factor,
            _ => 1.0,
        };
        self.scale * promotion * (0.07 + 0.93 * wave * wave.sqrt())
    }

    /// Stores are closed at night and on every seventh day.
    fn is_closed(&self, channel: usize, minute: i64) -> bool {
        let minute = minute + self.start;
        CHANNELS[channel] == "store"
            && (!(480..1_320).contains(&minute.rem_euclid(1_440)) || minute / 1_440 % 7 == 6)
    }

    fn events(&mut self, minute: i64) -> Vec<i64> {
        let traffic = self.traffic(minute);
        let mut counts = Vec::new();
        for (channel, sessions) in SESSIONS.iter().enumerate() {
            let open = if self.is_closed(channel, minute) { 0.0 } else { 1.0 };
            let sessions = self.random.poisson(sessions * 10.0 * traffic * open);
            for _ in 0..sessions {
                let mut at = self.random.unit() * 10.0;
                loop {
                    let ahead = &mut self.ahead[channel];
                    let slot = (at / 10.0) as usize;
                    while ahead.len() <= slot {
                        ahead.push_back(0);
                    }
                    ahead[slot] += 1;
                    if self.random.unit() < 1.0 / SESSION_EVENTS {
                        break;
                    }
                    at += self.random.exponential(35.0);
                }
            }
            let n = self.ahead[channel].pop_front().unwrap_or(0);
            let silent = self
                .silence
                .is_some_and(|(of, from, to)| of == channel && (from..to).contains(&minute));
            counts.push(if silent { 0 } else { n });
        }
        counts
    }

    /// The cohorts, by channel, of the window that starts at `minute`.
    fn window(&mut self, minute: i64) -> Vec<Cohort> {
        let traffic = self.traffic(minute);
        (0..CHANNELS.len())
            .map(|channel| {
                let open = if self.is_closed(channel, minute) { 0.0 } else { 1.0 };
                let started = self.random.poisson(CHECKOUTS[channel] * traffic * open);
                // Rates have a daily pattern of ±2 points and differ a little by window.
                let of_day = minute as f64 / 1_440.0;
                let daily = 0.02 * (std::f64::consts::TAU * of_day).sin();
                let noise = 0.02 * self.random.normal();
                let usual = (RATES[channel] + daily + noise).clamp(0.01, 0.99);
                let mut cohort = Cohort { started, ..Cohort::default() };
                for i in 0..started {
                    let at = minute as f64 + 5.0 * i as f64 / started as f64;
                    let mut rate = usual;
                    for fault in &self.faults {
                        let here = fault.channel.is_none_or(|of| of == channel);
                        if here && (fault.from as f64..fault.to as f64).contains(&at) {
                            rate = rate.max(fault.rate);
                        }
                    }
                    if self.random.unit() < self.pending {
                        continue;
                    }
                    if self.random.unit() < rate {
                        cohort.abandoned += 1;
                    } else {
                        cohort.completed += 1;
                    }
                }
                cohort
            })
            .collect()
    }
}

fn is_mature(cohort: &Cohort) -> bool {
    cohort.undecided() * 20 <= cohort.started
}

fn worth(cohort: &Cohort) -> Figures {
    let mut figures = Figures { orders: cohort.completed, ..Figures::default() };
    figures.value.add("EUR", i128::from(cohort.completed) * 4_990);
    figures
}

impl Summary {
    /// Name and dimensions of what fired, in order.
    pub(super) fn fired(&self) -> Vec<String> {
        let firing = self.of("firing");
        firing
            .map(|record| {
                let dimensions: Vec<String> =
                    record.dimensions.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{} {}", record.alert, dimensions.join(","))
            })
            .collect()
    }

    pub(super) fn of(&self, transition: &str) -> impl Iterator<Item = &AlertRecord> {
        self.records
            .iter()
            .filter(move |r| format!("{:?}", r.transition).to_lowercase() == transition)
    }

    /// Sequences without gaps, one `resolved` per episode that fired and nothing after it, ids unique.
    pub(super) fn check_contract(&self) {
        let mut episodes: BTreeMap<&str, Vec<&AlertRecord>> = BTreeMap::new();
        let mut ids: Vec<&str> = Vec::new();
        for record in &self.records {
            episodes.entry(&record.episode).or_default().push(record);
            ids.push(&record.id);
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.records.len());
        for records in episodes.values() {
            let words: Vec<String> =
                records.iter().map(|r| format!("{:?}", r.transition).to_lowercase()).collect();
            for (i, record) in records.iter().enumerate() {
                assert_eq!(record.sequence, i as i64, "{words:?}");
                assert_eq!(record.starts_at, records[0].starts_at);
            }
            let fired = words.iter().any(|word| word == "firing");
            let last = if fired { "resolved" } else { "suppressed" };
            assert_eq!(words.iter().filter(|word| *word == last).count(), 1, "{words:?}");
            assert_eq!(words.last().map(String::as_str), Some(last), "{words:?}");
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// By products of uniforms; `mean` below 500.
    fn poisson(&mut self, mean: f64) -> i64 {
        if mean <= 0.0 {
            return 0;
        }
        let limit = (-mean).exp();
        let (mut n, mut product) = (0, self.unit());
        while product > limit {
            n += 1;
            product *= self.unit();
        }
        n
    }
}
