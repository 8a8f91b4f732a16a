//! The tables as entries: one per number, written once, as tables only grow.

use super::{CompactString, Dimension, Dimensions, Meaning, Profile, Profiles, Series};
use super::{SeriesId, Settings, TenantId, ValueOf, key_of};
use crate::engine::state::{Entry, KeyReader, KeyWriter, StateError, decode, encode};
use crate::journey::state::{CURRENCY, PROFILE, SERIES, TENANT, VALUE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

const VALUES: u8 = 1;

/// How many of each have been written down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    tenants: usize,
    currencies: usize,
    series: usize,
    profiles: usize,
}

/// Tables that are being restored: numbers come in any order.
#[derive(Default, Debug)]
pub(super) struct Staged {
    tenants: BTreeMap<u32, CompactString>,
    currencies: BTreeMap<u32, CompactString>,
    series: BTreeMap<u32, (TenantId, Dimensions)>,
    profiles: BTreeMap<u32, Profile>,
}

/// A profile without what follows from the configuration.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedProfile {
    pub(super) tenant: TenantId,
    pub(super) channel: CompactString,
    pub(super) stage: CompactString,
    pub(super) touchpoint: CompactString,
    pub(super) action: CompactString,
    pub(super) meaning: Meaning,
    pub(super) view: bool,
    pub(super) series: Box<[SeriesId]>,
}

impl SavedProfile {
    fn of(profile: &Profile) -> SavedProfile {
        SavedProfile {
            tenant: profile.tenant,
            channel: profile.channel.clone(),
            stage: profile.stage.clone(),
            touchpoint: profile.touchpoint.clone(),
            action: profile.action.clone(),
            meaning: profile.meaning,
            view: profile.view,
            series: profile.series.clone(),
        }
    }

    /// Adds what follows from the configuration.
    pub(super) fn complete(self, settings: &Settings) -> Profile {
        let SavedProfile { tenant, channel, stage, touchpoint, action, meaning, view, series } =
            self;
        let rank = settings.taxonomy.stage_rank(&stage).map_or(0, |at| at + 1);
        Profile {
            tenant,
            gap: *settings.channel_gaps.get(&channel).unwrap_or(&settings.session_gap),
            t_checkout: *settings.channel_t_checkout.get(&channel).unwrap_or(&settings.t_checkout),
            channel,
            stage,
            touchpoint,
            action,
            meaning,
            view,
            stage_rank: u16::try_from(rank).unwrap_or(u16::MAX),
            series,
        }
    }
}

impl ValueOf {
    fn name(self) -> &'static str {
        match self {
            ValueOf::Dimension(dimension) => dimension.name(),
            ValueOf::Action => "action",
        }
    }

    fn named(name: &str) -> Option<ValueOf> {
        let dimension = Dimension::ALL.into_iter().find(|d| d.name() == name);
        dimension.map(ValueOf::Dimension).or((name == "action").then_some(ValueOf::Action))
    }
}

/// Entries of what a table holds from `written` on.
fn grow<T>(
    tag: u8,
    table: &[T],
    written: &mut usize,
    out: &mut Vec<Entry>,
    value: impl Fn(&T) -> Vec<u8>,
) {
    for (number, item) in table.iter().enumerate().skip(*written) {
        let key = KeyWriter::new(tag).u32(number as u32).done();
        out.push(Entry { key, value: Some(value(item)) });
    }
    *written = table.len();
}

/// A table of what was restored.
fn table<T>(what: &str, staged: BTreeMap<u32, T>) -> Result<Vec<T>, StateError> {
    let gap = (0..).zip(staged.keys()).find(|(place, number)| place != *number);
    match gap {
        Some((place, _)) => {
            Err(StateError::Incomplete(format!("{what} number {place} is missing")))
        }
        None => Ok(staged.into_values().collect()),
    }
}

fn read<T: DeserializeOwned>(key: &KeyReader<'_>, value: Option<&[u8]>) -> Result<T, StateError> {
    // What has a number keeps it.
    decode("table", VALUES, value.ok_or_else(|| key.error())?)
}

