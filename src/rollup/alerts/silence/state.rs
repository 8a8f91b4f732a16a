//! The detector's state as entries: its head, and per series what moves with every event and, apart
//! from it, what is learned once an hour.

use super::super::seasons::{Learned, Seasons};
use super::{Due, Series, SilenceState};
use crate::engine::state::{Checkpointed, Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::model::dimension::Dimensions;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

const VALUES: u8 = 1;

const HEAD: u8 = 1;
const SERIES: u8 = 2;
const LEARNED: u8 = 3;

/// What is written as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Part {
    Head,
    Series(Dimensions),
    Learned(Dimensions),
}

/// A series without what is learned once an hour.
#[derive(Serialize, Deserialize)]
struct Running {
    first: EventTime,
    last: EventTime,
    seasons: Seasons,
    longest: f64,
    longest_at: EventTime,
    due: Option<Due>,
    silent_since: Option<EventTime>,
}

impl Series {
    fn running(&self) -> Running {
        Running {
            first: self.first,
            last: self.last,
            seasons: self.seasons.without_learned(),
            longest: self.longest,
            longest_at: self.longest_at,
            due: self.due,
            silent_since: self.silent_since,
        }
    }

    /// Takes over what is running; what is learned stays.
    fn run(&mut self, running: Running) {
        let learned = self.seasons.learned();
        *self = Series {
            first: running.first,
            last: running.last,
            seasons: running.seasons,
            longest: running.longest,
            longest_at: running.longest_at,
            due: running.due,
            silent_since: running.silent_since,
        };
        self.seasons.learn_again(learned);
    }
}

impl SilenceState {
    fn restore_part(
        &mut self,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
    ) -> Result<Part, StateError> {
        let tag = key.byte()?;
        if tag == HEAD {
            key.done()?;
            let head = value.map(|value| decode("silence", VALUES, value)).transpose()?;
            (self.hour_ends, self.closed) = head.unwrap_or_default();
            return Ok(Part::Head);
        }
        let dimensions = key.dimensions()?;
        key.done()?;
        let series =
            self.series.entry(dimensions.clone()).or_insert_with(|| Series::new(EventTime::MIN));
        match (tag, value) {
            (SERIES, Some(value)) => {
                series.run(decode("series", VALUES, value)?);
                Ok(Part::Series(dimensions))
            }
            (LEARNED, Some(value)) => {
                let learned: Learned = decode("seasons", VALUES, value)?;
                series.seasons.learn_again(learned);
                Ok(Part::Learned(dimensions))
            }
            // Series are never forgotten.
            _ => Err(key.error()),
        }
    }
}

impl Checkpointed for SilenceState {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let key = |part: &Part| match part {
            Part::Head => KeyWriter::new(HEAD).done(),
            Part::Series(series) => KeyWriter::new(SERIES).dimensions(series).done(),
            Part::Learned(series) => KeyWriter::new(LEARNED).dimensions(series).done(),
        };
        self.dirty.take(out, key, |part| match part {
            Part::Head => Some(encode(VALUES, &(self.hour_ends, self.closed))),
            Part::Series(series) => self.series.get(series).map(|of| encode(VALUES, &of.running())),
            Part::Learned(series) => {
                self.series.get(series).map(|of| encode(VALUES, &of.seasons.learned()))
            }
        });
    }

    fn mark_all(&mut self) {
        self.dirty.touch_saved();
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let part = self.restore_part(KeyReader::new(key), value)?;
        self.dirty.note_restored(part, value.is_some());
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        match self.series.iter().find(|(_, series)| series.seasons.is_broken()) {
            Some((dimensions, _)) => {
                Err(StateError::Incomplete(format!("seasons of series {dimensions} are missing")))
            }
            None => Ok(()),
        }
    }
}
