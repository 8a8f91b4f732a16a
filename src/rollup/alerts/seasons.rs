//! How many events a series usually has in which hour, how clustered they come, and today's level.
//!
//! Rates are kept by hour of the week; until the hour of the week has been seen, by hour of the day
//! (UTC: a shift of daylight saving is covered by looking at neighbouring hours, too). Clustering is
//! measured over blocks of five minutes, longer than most sessions' pauses, from the differences of
//! neighbours, so that the daily pattern does not look like clustering. It keeps 192 numbers per
//! series and no history.

use crate::model::time::{EventTime, Millis, aligned_start};
use serde::{Deserialize, Serialize};

/// The grid of hours.
pub(super) const HOUR: Hour = Hour;
/// See [`HOUR`].
pub(super) struct Hour;

impl Hour {
    const LENGTH: Millis = Millis::from_hours(1);

    /// First moment after the hour that holds `at`.
    pub(super) fn end_of(&self, at: EventTime) -> EventTime {
        aligned_start(at, Hour::LENGTH).plus(Hour::LENGTH)
    }
}

const DAY: usize = 24;
const WEEK: usize = 168;
const BLOCK: Millis = Millis::from_mins(5);
/// What the newest day or week counts in an hour's rate.
const HOUR_NEWEST: f64 = 0.3;
/// What the newest block counts in today's level: half is forgotten in an hour and a half.
const LEVEL_NEWEST: f64 = 0.04;
/// What the newest block counts in the dispersion: half is forgotten in about a day.
const DISPERSION_NEWEST: f64 = 0.0025;
/// One pair of blocks says no more than this: a burst of traffic is no cluster.
const DISPERSION_MAX: f64 = 50.0;
/// So many blocks are looked at before the dispersion forgets.
const DISPERSION_FIRST: f64 = 12.0;
/// A jump of the clock is learned as so much quiet at most.
const QUIET_MAX: Millis = Millis::from_hours(48);

/// Mean events per second in one hour of day or week.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Cell {
    rate: f64,
    seen: bool,
}

/// What is usual for one series.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Seasons {
    learned: Learned,
    hour: Tally,
    block: Tally,
    /// Events of the block before.
    before: Option<i64>,
    dispersion: f64,
    blocks: f64,
    /// Forgetting sums of what came and of what usually comes.
    came: f64,
    usual: f64,
}

/// What is learned once an hour.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Learned {
    week: Vec<Cell>,
    day: Vec<Cell>,
}

/// Events since the start of an hour or block.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Tally {
    start: EventTime,
    length: Millis,
    events: i64,
    /// False if its beginning was missed.
    whole: bool,
}

impl Tally {
    fn new(at: EventTime, length: Millis) -> Tally {
        Tally { start: aligned_start(at, length), length, events: 0, whole: false }
    }

    fn end(&self) -> EventTime {
        self.start.plus(self.length)
    }

    fn next(&self) -> Tally {
        Tally { start: self.end(), length: self.length, events: 0, whole: true }
    }
}

impl Cell {
    fn learn(&mut self, rate: f64) {
        self.rate = if self.seen { self.rate + HOUR_NEWEST * (rate - self.rate) } else { rate };
        self.seen = true;
    }
}

fn hour_number(at: EventTime) -> i64 {
    at.as_ms().div_euclid(Hour::LENGTH.as_ms())
}

impl Seasons {
    /// Nothing is known yet at `at`.
    pub(super) fn new(at: EventTime) -> Seasons {
        Seasons {
            learned: Learned { week: vec![Cell::default(); WEEK], day: vec![Cell::default(); DAY] },
            hour: Tally::new(at, Hour::LENGTH),
            block: Tally::new(at, BLOCK),
            before: None,
            dispersion: 1.0,
            blocks: 0.0,
            came: 0.0,
            usual: 0.0,
        }
    }

    /// What is learned once an hour.
    pub(super) fn learned(&self) -> Learned {
        self.learned.clone()
    }

