//! Clock and watermark of a task, from the reports of the partitions behind it.
//!
//! | time | rule |
//! | --- | --- |
//! | clock | minimum over the reports' clocks; idle ones are left out while they are behind the others; all idle: the largest; never falling; none until every partition has reported |
//! | watermark | minimum over all reports' watermarks, idle ones included, those that never had data left out; at least clock − `outage_tolerance`; never falling; none while there is no clock |
//!
//! The clock fires timers, closes slices and drives evaluation. The watermark alone decides too late
//! and final. So silence is noticed at once, while a source that was out loses nothing when it is back.

use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};

/// What one partition behind a task says about its progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Claim that nothing older is expected; `None` if there never was data.
    pub watermark: Option<EventTime>,
    /// The watermark, plus the time waited while idle; `None` if there never was data.
    pub clock: Option<EventTime>,
    /// True while nothing is expected from it now.
    pub idle: bool,
}

impl Report {
    /// Takes over `newer`; neither time falls.
    pub fn update(&mut self, newer: Report) {
        self.watermark = self.watermark.max(newer.watermark);
        self.clock = self.clock.max(newer.clock);
        self.idle = newer.idle;
    }
}

/// Clock and watermark that follow from a set of reports alone (not yet protected from falling).
///
/// `None` if there is no clock: nothing has reported data, or what holds back has none.
pub fn combine(
    reports: impl Iterator<Item = Report> + Clone,
    outage_tolerance: Millis,
) -> Option<(EventTime, EventTime)> {
    let mut active_min: Option<Option<EventTime>> = None;
    let mut idle_max: Option<EventTime> = None;
    let mut watermark: Option<EventTime> = None;
    for report in reports {
        if report.idle {
            idle_max = idle_max.max(report.clock);
        } else {
            // An active partition without a clock holds everything back: it sorts first.
            active_min = Some(active_min.map_or(report.clock, |min| min.min(report.clock)));
        }
        if let Some(mark) = report.watermark {
            watermark = Some(watermark.map_or(mark, |least| least.min(mark)));
        }
    }
    let clock = match active_min {
        Some(min) => min?,
        None => idle_max?,
    };
    let floor = clock.minus(outage_tolerance);
    Some((clock, watermark.unwrap_or(floor).max(floor).min(clock)))
}

/// The reports behind one task, and the clock and watermark that follow.
#[derive(Clone, Debug)]
pub struct Progress<K> {
    outage_tolerance: Millis,
    /// Sorted by partition.
    reports: Vec<(K, Report)>,
    /// Place of the one that reported last: mostly the one that reports next.
    last: usize,
    expected: usize,
    clock: Option<EventTime>,
    watermark: Option<EventTime>,
}

impl<K: Ord + Clone> Progress<K> {
    /// Nothing has reported; `expected` partitions must before there is a clock.
    pub fn new(outage_tolerance: Millis, expected: usize) -> Progress<K> {
        Progress {
            outage_tolerance,
            reports: Vec::new(),
            last: 0,
            expected,
            clock: None,
            watermark: None,
        }
    }

    /// Raises the number of partitions that must have reported.
    pub fn expect(&mut self, partitions: usize) {
        self.expected = self.expected.max(partitions);
    }

    /// Takes over what a partition says.
    pub fn report(&mut self, partition: &K, report: Report) {
        if self.reports.get(self.last).is_none_or(|(last, _)| last != partition) {
            self.last = self.place(partition).unwrap_or_else(|at| {
                self.reports.insert(at, (partition.clone(), Report::default()));
                at
            });
        }
        self.reports[self.last].1.update(report);
    }

    /// Where the report of a partition is, or belongs.
    fn place(&self, partition: &K) -> Result<usize, usize> {
        self.reports.binary_search_by(|(known, _)| known.cmp(partition))
    }

    /// Takes over the watermark that came with a record: its partition is not idle.
    pub fn report_data(&mut self, partition: &K, watermark: EventTime) {
        let report = Report { watermark: Some(watermark), clock: Some(watermark), idle: false };
        self.report(partition, report);
    }

