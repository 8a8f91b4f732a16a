//! The alerts' state as entries: per tenant and rule the lives of its series, the spans of its
//! episodes, and whatever its detector keeps. Rules are found by name, so that their order may
//! change; what a rule that is no more has left is forgotten.

use super::{Alerts, Life, RuleState, Span};
use crate::engine::state::{
    Checkpointed, Entry, KeyReader, KeyWriter, StateError, decode, encode, take_nested,
};
use crate::model::dimension::Dimensions;

const VALUES: u8 = 1;

const LIFE: u8 = 1;
const SPANS: u8 = 2;
const DETECTOR: u8 = 3;

/// What is written as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Part {
    Life(Dimensions),
    Spans,
}

/// The part of a key that says whose it is: tenant, rule and the rule's detector.
fn owner(tenant: &str, rule: &super::Rule) -> KeyWriter {
    KeyWriter::new(1).text(tenant).text(&rule.name).text(rule.detector.name())
}

impl Checkpointed for Alerts {
    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let start = out.len();
        for (tenant, states) in &mut self.tenants {
            for (rule, state) in self.settings.rules.iter().zip(states) {
                let key = |part: &Part| match part {
                    Part::Life(series) => owner(tenant, rule).byte(LIFE).dimensions(series).done(),
                    Part::Spans => owner(tenant, rule).byte(SPANS).done(),
                };
                let RuleState { detector, lives, spans, dirty } = state;
                dirty.take(out, key, |part| match part {
                    Part::Life(series) => lives.get(series).map(|life| encode(VALUES, life)),
                    Part::Spans => (!spans.is_empty()).then(|| encode(VALUES, spans)),
                });
                let prefix = owner(tenant, rule).byte(DETECTOR).done();
                take_nested(detector.as_mut(), &prefix, out);
            }
        }
        let gone = std::mem::take(&mut self.obsolete).into_iter();
        out.extend(gone.map(|key| Entry { key, value: None }));
        out[start..].sort_unstable();
    }

    fn mark_all(&mut self) {
        for state in self.tenants.values_mut().flatten() {
            state.dirty.touch_saved();
            state.detector.mark_all();
        }
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let mut reader = KeyReader::new(key);
        if reader.byte()? != 1 {
            return Err(reader.error());
        }
        let (tenant, rule, detector) = (reader.text()?, reader.text()?, reader.text()?);
        let rules = &self.settings.rules;
        let place = rules.iter().position(|r| r.name == rule && r.detector.name() == detector);
        let Some(place) = place else {
            match value {
                Some(_) => self.obsolete.insert(key.to_vec()),
                None => self.obsolete.remove(key),
            };
            return Ok(());
        };
        let settings = &self.settings;
        let states =
            self.tenants.entry(tenant.into()).or_insert_with(|| RuleState::start_all(settings));
        let state = &mut states[place];
        match reader.byte()? {
            LIFE => {
                let series = reader.dimensions()?;
                reader.done()?;
                state.dirty.note_restored(Part::Life(series.clone()), value.is_some());
                match value {
                    Some(value) => {
                        let life: Life = decode("alert", VALUES, value)?;
                        state.lives.insert(series, life);
                    }
                    None => {
                        state.lives.remove(&series);
                    }
                }
            }
            SPANS => {
                reader.done()?;
                state.dirty.note_restored(Part::Spans, value.is_some());
                let spans = value.map(|value| decode::<Vec<Span>>("episodes", VALUES, value));
                state.spans = spans.transpose()?.unwrap_or_default();
            }
            DETECTOR => state.detector.restore(reader.rest(), value)?,
            _ => return Err(reader.error()),
        }
        Ok(())
    }

    fn restored(&mut self) -> Result<(), StateError> {
        let mut states = self.tenants.values_mut().flatten();
        states.try_for_each(|state| state.detector.restored())
    }
}