    /// All the rest.
    pub(super) fn without_learned(&self) -> Seasons {
        Seasons { learned: Learned::default(), ..self.clone() }
    }

    /// Takes over what was learned before.
    pub(super) fn learn_again(&mut self, learned: Learned) {
        self.learned = learned;
    }

    /// True if what is learned does not cover a week and a day.
    pub(super) fn is_broken(&self) -> bool {
        (self.learned.week.len(), self.learned.day.len()) != (WEEK, DAY)
    }

    /// Start of the running hour: what was learned changes with it only.
    pub(super) fn hour(&self) -> EventTime {
        self.hour.start
    }

    /// Counts `n` events at `at`. What is older than the running hour or block is not counted.
    pub(super) fn add(&mut self, at: EventTime, n: i64) {
        self.close(at, None);
        for tally in [&mut self.hour, &mut self.block] {
            if at >= tally.start {
                tally.events += n;
            }
        }
    }

    /// Closes what ended by `at`; what lies behind `silent_since` is not learned.
    pub(super) fn advance(&mut self, at: EventTime, silent_since: Option<EventTime>) {
        self.close(at, silent_since);
    }

    fn close(&mut self, at: EventTime, silent_since: Option<EventTime>) {
        if at.since(self.hour.end()) > QUIET_MAX {
            // Nothing is known about so long a jump: begin again, keep what is usual.
            self.hour = Tally::new(at, Hour::LENGTH);
            self.block = Tally::new(at, BLOCK);
            self.before = None;
        }
        let silent = |tally: &Tally| silent_since.is_some_and(|since| tally.end() > since);
        while self.block.end() <= at {
            if self.block.whole && !silent(&self.block) {
                self.learn_block();
            } else {
                self.before = None;
            }
            self.block = self.block.next();
        }
        while self.hour.end() <= at {
            if self.hour.whole && !silent(&self.hour) {
                let rate = self.hour.events as f64 / Hour::LENGTH.as_secs_f64();
                let number = hour_number(self.hour.start);
                self.learned.week[number.rem_euclid(WEEK as i64) as usize].learn(rate);
                self.learned.day[number.rem_euclid(DAY as i64) as usize].learn(rate);
            }
            self.hour = self.hour.next();
        }
    }

    fn learn_block(&mut self) {
        let events = self.block.events;
        if let Some(before) = self.before.filter(|before| before + events > 0) {
            let (a, b) = (before as f64, events as f64);
            // Half the square of the difference estimates the variance, half the sum the mean.
            let dispersion = ((a - b) * (a - b) / (a + b)).min(DISPERSION_MAX);
            self.blocks += 1.0;
            let weight = (1.0 / (self.blocks + DISPERSION_FIRST)).max(DISPERSION_NEWEST);
            self.dispersion += weight * (dispersion - self.dispersion);
        }
        self.before = Some(events);
        if let Some(usual) = self.usual_rate(hour_number(self.block.start)) {
            let expected = usual * BLOCK.as_secs_f64();
            self.came += LEVEL_NEWEST * (events as f64 - self.came);
            self.usual += LEVEL_NEWEST * (expected - self.usual);
        }
    }

    fn usual_rate(&self, hour: i64) -> Option<f64> {
        let week = self.learned.week[hour.rem_euclid(WEEK as i64) as usize];
        let day = self.learned.day[hour.rem_euclid(DAY as i64) as usize];
        if week.seen { Some(week.rate) } else { day.seen.then_some(day.rate) }
    }