    /// Clock and watermark as the reports have them now; neither falls.
    pub fn advance(&mut self) {
        if self.reports.len() < self.expected {
            return;
        }
        if let Some((clock, watermark)) =
            combine(self.reports.iter().map(|(_, r)| *r), self.outage_tolerance)
        {
            self.clock = self.clock.max(Some(clock));
            self.watermark = self.watermark.max(Some(watermark));
        }
    }

    /// Moves clock and watermark to `to` at least: the input is closed.
    pub fn close(&mut self, to: EventTime) {
        self.clock = self.clock.max(Some(to));
        self.watermark = self.watermark.max(Some(to));
    }

    /// The clock; `None` before every partition has reported.
    pub fn clock(&self) -> Option<EventTime> {
        self.clock
    }

    /// The watermark; `None` while there is no clock.
    pub fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// True if every partition has reported and all are idle.
    pub fn all_idle(&self) -> bool {
        self.reports.len() >= self.expected && self.reports.iter().all(|(_, r)| r.idle)
    }

    /// What does not follow from the reports: how many are expected, clock and watermark.
    pub fn saved(&self) -> (usize, Option<EventTime>, Option<EventTime>) {
        (self.expected, self.clock, self.watermark)
    }

    /// Takes over what [`Progress::saved`] said.
    pub fn restore(
        &mut self,
        (expected, clock, watermark): (usize, Option<EventTime>, Option<EventTime>),
    ) {
        (self.expected, self.clock, self.watermark) = (expected, clock, watermark);
    }

    /// Replaces what one partition said; `None` forgets it.
    pub fn restore_report(&mut self, partition: K, report: Option<Report>) {
        match (self.place(&partition), report) {
            (Ok(at), Some(report)) => self.reports[at].1 = report,
            (Ok(at), None) => drop(self.reports.remove(at)),
            (Err(at), Some(report)) => self.reports.insert(at, (partition, report)),
            (Err(_), None) => {}
        }
    }

    /// What the partitions said last.
    pub fn reports(&self) -> impl Iterator<Item = (&K, &Report)> {
        self.reports.iter().map(|(partition, report)| (partition, report))
    }

    /// What one partition said last.
    pub fn get(&self, partition: &K) -> Option<&Report> {
        self.place(partition).ok().map(|at| &self.reports[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(watermark: i64, clock: i64, idle: bool) -> Report {
        Report {
            watermark: Some(EventTime::from_ms(watermark)),
            clock: Some(EventTime::from_ms(clock)),
            idle,
        }
    }

    #[track_caller]
    fn check(reports: &[Report], expected: Option<(i64, i64)>) {
        let got = combine(reports.iter().copied(), Millis::from_ms(1_000));
        assert_eq!(got.map(|(c, w)| (c.as_ms(), w.as_ms())), expected);
    }

    #[test]
    fn the_two_rules() {
        check(&[], None);
        check(&[report(5, 5, false)], Some((5, 5)));
        // The slowest active one holds both.
        check(&[report(500, 500, false), report(90, 90, false)], Some((90, 90)));
        // An idle one behind the others holds the watermark, not the clock.
        check(&[report(500, 500, false), report(90, 300, true)], Some((500, 90)));
        // ... and the watermark by no more than the outage tolerance.
        check(&[report(5_000, 5_000, false), report(90, 90, true)], Some((5_000, 4_000)));
        // All idle: the largest clock.
        check(&[report(50, 60, true), report(90, 95, true)], Some((95, 50)));
        // Never had data: idle without a watermark is left out of both.
        check(&[report(50, 50, false), Report { idle: true, ..Report::default() }], Some((50, 50)));
        // Active without a clock holds everything.
        check(&[report(50, 50, false), Report::default()], None);
    }

    #[test]
    fn neither_time_falls_and_all_must_have_reported() {
        let mut progress: Progress<u8> = Progress::new(Millis::from_ms(1_000), 2);
        progress.report_data(&0, EventTime::from_ms(100));
        progress.advance();
        assert_eq!(progress.clock(), None);
        progress.report(&1, Report { idle: true, ..Report::default() });
        progress.advance();
        assert_eq!(progress.clock(), Some(EventTime::from_ms(100)));
        progress.report_data(&1, EventTime::from_ms(20));
        progress.advance();
        assert_eq!(progress.clock(), Some(EventTime::from_ms(100)));
        assert_eq!(progress.watermark(), Some(EventTime::from_ms(100)));
    }
}
