//! What the fold must know beforehand, and the windows as counts of slices.

use crate::model::ids::PartitionId;
use crate::model::time::{EventTime, Millis, Slice, SliceGrid};
use compact_str::{CompactString, ToCompactString};

/// At most one record per key of `engagement.channel_stage` in this much of the clock.
pub(super) const REVISION_INTERVAL: Millis = Millis::from_mins(1);

/// One rolling window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSpec {
    /// How long it is; a multiple of the slide.
    pub length: Millis,
    /// How often it is evaluated; a multiple of the slice.
    pub slide: Millis,
}

/// What one rollup task must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Name of the application, for messages.
    pub app: CompactString,
    /// The task's partition, for messages.
    pub partition: PartitionId,
    /// Generation of the flushes; `None` takes that of each journey partition's first flush.
    pub generation: Option<u64>,
    /// Length of a slice.
    pub slice: Millis,
    /// The windows, in any order.
    pub windows: Vec<WindowSpec>,
    /// How long behind the watermark data still amend.
    pub allowed_lateness: Millis,
    /// How far the watermark may be behind the clock.
    pub outage_tolerance: Millis,
    /// The largest time after which an untouched checkout counts as abandoned.
    pub t_checkout: Millis,
    /// The age at which every checkout is decided.
    pub max_checkout_age: Millis,
    /// The topic that evidence refers to.
    pub canonical_topic: CompactString,
    /// How many journey partitions there are: there is no clock before each has reported.
    pub journey_partitions: i32,
}

/// One window, counted in slices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// As records name it.
    pub(super) name: CompactString,
    pub(super) length: Millis,
    /// Slices in the window (m).
    pub(super) slices: i64,
    /// Slices in a slide; a slide's worth of slices is a pane.
    pub(super) slide: i64,
    /// Panes in the window.
    pub(super) panes: i64,
}

/// The settings as the fold uses them.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) grid: SliceGrid,
    /// Sorted by length.
    pub(super) windows: Vec<Window>,
    pub(super) allowed_lateness: Millis,
    pub(super) t_checkout: Millis,
    pub(super) max_checkout_age: Millis,
    /// How long evidence is kept.
    pub(super) evidence_kept: Millis,
}

impl Plan {
    /// # Panics
    /// If a slide is no multiple of the slice or does not divide its window; configuration checks
    /// that first.
    pub(super) fn new(settings: &Settings) -> Plan {
        let grid = SliceGrid::new(settings.slice);
        let mut windows: Vec<Window> =
            settings.windows.iter().map(|spec| Window::new(grid, *spec)).collect();
        windows.sort_by_key(|w| w.length);
        let longest = windows.last().map_or(Millis::ZERO, |w| w.length);
        let kept = [longest, settings.t_checkout, settings.allowed_lateness, settings.t_checkout];
        Plan {
            grid,
            windows,
            allowed_lateness: settings.allowed_lateness,
            t_checkout: settings.t_checkout,
            max_checkout_age: settings.max_checkout_age,
            evidence_kept: Millis::from_ms(kept.iter().map(|l| l.as_ms()).sum()),
        }
    }

    /// The first step at which the clock is at `at` or beyond.
    pub(super) fn step_at(&self, at: EventTime) -> Slice {
        self.grid.slice(at.minus(Millis::from_ms(1)))
    }

    /// Start and end of the `index`-th aligned window.
    pub(super) fn bounds(&self, window: &Window, index: i64) -> (EventTime, EventTime) {
        let first = Slice::from_number(index * window.slices);
        (self.grid.start(first), self.grid.end(first.plus(window.slices - 1)))
    }
}

impl Window {
    fn new(grid: SliceGrid, spec: WindowSpec) -> Window {
        let (length, slide, slice) =
            (spec.length.as_ms(), spec.slide.as_ms(), grid.length().as_ms());
        assert!(slide > 0 && slide % slice == 0, "a slide is a multiple of the slice");
        assert!(length > 0 && length % slide == 0, "a slide divides its window");
        Window {
            name: spec.length.to_compact_string(),
            length: spec.length,
            slices: length / slice,
            slide: slide / slice,
            panes: length / slide,
        }
    }

    /// The aligned window that `slice` falls into.
    pub(super) fn index(&self, slice: Slice) -> i64 {
        slice.number().div_euclid(self.slices)
    }

    /// The pane that `slice` falls into.
    pub(super) fn pane(&self, slice: i64) -> i64 {
        slice.div_euclid(self.slide)
    }

    /// True if a slide ends with `step`.
    pub(super) fn slides_at(&self, step: Slice) -> bool {
        (step.number() + 1).rem_euclid(self.slide) == 0
    }

    /// The first step after `step` with which a slide ends.
    pub(super) fn next_slide(&self, step: Slice) -> Slice {
        Slice::from_number((self.pane(step.number() + 1) + 1) * self.slide - 1)
    }
}

#[cfg(test)]
impl Plan {
    /// Slices of 10 s, windows of 1 min sliding by 30 s, 10 min lateness, T of 5 min, age of 1 h.
    pub(super) fn for_tests() -> Plan {
        Plan::new(&Settings {
            app: "test".into(),
            partition: PartitionId::new(0),
            generation: None,
            slice: Millis::from_secs(10),
            windows: vec![WindowSpec {
                length: Millis::from_mins(1),
                slide: Millis::from_secs(30),
            }],
            allowed_lateness: Millis::from_mins(10),
            outage_tolerance: Millis::from_hours(1),
            t_checkout: Millis::from_mins(5),
            max_checkout_age: Millis::from_hours(1),
            canonical_topic: "touchpoints.canonical".into(),
            journey_partitions: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let spec = WindowSpec { length: Millis::from_secs(60), slide: Millis::from_secs(30) };
        Window::new(SliceGrid::new(Millis::from_secs(10)), spec)
    }

    #[track_caller]
    fn check(step: i64, slides: bool, next: i64) {
        let window = window();
        assert_eq!(window.slides_at(Slice::from_number(step)), slides);
        assert_eq!(window.next_slide(Slice::from_number(step)).number(), next);
    }

    #[test]
    fn slides_end_with_the_last_slice_of_a_pane() {
        check(0, false, 2);
        check(1, false, 2);
        check(2, true, 5);
        check(-1, true, 2);
        check(-2, false, -1);
    }

    #[test]
    fn a_step_is_due_when_its_end_reaches_the_time() {
        let plan = Plan::for_tests();
        let check = |ms: i64, step: i64| {
            assert_eq!(plan.step_at(EventTime::from_ms(ms)).number(), step);
        };
        check(10_000, 0);
        check(10_001, 1);
        check(0, -1);
        let (start, end) = plan.bounds(&window(), -1);
        assert_eq!((start.as_ms(), end.as_ms()), (-60_000, 0));
    }
}
