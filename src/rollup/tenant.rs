//! All windows of one tenant, and what happens to them at a step.

mod state;

use super::agenda::{Agenda, Entry, Key};
use super::aligned::Aligned;
use super::effects::{Effects, Seen};
use super::evidence::Evidence;
use super::inbox::{Bucket, Delta, Moment};
use super::live::Live;
use super::records::{self, About, Label, Revision};
use super::settings::Plan;
use super::step::{AlertEngine, StepView, WindowView};
use crate::engine::state::Dirty;
use crate::engine::{Fact, Output};
use crate::model::dimension::Dimensions;
use crate::model::time::{EventTime, Slice};
use compact_str::CompactString;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use state::Part;
use std::collections::{BTreeMap, BTreeSet};

/// One series: what it is about, and its rolling windows, one per length.
#[derive(Clone, Debug)]
struct Series {
    dimensions: Dimensions,
    label: Label,
    live: Vec<Live>,
}

/// One aligned window, and what it is entered under in the agenda.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Held {
    content: Aligned,
    entry: Entry,
}

/// One tenant.
#[derive(Clone, Debug)]
pub(super) struct Tenant {
    name: CompactString,
    /// Series are numbered as they come; whatever order can be seen is that of their dimensions.
    numbers: BTreeMap<Dimensions, u32>,
    series: Vec<Series>,
    /// Series that are not silent, by window length.
    active: Vec<BTreeSet<u32>>,
    /// Never iterated: the agenda names its keys.
    windows: HashMap<Key, Held>,
    agenda: Agenda,
    evidence: Evidence,
    dirty: Dirty<Part>,
    /// What has been restored and is not put together yet.
    staged: Option<Box<state::Staged>>,
}

impl Tenant {
    pub(super) fn new(name: CompactString, plan: &Plan) -> Tenant {
        Tenant {
            name,
            numbers: BTreeMap::new(),
            series: Vec::new(),
            active: vec![BTreeSet::new(); plan.windows.len()],
            windows: HashMap::new(),
            agenda: Agenda::default(),
            evidence: Evidence::default(),
            dirty: Dirty::default(),
            staged: None,
        }
    }

    /// The number of a series.
    pub(super) fn series(&mut self, dimensions: &Dimensions) -> u32 {
        if let Some(number) = self.numbers.get(dimensions) {
            return *number;
        }
        let number = u32::try_from(self.series.len()).expect("series are capped far below 2^32");
        self.dirty.touch(Part::Series(number));
        self.numbers.insert(dimensions.clone(), number);
        self.series.push(Series {
            dimensions: dimensions.clone(),
            label: Label::new(dimensions),
            live: vec![Live::default(); self.active.len()],
        });
        number
    }

    /// True if the series of this number is the tenant's total.
    pub(super) fn is_total(&self, number: u32) -> bool {
        self.series[number as usize].dimensions.is_total()
    }

    /// One step: cells, rolling windows, aligned windows, alerts, in this order. Returns the next
    /// step that is needed even if nothing comes in.
    pub(super) fn step(
        &mut self,
        now: &Moment,
        bucket: Option<Bucket>,
        plan: &Plan,
        alerts: &mut dyn AlertEngine,
        out: &mut Vec<Output>,
    ) -> Option<Slice> {
        self.dirty.touch(Part::Head);
        let mut effects = Effects::default();
        if let Some(bucket) = bucket {
            self.apply(bucket, now, plan, &mut effects);
        }
        self.slide(now, plan, &mut effects, out);
        self.decide(now, plan, &mut effects, out);
        effects.report(out);
        self.alert(now, plan, &effects, alerts, out);
        for key in &effects.over {
            self.dirty.remove(Part::Window(*key));
            self.windows.remove(key);
        }
        self.next_step(now.step, plan, alerts.next_due(&self.name))
    }

