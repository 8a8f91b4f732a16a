//! From the configuration to the settings of each part.

use super::rules;
use crate::config::{SessionBy, Settings, ValueOf};
use crate::journey;
use crate::model::ids::PartitionId;
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::rollup::alerts::Alerts;
use crate::rollup::{self, Rollup, WindowSpec};
use std::sync::Arc;

/// What the folds are made from.
#[derive(Clone)]
pub struct Parts {
    journey: journey::Settings,
    rollup: rollup::Settings,
    alerts: rollup::alerts::Settings,
    /// Partitions of the repartition topic.
    pub rollup_partitions: i32,
}

impl Parts {
    /// Takes over what `settings` say.
    pub fn new(settings: &Settings) -> Parts {
        let rollup_partitions = settings.topics.get(&Topic::Rollup).map_or(1, |t| t.partitions);
        Parts {
            journey: journey_settings(settings, rollup_partitions),
            rollup: rollup_settings(settings),
            alerts: rules::settings(settings),
            rollup_partitions,
        }
    }

    /// Says whether records come without `ingest` in front. Then every record moves the watermark,
    /// which follows by the largest bound for disorder of any source.
    pub fn set_direct(&mut self, direct: bool) {
        let bound = self
            .journey
            .direct
            .unwrap_or(journey::Direct { max_out_of_orderness: Millis::from_secs(5) });
        self.journey.direct = direct.then_some(bound);
    }

    /// Settings of one journey task.
    pub fn journey_settings(&self, partition: PartitionId, partitions: i32) -> journey::Settings {
        journey::Settings { partition, partitions, ..self.journey.clone() }
    }

    /// One rollup task, with its alerts.
    pub fn rollup_task(&self, partition: PartitionId, journey_partitions: i32) -> Rollup {
        let settings = rollup::Settings { partition, journey_partitions, ..self.rollup.clone() };
        Rollup::new(settings, Box::new(Alerts::new(self.alerts.clone())))
    }
}

fn journey_settings(settings: &Settings, rollup_partitions: i32) -> journey::Settings {
    let bound = settings.sources.values().map(|s| s.max_out_of_orderness).max();
    let longest = settings.figures.windows.iter().map(|w| w.length).max();
    let channels = &settings.checkout.channels;
    journey::Settings {
        app: settings.app.name.clone(),
        generation: 1,
        partition: PartitionId::new(0),
        partitions: 1,
        rollup_partitions,
        direct: Some(journey::Direct {
            max_out_of_orderness: bound.unwrap_or(Millis::from_secs(5)),
        }),
        slice: settings.time.slice,
        longest_window: longest.unwrap_or(settings.time.slice),
        allowed_lateness: settings.time.allowed_lateness,
        outage_tolerance: settings.time.outage_tolerance,
        flush_interval: settings.flush.interval,
        flush_records: settings.flush.records,
        session_gap: settings.sessions.gap,
        channel_gaps: settings.sessions.channel_gaps.clone(),
        sessions_by_source: settings.sessions.by == SessionBy::Source,
        t_checkout: settings.checkout.t_checkout,
        follow_carts: settings.checkout.carts,
        t_cart: settings.checkout.t_cart,
        t_pending: settings.checkout.t_pending,
        t_merge: settings.checkout.t_merge,
        max_checkout_age: settings.checkout.max_checkout_age,
        max_recovery: settings.checkout.max_recovery,
        transitions: settings.checkout.transitions.clone(),
        channel_t_checkout: channels
            .iter()
            .filter_map(|(name, c)| Some((name.clone(), c.t_checkout?)))
            .collect(),
        dedup_window: settings.deduplication.window,
        dedup_ids: settings.deduplication.ids,
        degenerate_ids: settings.identity.degenerate_ids.iter().cloned().collect(),
        follow_customers: settings.identity.follow_customers,
        distinct_customers: settings.figures.distinct_customers,
        value_of_events: settings.figures.value_of == ValueOf::Events,
        dimension_sets: settings.figures.dimensions.clone(),
        dimension_cap: settings.figures.dimension_cap,
        path_max: settings.sessions.path,
        taxonomy: Arc::new(settings.taxonomy.clone()),
    }
}

fn rollup_settings(settings: &Settings) -> rollup::Settings {
    let checkout = &settings.checkout;
    let by_channel = checkout.channels.values().filter_map(|c| c.t_checkout);
    let windows = settings.figures.windows.iter();
    rollup::Settings {
        app: settings.app.name.clone(),
        partition: PartitionId::new(0),
        generation: None,
        slice: settings.time.slice,
        windows: windows.map(|w| WindowSpec { length: w.length, slide: w.slide }).collect(),
        allowed_lateness: settings.time.allowed_lateness,
        outage_tolerance: settings.time.outage_tolerance,
        t_checkout: by_channel.max().unwrap_or(checkout.t_checkout).max(checkout.t_checkout),
        max_checkout_age: checkout.max_checkout_age,
        canonical_topic: settings.topic(Topic::Canonical).into(),
        journey_partitions: 1,
    }
}