impl Profiles {
    pub(in crate::journey) fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let written = &mut self.written;
        grow(TENANT, &self.tenants, &mut written.tenants, out, |name| encode(VALUES, name));
        let currencies = &mut written.currencies;
        grow(CURRENCY, &self.currencies, currencies, out, |name| encode(VALUES, name));
        grow(SERIES, &self.series, &mut written.series, out, |series| {
            encode(VALUES, &(series.tenant, &series.dimensions))
        });
        grow(PROFILE, &self.profiles, &mut written.profiles, out, |profile| {
            encode(VALUES, &SavedProfile::of(profile))
        });
        for (tenant, of, value) in self.new_values.drain(..) {
            let key = KeyWriter::new(VALUE).u32(tenant).text(of.name()).rest(value.as_bytes());
            out.push(Entry { key, value: Some(encode(VALUES, &())) });
        }
    }

    pub(in crate::journey) fn mark_all(&mut self) {
        self.written = Written::default();
        let values = self.values.iter().flat_map(|((tenant, of), values)| {
            values.iter().map(|value| (*tenant, *of, value.clone()))
        });
        self.new_values = values.collect();
    }

    /// Takes in an entry whose key has been read up to its tag.
    pub(in crate::journey) fn restore(
        &mut self,
        settings: &Settings,
        tag: u8,
        mut key: KeyReader<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let number = key.u32()?;
        let staged = self.staged.get_or_insert_default();
        match tag {
            TENANT => drop(staged.tenants.insert(number, read(&key, value)?)),
            CURRENCY => drop(staged.currencies.insert(number, read(&key, value)?)),
            SERIES => drop(staged.series.insert(number, read(&key, value)?)),
            PROFILE => {
                let saved: SavedProfile = read(&key, value)?;
                staged.profiles.insert(number, saved.complete(settings));
            }
            VALUE => {
                let of = ValueOf::named(&key.text()?).ok_or_else(|| key.error())?;
                let text = std::str::from_utf8(key.rest()).map_err(|_| key.error())?;
                read::<()>(&key, value)?;
                self.values.entry((number, of)).or_default().insert(text.into());
            }
            _ => return Err(key.error()),
        }
        Ok(())
    }

    /// Everything has been restored: makes the indexes, and checks what refers to what.
    pub(in crate::journey) fn restored(&mut self) -> Result<(), StateError> {
        let missing = |what: &str| Err(StateError::Incomplete(format!("a {what} is missing")));
        let staged = *self.staged.take().unwrap_or_default();
        self.tenants = table("tenant", staged.tenants)?;
        self.currencies = table("currency", staged.currencies)?;
        self.profiles = table("profile", staged.profiles)?;
        let series = table("series", staged.series)?.into_iter();
        self.series = series.map(|(tenant, dimensions)| Series { tenant, dimensions }).collect();
        for (id, name) in (0..).zip(&self.tenants) {
            self.tenant_ids.insert(name.clone(), id);
        }
        for (id, series) in (0..).zip(&self.series) {
            if series.tenant as usize >= self.tenants.len() {
                return missing("tenant");
            }
            self.series_ids.insert((series.tenant, series.dimensions.clone()), id);
        }
        for (id, profile) in (0..).zip(&self.profiles) {
            if profile.series.iter().any(|series| *series as usize >= self.series.len()) {
                return missing("series");
            }
            let sets =
                profile.series.iter().map(|series| &self.series[*series as usize].dimensions);
            let texts = [&profile.channel, &profile.stage, &profile.touchpoint, &profile.action];
            let key = key_of(profile.tenant, texts, profile.meaning, sets);
            self.by_key.insert(key.into_boxed_slice(), id);
        }
        self.written = Written {
            tenants: self.tenants.len(),
            currencies: self.currencies.len(),
            series: self.series.len(),
            profiles: self.profiles.len(),
        };
        Ok(())
    }

    /// True if there is a tenant of this number.
    pub(in crate::journey) fn has_tenant(&self, tenant: TenantId) -> bool {
        (tenant as usize) < self.tenants.len()
    }
}