    fn apply(&mut self, bucket: Bucket, now: &Moment, plan: &Plan, effects: &mut Effects) {
        for (at, delta) in &bucket.cells {
            let (slice, series) = *at;
            let events = delta.figures.events;
            let total = self.is_total(series);
            if plan.grid.end(slice) <= now.floor {
                effects.late += if total { events } else { 0 };
                self.apply_past(*at, delta, now, plan, effects);
                continue;
            }
            effects.counted += if total { events } else { 0 };
            if events != 0 {
                effects.events.push((series, slice, events));
            }
            self.apply_live(*at, delta, now, plan);
            self.apply_aligned(*at, delta, now, plan, effects);
        }
        for (slice, stretch) in bucket.evidence {
            self.evidence.add(slice, stretch);
        }
        self.evidence.forget_before(plan.grid.slice(now.end.minus(plan.evidence_kept)));
    }

    /// Past finality only the fate of checkouts is news, for windows that still wait for it.
    fn apply_past(
        &mut self,
        (slice, series): (Slice, u32),
        delta: &Delta,
        now: &Moment,
        plan: &Plan,
        effects: &mut Effects,
    ) {
        for (spec, window) in plan.windows.iter().enumerate() {
            let key = Key { spec, index: window.index(slice), series };
            if let Some(held) = self.windows.get_mut(&key) {
                self.dirty.touch(Part::Window(key));
                held.content.add_cohort(&delta.cohort);
                if plan.bounds(window, key.index).1 <= now.end {
                    effects.changed.insert(key);
                }
            }
        }
    }

    fn apply_live(
        &mut self,
        (slice, series): (Slice, u32),
        delta: &Delta,
        now: &Moment,
        plan: &Plan,
    ) {
        for (spec, window) in plan.windows.iter().enumerate() {
            self.dirty.touch(Part::Live(spec, series));
            let live = &mut self.series[series as usize].live[spec];
            live.add(window, slice, now.step, &delta.figures);
            live.link(window, slice, now.step, &delta.links);
            if !live.is_silent() {
                self.active[spec].insert(series);
            }
        }
    }

    fn apply_aligned(
        &mut self,
        (slice, series): (Slice, u32),
        delta: &Delta,
        now: &Moment,
        plan: &Plan,
        effects: &mut Effects,
    ) {
        for (spec, window) in plan.windows.iter().enumerate() {
            let key = Key { spec, index: window.index(slice), series };
            let (start, end) = plan.bounds(window, key.index);
            self.dirty.touch(Part::Window(key));
            let held = self.windows.entry(key).or_insert_with(|| {
                // One that was final is not there, and does not come back: its slices are past.
                let mut held = Held::default();
                self.agenda.enter(key, &mut held.entry, Some(end), None);
                held
            });
            held.content.add(plan.grid.slice(start), slice, delta);
            if end <= now.end {
                effects.changed.insert(key);
            }
        }
    }

    fn slide(&mut self, now: &Moment, plan: &Plan, effects: &mut Effects, out: &mut Vec<Output>) {
        for (spec, window) in plan.windows.iter().enumerate() {
            if !window.slides_at(now.step) || self.active[spec].is_empty() {
                continue;
            }
            let mut active: Vec<u32> = self.active[spec].iter().copied().collect();
            active.sort_by_key(|number| &self.series[*number as usize].dimensions);
            for number in active {
                self.dirty.touch(Part::Live(spec, number));
                let Series { live, label, .. } = &mut self.series[number as usize];
                let live = &mut live[spec];
                if live.slide(window, now.step) {
                    let about = About {
                        tenant: &self.name,
                        window,
                        label,
                        start: now.end.minus(window.length),
                        end: now.end,
                        completeness: now.completeness(now.end),
                    };
                    let record = records::live(&about, live.figures(), live.customers());
                    out.push(Output::Fact(Fact::Live(Box::new(record))));
                    effects.live_records += 1;
                } else if live.is_silent() {
                    live.rest(window);
                    self.active[spec].remove(&number);
                }
            }
        }
    }

