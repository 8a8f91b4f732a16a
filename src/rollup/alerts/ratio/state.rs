//! The detector's state as entries: its head, the ends of windows by hour, and per series its
//! baseline and its windows by hour.

use super::{Baseline, RatioState, Seen, Series};
use crate::engine::state::{Checkpointed, Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::model::dimension::Dimensions;
use crate::model::time::{EventTime, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VALUES: u8 = 1;

const HEAD: u8 = 1;
const ENDS: u8 = 2;
const BASELINE: u8 = 3;
const WINDOWS: u8 = 4;

/// Windows that stand in the log as one.
const BLOCK: Millis = Millis::from_hours(1);

/// What is written as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kept {
    Head,
    Ends(i64),
    Baseline(Dimensions),
    Windows(Dimensions, i64),
}

#[derive(Serialize, Deserialize)]
struct Head {
    window: Millis,
    judged: Option<EventTime>,
}

pub(super) fn block_of(at: EventTime) -> i64 {
    at.as_ms().div_euclid(BLOCK.as_ms())
}

fn block<V: Clone>(map: &BTreeMap<EventTime, V>, block: i64) -> Option<Vec<(EventTime, V)>> {
    let from = EventTime::from_ms(block * BLOCK.as_ms());
    let within = map.range(from..from.plus(BLOCK));
    let within: Vec<(EventTime, V)> = within.map(|(at, v)| (*at, v.clone())).collect();
    (!within.is_empty()).then_some(within)
}

/// Replaces what there is in a block.
fn put_block<V>(map: &mut BTreeMap<EventTime, V>, block: i64, with: Vec<(EventTime, V)>) {
    map.retain(|at, _| block_of(*at) != block);
    map.extend(with);
}

fn of<V: serde::de::DeserializeOwned + Default>(value: Option<&[u8]>) -> Result<V, StateError> {
    value.map_or_else(|| Ok(V::default()), |value| decode("windows of a ratio", VALUES, value))
}

impl RatioState {
    fn value(&self, part: &Kept) -> Option<Vec<u8>> {
        match part {
            Kept::Head => {
                let head = Head { window: self.settings.window, judged: self.judged };
                Some(encode(VALUES, &head))
            }
            Kept::Ends(hour) => block(&self.ends, *hour).map(|ends| encode(VALUES, &ends)),
            Kept::Baseline(series) => {
                self.series.get(series).map(|of| encode(VALUES, &of.baseline))
            }
            Kept::Windows(series, hour) => {
                let windows = &self.series.get(series)?.runs.windows;
                block(windows, *hour).map(|windows| encode(VALUES, &windows))
            }
        }
    }
}

impl Checkpointed for RatioState {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let key = |part: &Kept| match part {
            Kept::Head => KeyWriter::new(HEAD).done(),
            Kept::Ends(hour) => KeyWriter::new(ENDS).i64(*hour).done(),
            Kept::Baseline(series) => KeyWriter::new(BASELINE).dimensions(series).done(),
            Kept::Windows(series, hour) => {
                KeyWriter::new(WINDOWS).dimensions(series).i64(*hour).done()
            }
        };
        dirty.take(out, key, |part| self.value(part));
        self.dirty = dirty;
    }

    fn mark_all(&mut self) {
        self.dirty.touch_saved();
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let mut key = KeyReader::new(key);
        let part = match key.byte()? {
            HEAD => {
                let head: Option<Head> =
                    value.map(|value| decode("ratio", VALUES, value)).transpose()?;
                if let Some(head) = head.as_ref().filter(|head| head.window != self.settings.window)
                {
                    let (was, is) = (head.window, self.settings.window);
                    let text = format!("windows of a ratio were {was} long and are {is}");
                    return Err(StateError::Settings(text));
                }
                self.judged = head.and_then(|head| head.judged);
                Kept::Head
            }
            ENDS => {
                let hour = key.i64()?;
                put_block(&mut self.ends, hour, of(value)?);
                Kept::Ends(hour)
            }
            BASELINE => {
                let series = key.dimensions()?;
                let baseline: Option<Baseline> =
                    value.map(|value| decode("baseline", VALUES, value)).transpose()?;
                self.series.entry(series.clone()).or_default().baseline =
                    baseline.unwrap_or_default();
                Kept::Baseline(series)
            }
            WINDOWS => {
                let (series, hour) = (key.dimensions()?, key.i64()?);
                let of_series: &mut Series = self.series.entry(series.clone()).or_default();
                let windows: Vec<(EventTime, Seen)> = of(value)?;
                put_block(&mut of_series.runs.windows, hour, windows);
                Kept::Windows(series, hour)
            }
            _ => return Err(key.error()),
        };
        key.done()?;
        self.dirty.note_restored(part, value.is_some());
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        Ok(())
    }
}
