//! A tenant as entries: its head, its series (each written once), rolling windows, aligned windows,
//! blocks of evidence. They may come back in any order: they are put together at the end.

use super::{Held, Series, Tenant};
use crate::engine::state::{Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::model::dimension::Dimensions;
use crate::model::time::Slice;
use crate::rollup::agenda::Key;
use crate::rollup::evidence::{self, Evidence};
use crate::rollup::fold::{EVIDENCE, LIVE, PANES, SERIES, TENANT, VALUES, WINDOW};
use crate::rollup::live::{self, Live};
use crate::rollup::records::Label;
use crate::rollup::settings::{Plan, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is written as one; windows by the place of their length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Part {
    Head,
    Series(u32),
    Live(usize, u32),
    Panes(usize, u32, i64),
    Window(Key),
    Evidence(i64),
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Head {
    /// The next step that is needed even if nothing comes in.
    next: Option<Slice>,
    /// Slices before this one have no evidence any more.
    evidence_from: Option<Slice>,
}

/// What has been restored and is not put together yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    head: Head,
    series: BTreeMap<u32, Dimensions>,
    lives: BTreeMap<(usize, u32), live::Head>,
    panes: BTreeMap<(usize, u32, i64), live::Block>,
    evidence: BTreeMap<i64, evidence::Block>,
}

/// Puts `value` in, or takes out what was there.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

fn of<T: serde::de::DeserializeOwned>(
    what: &'static str,
    value: Option<&[u8]>,
) -> Result<Option<T>, StateError> {
    value.map(|value| decode(what, VALUES, value)).transpose()
}

impl Tenant {
    /// `next` is the tenant's place in the fold's agenda.
    pub(in crate::rollup) fn take_dirty(
        &mut self,
        next: Option<Slice>,
        plan: &Plan,
        out: &mut Vec<Entry>,
    ) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let lives: Vec<Part> = dirty.touched().copied().collect();
        for part in lives {
            let Part::Live(spec, series) = part else { continue };
            for block in self.series[series as usize].live[spec].take_touched() {
                dirty.touch(Part::Panes(spec, series, block));
            }
        }
        for block in self.evidence.take_touched() {
            dirty.touch(Part::Evidence(block));
        }
        dirty.take(out, |part| self.key(part, plan), |part| self.value(part, next));
        self.dirty = dirty;
    }

    pub(in crate::rollup) fn mark_all(&mut self) {
        self.dirty.touch_saved();
    }

    fn key(&self, part: &Part, plan: &Plan) -> Vec<u8> {
        let start = |tag| KeyWriter::new(tag).text(&self.name);
        let rolling = |tag, spec: usize, series| {
            let window: &Window = &plan.windows[spec];
            start(tag).i64(window.length.as_ms()).i64(window.slide).u32(series)
        };
        match *part {
            Part::Head => start(TENANT).done(),
            Part::Series(number) => start(SERIES).u32(number).done(),
            Part::Live(spec, series) => rolling(LIVE, spec, series).done(),
            Part::Panes(spec, series, block) => rolling(PANES, spec, series).i64(block).done(),
            Part::Window(Key { spec, index, series }) => {
                let length = plan.windows[spec].length.as_ms();
                start(WINDOW).i64(length).i64(index).u32(series).done()
            }
            Part::Evidence(block) => start(EVIDENCE).i64(block).done(),
        }
    }

    fn value(&self, part: &Part, next: Option<Slice>) -> Option<Vec<u8>> {
        match *part {
            Part::Head => {
                Some(encode(VALUES, &Head { next, evidence_from: self.evidence.first() }))
            }
            Part::Series(number) => Some(encode(VALUES, self.dimensions(number))),
            Part::Live(spec, series) => {
                let is_active = self.active[spec].contains(&series);
                is_active.then(|| encode(VALUES, &self.live(spec, series).head()))
            }
            Part::Panes(spec, series, block) => {
                self.live(spec, series).block(block).map(|block| encode(VALUES, &block))
            }
            Part::Window(key) => self.windows.get(&key).map(|held| encode(VALUES, held)),
            Part::Evidence(block) => {
                let block = self.evidence.block(block);
                (!block.is_empty()).then(|| encode(VALUES, &block))
            }
        }
    }

    fn dimensions(&self, number: u32) -> &Dimensions {
        &self.series[number as usize].dimensions
    }

    fn live(&self, spec: usize, series: u32) -> &Live {
        &self.series[series as usize].live[spec]
    }

    /// Takes in an entry whose key has been read up to the tenant. False if no window of that length
    /// and slide is configured any more.
    pub(in crate::rollup) fn restore(
        &mut self,
        tag: u8,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
        plan: &Plan,
    ) -> Result<bool, StateError> {
        let staged = self.staged.get_or_insert_default();
        let part = match tag {
            TENANT => {
                staged.head = of("tenant", value)?.unwrap_or_default();
                Part::Head
            }
            SERIES => {
                let number = key.u32()?;
                put(&mut staged.series, number, of("series", value)?);
                Part::Series(number)
            }
            LIVE | PANES => {
                let (length, slide, series) = (key.i64()?, key.i64()?, key.u32()?);
                let spec = spec_of(plan, |w| w.length.as_ms() == length && w.slide == slide);
                let block = if tag == PANES { Some(key.i64()?) } else { None };
                let Some(spec) = spec else { return Ok(false) };
                if let Some(block) = block {
                    put(&mut staged.panes, (spec, series, block), of("panes", value)?);
                    Part::Panes(spec, series, block)
                } else {
                    put(&mut staged.lives, (spec, series), of("rolling window", value)?);
                    Part::Live(spec, series)
                }
            }
            WINDOW => {
                let (length, index, series) = (key.i64()?, key.i64()?, key.u32()?);
                let spec = spec_of(plan, |w| w.length.as_ms() == length);
                let Some(spec) = spec else { return Ok(false) };
                let at = Key { spec, index, series };
                match of::<Held>("window", value)? {
                    Some(held) => self.windows.insert(at, held),
                    None => self.windows.remove(&at),
                };
                Part::Window(at)
            }
            EVIDENCE => {
                let block = key.i64()?;
                put(&mut staged.evidence, block, of("evidence", value)?);
                Part::Evidence(block)
            }
            _ => return Err(key.error()),
        };
        key.done()?;
        self.dirty.note_restored(part, value.is_some());
        Ok(true)
    }

    /// Puts together what has been restored; returns the tenant's place in the fold's agenda.
    pub(in crate::rollup) fn restored(
        &mut self,
        plan: &Plan,
        waiting: Option<u32>,
    ) -> Result<Option<Slice>, StateError> {
        let mut staged = *self.staged.take().unwrap_or_default();
        let missing = |what: &str| {
            Err(StateError::Incomplete(format!("tenant {:?} has no {what}", self.name)))
        };
        for (place, (number, dimensions)) in
            std::mem::take(&mut staged.series).into_iter().enumerate()
        {
            if number as usize != place {
                return missing(&format!("series {place}"));
            }
            self.numbers.insert(dimensions.clone(), number);
            self.series.push(Series {
                label: Label::new(&dimensions),
                dimensions,
                live: vec![Live::default(); self.active.len()],
            });
        }
        let of_windows = self.windows.keys().map(|key| key.series).max();
        let of_lives = staged.lives.keys().map(|(_, series)| *series).max();
        let highest = of_windows.max(of_lives).max(waiting);
        if let Some(highest) = highest.filter(|highest| *highest as usize >= self.series.len()) {
            return missing(&format!("series {highest}"));
        }
        for ((spec, series), head) in staged.lives {
            let from = (spec, series, i64::MIN);
            let to = (spec, series, i64::MAX);
            let blocks = staged.panes.range(from..=to).map(|(_, block)| block.clone());
            let window = &plan.windows[spec];
            self.series[series as usize].live[spec] = Live::restore(window, head, blocks);
            self.active[spec].insert(series);
        }
        for (key, held) in &self.windows {
            self.agenda.enter_again(*key, &held.entry);
        }
        let first = staged.head.evidence_from;
        self.evidence = Evidence::restore(first, staged.evidence.into_values());
        Ok(staged.head.next)
    }
}

fn spec_of(plan: &Plan, is: impl Fn(&Window) -> bool) -> Option<usize> {
    plan.windows.iter().position(is)
}