    fn decide(&mut self, now: &Moment, plan: &Plan, effects: &mut Effects, out: &mut Vec<Output>) {
        let mut due = effects.changed.clone();
        self.agenda.due(now.end, now.watermark, &mut due);
        for key in self.ordered(due) {
            let window = &plan.windows[key.spec];
            let (start, end) = plan.bounds(window, key.index);
            self.dirty.touch(Part::Window(key));
            let held = self.windows.get_mut(&key).expect("the agenda forgets what is over");
            let had_matured = held.content.has_matured;
            let verdict = held.content.decide(end, now, plan);
            let wake = if verdict.over { (None, None) } else { (verdict.clock, verdict.watermark) };
            self.agenda.enter(key, &mut held.entry, wake.0, wake.1);
            if let Some(number) = verdict.revision {
                let about = About {
                    tenant: &self.name,
                    window,
                    label: &self.series[key.series as usize].label,
                    start,
                    end,
                    completeness: now.completeness(end),
                };
                let revision = Revision { number, mature: verdict.mature, is_final: verdict.over };
                let record = records::window(&about, &held.content, &revision);
                out.push(Output::Fact(Fact::Window(Box::new(record))));
                effects.revisions += 1;
            }
            effects.note(key, had_matured, &verdict);
            if verdict.revision.is_some() && verdict.active {
                self.follow(Key { index: key.index + 1, ..key }, now, plan);
            }
        }
    }

    /// Sees to it that the window after one with something in it is shown, be it with zeros.
    fn follow(&mut self, key: Key, now: &Moment, plan: &Plan) {
        let (_, end) = plan.bounds(&plan.windows[key.spec], key.index);
        if end <= now.end {
            return;
        }
        self.dirty.touch(Part::Window(key));
        match self.windows.get_mut(&key) {
            Some(held) => held.content.follow(),
            None => {
                let mut held = Held { content: Aligned::following(), entry: Entry::default() };
                self.agenda.enter(key, &mut held.entry, Some(end), None);
                self.windows.insert(key, held);
            }
        }
    }

    /// By length, start and dimensions.
    fn ordered(&self, keys: BTreeSet<Key>) -> Vec<Key> {
        let mut keys: Vec<Key> = keys.into_iter().collect();
        let place = |k: &Key| (k.spec, k.index, &self.series[k.series as usize].dimensions);
        keys.sort_by(|a, b| place(a).cmp(&place(b)));
        keys
    }

    fn alert(
        &self,
        now: &Moment,
        plan: &Plan,
        effects: &Effects,
        alerts: &mut dyn AlertEngine,
        out: &mut Vec<Output>,
    ) {
        let view = |seen: &Seen| self.view(seen, now, plan);
        let views = |seen: &[Seen]| seen.iter().map(view).collect::<Vec<WindowView<'_>>>();
        let dimensions = |series: u32| &self.series[series as usize].dimensions;
        let mut events: Vec<(&Dimensions, Slice, i64)> = effects
            .events
            .iter()
            .map(|(series, slice, n)| (dimensions(*series), *slice, *n))
            .collect();
        events.sort_unstable();
        let step = StepView {
            tenant: &self.name,
            step_end: now.end,
            watermark: now.watermark,
            completeness: now.completeness(now.end),
            closed: now.closed,
            matured: &views(&effects.matured),
            revised: &views(&effects.revised),
            finals: &views(&effects.finals),
            events: &events,
            evidence: &|from, to| self.evidence.of(plan.grid, from, to),
        };
        alerts.step(&step, out);
    }

    fn view(&self, seen: &Seen, now: &Moment, plan: &Plan) -> WindowView<'_> {
        let window = &plan.windows[seen.key.spec];
        let (start, end) = plan.bounds(window, seen.key.index);
        let content = &self.windows[&seen.key].content;
        WindowView {
            window: window.length,
            start,
            end,
            dimensions: &self.series[seen.key.series as usize].dimensions,
            figures: &content.figures,
            customers: content.customers,
            cohort: &content.cohort,
            mature: seen.mature,
            is_final: seen.is_final,
            completeness: now.completeness(end),
        }
    }

    fn next_step(&self, step: Slice, plan: &Plan, alerts: Option<EventTime>) -> Option<Slice> {
        let slides = plan
            .windows
            .iter()
            .zip(&self.active)
            .filter(|(_, active)| !active.is_empty())
            .map(|(window, _)| window.next_slide(step));
        let asked = alerts.map(|at| plan.step_at(at).max(step.plus(1)));
        slides.chain(self.agenda.next_step(step, plan)).chain(asked).min()
    }
}
