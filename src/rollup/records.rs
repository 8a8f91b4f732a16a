//! From windows to records. Ids are hashes of what a record is about, so that a repeat has the same.

use super::aligned::Aligned;
use super::settings::Window;
use crate::model::dimension::Dimensions;
use crate::model::figures::{Figures, Money};
use crate::model::ids::hex;
use crate::model::record::{Abandonment, LiveRecord, SCHEMA_VERSION, Value, WindowRecord};
use crate::model::time::EventTime;
use compact_str::CompactString;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// How one series is written.
#[derive(Clone, Debug)]
pub(super) struct Label {
    text: String,
    map: BTreeMap<CompactString, CompactString>,
}

impl Label {
    pub(super) fn new(dimensions: &Dimensions) -> Label {
        Label { text: dimensions.to_string(), map: dimensions.to_map() }
    }
}

/// What a record is about.
pub(super) struct About<'a> {
    pub(super) tenant: &'a CompactString,
    pub(super) window: &'a Window,
    pub(super) label: &'a Label,
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    pub(super) completeness: f64,
}

/// What one revision says beside the figures.
pub(super) struct Revision {
    pub(super) number: i64,
    pub(super) mature: bool,
    pub(super) is_final: bool,
}

fn id(topic: &str, about: &About<'_>, revision: i64) -> CompactString {
    let About { tenant, window, label, start, .. } = about;
    let key =
        format!("{topic}|{tenant}|{}|{}|{}|{revision}", window.name, start.as_ms(), label.text);
    hex(xxh3_128(key.as_bytes()))
}

fn value(money: &Money) -> Value {
    money.sums().iter().cloned().collect()
}

/// One slide's value.
pub(super) fn live(about: &About<'_>, figures: &Figures, customers: i64) -> LiveRecord {
    LiveRecord {
        schema_version: SCHEMA_VERSION,
        id: id("live", about, 0),
        tenant: about.tenant.clone(),
        window: about.window.name.clone(),
        start: about.start,
        end: about.end,
        dimensions: about.label.map.clone(),
        events: figures.events,
        customers,
        sessions: figures.sessions,
        engaged_sessions: figures.engaged_sessions,
        orders: figures.orders,
        value: value(&figures.value),
        checkouts_started: figures.checkouts_started,
        checkouts_completed: figures.checkouts_completed,
        checkouts_abandoned: figures.checkouts_abandoned,
        checkouts_recovered: figures.checkouts_recovered,
        completeness: about.completeness,
    }
}

/// One revision of an aligned window.
pub(super) fn window(about: &About<'_>, content: &Aligned, revision: &Revision) -> WindowRecord {
    let (figures, cohort) = (&content.figures, &content.cohort);
    WindowRecord {
        schema_version: SCHEMA_VERSION,
        id: id("channel_stage", about, revision.number),
        tenant: about.tenant.clone(),
        window: about.window.name.clone(),
        start: about.start,
        end: about.end,
        dimensions: about.label.map.clone(),
        events: figures.events,
        customers: content.customers,
        sessions: figures.sessions,
        engaged_sessions: figures.engaged_sessions,
        orders: figures.orders,
        value: value(&figures.value),
        checkouts_started: figures.checkouts_started,
        checkouts_completed: figures.checkouts_completed,
        checkouts_abandoned: figures.checkouts_abandoned,
        checkouts_recovered: figures.checkouts_recovered,
        abandonment: Abandonment {
            started: cohort.started,
            abandoned: cohort.abandoned,
            expired: cohort.expired,
            undecided: cohort.undecided(),
            unique_abandoners: cohort.unique_abandoners,
            mature: revision.mature,
        },
        revision: revision.number,
        is_final: revision.is_final,
        completeness: about.completeness,
    }
}
