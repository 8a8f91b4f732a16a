//! The fold's state as entries. A key is a tag, then what the tag needs; all of a tenant's start
//! with the tenant's name.

use super::Rollup;
use crate::engine::state::{Checkpointed, Entry, KeyReader, StateError, take_nested};
use crate::rollup::tenant::Tenant;
use compact_str::CompactString;
use std::collections::BTreeMap;

/// Version of the fold: changes with whatever makes the same flushes give other outputs.
pub const FOLD_VERSION: u32 = 1;
/// Version of the values of entries.
pub(in crate::rollup) const VALUES: u8 = 1;

pub(in crate::rollup) const HEAD: u8 = 1;
pub(in crate::rollup) const JOURNEY: u8 = 2;
pub(in crate::rollup) const BUCKET: u8 = 3;
pub(in crate::rollup) const TENANT: u8 = 4;
pub(in crate::rollup) const SERIES: u8 = 5;
pub(in crate::rollup) const LIVE: u8 = 6;
pub(in crate::rollup) const PANES: u8 = 7;
pub(in crate::rollup) const WINDOW: u8 = 8;
pub(in crate::rollup) const EVIDENCE: u8 = 9;
const ALERTS: u8 = 10;

impl Checkpointed for Rollup {
    fn fold_version(&self) -> u32 {
        FOLD_VERSION
    }

    fn take_dirty(&mut self, out: &mut Vec<Entry>) {
        let start = out.len();
        self.inbox.take_dirty(out);
        for (name, tenant) in &mut self.tenants {
            tenant.take_dirty(self.next.get(name).copied(), &self.plan, out);
        }
        take_nested(self.alerts.as_mut(), &[ALERTS], out);
        let gone = std::mem::take(&mut self.obsolete).into_iter();
        out.extend(gone.map(|key| Entry { key, value: None }));
        out[start..].sort_unstable();
    }

    fn mark_all(&mut self) {
        self.inbox.mark_all();
        self.tenants.values_mut().for_each(Tenant::mark_all);
        self.alerts.mark_all();
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let mut reader = KeyReader::new(key);
        match reader.byte()? {
            HEAD => {
                reader.done()?;
                self.inbox.restore_head(value)
            }
            JOURNEY => self.inbox.restore_journey(reader, value),
            BUCKET => self.inbox.restore_bucket(reader, value),
            tag @ TENANT..=EVIDENCE => {
                let name = CompactString::from(reader.text()?);
                let plan = &self.plan;
                let tenants = self.tenants.entry(name.clone());
                let tenant = tenants.or_insert_with(|| Tenant::new(name, plan));
                if !tenant.restore(tag, reader, value, plan)? {
                    if value.is_some() {
                        self.obsolete.insert(key.to_vec());
                    } else {
                        self.obsolete.remove(key);
                    }
                }
                Ok(())
            }
            ALERTS => self.alerts.restore(reader.rest(), value),
            _ => Err(reader.error()),
        }
    }

    fn restored(&mut self) -> Result<(), StateError> {
        let mut waiting: BTreeMap<CompactString, Option<u32>> = BTreeMap::new();
        for (name, series) in self.inbox.waiting_series() {
            // A tenant that has made no step yet need not have an entry of its own.
            let tenant = self.tenants.entry(name.clone());
            tenant.or_insert_with(|| Tenant::new(name.clone(), &self.plan));
            let highest = waiting.entry(name.clone()).or_default();
            *highest = series.max(*highest);
        }
        for (name, tenant) in &mut self.tenants {
            let waiting = waiting.get(name).copied().flatten();
            if let Some(next) = tenant.restored(&self.plan, waiting)? {
                self.agenda.insert((next, name.clone()));
                self.next.insert(name.clone(), next);
            }
        }
        self.alerts.restored()
    }
}