    /// Least usual rate (events per second) of the hour that holds `at` and its neighbours; 0 if one
    /// of them is unknown.
    pub(super) fn least_rate(&self, at: EventTime) -> f64 {
        let hour = hour_number(at);
        let rates = [hour - 1, hour, hour + 1].map(|hour| self.usual_rate(hour).unwrap_or(0.0));
        rates.into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Today's level: what came lately over what usually comes, at most 1.
    pub(super) fn level(&self) -> f64 {
        if self.usual > 0.0 { (self.came / self.usual).min(1.0) } else { 1.0 }
    }

    /// Mean size of a cluster of events, at least 1.
    pub(super) fn dispersion(&self) -> f64 {
        self.dispersion.max(1.0)
    }

    /// Events of the running hour.
    pub(super) fn recent_events(&self) -> i64 {
        self.hour.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR_MS: i64 = 60 * MINUTE;

    /// Feeds `per_minute(minute)` events in each minute from `from` to `to` (hours).
    fn feed(seasons: &mut Seasons, from: i64, to: i64, per_minute: impl Fn(i64) -> i64) {
        for minute in from * 60..to * 60 {
            let at = EventTime::from_ms(minute * MINUTE);
            seasons.advance(at, None);
            seasons.add(at, per_minute(minute));
        }
    }

    #[test]
    fn an_hour_counts_like_the_least_of_its_neighbours() {
        let mut seasons = Seasons::new(EventTime::from_ms(0));
        feed(&mut seasons, 0, 49, |minute| if (minute / 60) % 24 == 12 { 6 } else { 60 });
        let check = |hour: i64, expected: f64| {
            let rate = seasons.least_rate(EventTime::from_ms(hour * HOUR_MS));
            assert!((rate - expected).abs() < 1e-9, "hour {hour}: {rate}");
        };
        check(48 + 10, 1.0);
        check(48 + 11, 0.1);
        check(48 + 12, 0.1);
        check(48 + 13, 0.1);
        check(48 + 14, 1.0);
    }

    #[test]
    fn an_unknown_hour_has_no_rate() {
        let mut seasons = Seasons::new(EventTime::from_ms(0));
        feed(&mut seasons, 0, 10, |_| 60);
        // The first hour was not seen from its start; the tenth is not over.
        for (hour, known) in [(1, false), (2, true), (7, true), (8, false)] {
            let rate = seasons.least_rate(EventTime::from_ms(hour * HOUR_MS));
            assert_eq!(rate > 0.0, known, "hour {hour}");
        }
    }

    #[test]
    fn clusters_show_as_dispersion_and_a_trend_does_not() {
        let check = |per_minute: &dyn Fn(i64) -> i64, least: f64, most: f64| {
            let mut seasons = Seasons::new(EventTime::from_ms(0));
            feed(&mut seasons, 0, 48, per_minute);
            let dispersion = seasons.dispersion();
            assert!((least..most).contains(&dispersion), "{dispersion}");
        };
        check(&|_| 10, 1.0, 1.01);
        check(&|minute| minute / 10, 1.0, 1.2);
        // Twenty events in every second block of five minutes: (20 − 0)² / 20.
        check(&|minute| if minute % 10 == 0 { 20 } else { 0 }, 18.0, 20.1);
    }

    #[test]
    fn a_quiet_day_lowers_the_level_and_a_busy_one_does_not_raise_it() {
        let check = |per_minute: i64, expected: f64| {
            let mut seasons = Seasons::new(EventTime::from_ms(0));
            feed(&mut seasons, 0, 48, |_| 60);
            feed(&mut seasons, 48, 60, |_| per_minute);
            assert!((seasons.level() - expected).abs() < 0.02, "{}", seasons.level());
        };
        check(60, 1.0);
        check(6, 0.1);
        check(120, 1.0);
    }

    #[test]
    fn a_silence_is_not_learned() {
        let mut seasons = Seasons::new(EventTime::from_ms(0));
        feed(&mut seasons, 0, 48, |_| 60);
        let before = seasons.least_rate(EventTime::from_ms(72 * HOUR_MS));
        let since = EventTime::from_ms(48 * HOUR_MS);
        seasons.advance(EventTime::from_ms(73 * HOUR_MS), Some(since));
        assert_eq!(seasons.least_rate(EventTime::from_ms(72 * HOUR_MS)), before);
        seasons.advance(EventTime::from_ms(97 * HOUR_MS), None);
        assert!(seasons.least_rate(EventTime::from_ms(72 * HOUR_MS)) < before);
    }
}
