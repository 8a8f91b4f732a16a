//! What the journey fold needs to be told: plain numbers, filled by `config`.

use crate::codec::canonical::Needs;
use crate::model::dimension::Dimension;
use crate::model::ids::PartitionId;
use crate::model::record::Transition;
use crate::model::taxonomy::Taxonomy;
use crate::model::time::Millis;
use compact_str::CompactString;
use hashbrown::HashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reading a source topic directly, without `ingest`: records carry no origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Direct {
    /// Bound for disorder: the watermark is the highest event time less this.
    pub max_out_of_orderness: Millis,
}

/// Settings of one journey task. All lengths of time are in event time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the application: part of the ids of facts.
    pub app: CompactString,
    /// Identity of the partition's log and state: part of flushes and of the ids of facts.
    pub generation: u64,
    /// The partition that is folded.
    pub partition: PartitionId,
    /// Number of journey partitions.
    pub partitions: i32,
    /// Number of rollup partitions.
    pub rollup_partitions: i32,
    /// Set if a source topic is read without `ingest`.
    pub direct: Option<Direct>,
    /// Length of a slice.
    pub slice: Millis,
    /// The longest window: how far back a link reaches.
    pub longest_window: Millis,
    /// How far behind the watermark an event may be and still amend.
    pub allowed_lateness: Millis,
    /// How far behind the clock the watermark may be held.
    pub outage_tolerance: Millis,
    /// Stream time between two flushes within a slice.
    pub flush_interval: Millis,
    /// Records that must have come in for such a flush.
    pub flush_records: u64,
    /// Pause that ends a session (a pause of exactly this does not).
    pub session_gap: Millis,
    /// The same where the earlier event is of this channel.
    pub channel_gaps: BTreeMap<CompactString, Millis>,
    /// Sessions by the source's own id; the gap only for events without one.
    pub sessions_by_source: bool,
    /// Pause after which a checkout is abandoned.
    pub t_checkout: Millis,
    /// Follow carts, too; without it what happens to one is an interaction like any other.
    pub follow_carts: bool,
    /// Pause after which a cart is abandoned.
    pub t_cart: Millis,
    /// How long a pending payment keeps a checkout from being abandoned.
    pub t_pending: Millis,
    /// Abandonments of one customer within this from the first are one unique abandonment.
    pub t_merge: Millis,
    /// Age at which an undecided checkout expires.
    pub max_checkout_age: Millis,
    /// How long after its deadline an abandoned checkout can be recovered.
    pub max_recovery: Millis,
    /// Transitions of checkouts and carts that are published. All are followed and counted.
    pub transitions: BTreeSet<Transition>,
    /// `t_checkout` where the last activity is of this channel.
    pub channel_t_checkout: BTreeMap<CompactString, Millis>,
    /// Event time for which ids are remembered.
    pub dedup_window: Millis,
    /// Ids remembered per customer at least (more while their events are needed anyway); 0: repeats
    /// are not looked for.
    pub dedup_ids: usize,
    /// Customer ids that name nobody (`guest`, `0`).
    pub degenerate_ids: HashSet<CompactString>,
    /// Keep state per customer: sessions, checkouts, ids of events, distinct customers. Without it all
    /// touchpoints are nobody's.
    pub follow_customers: bool,
    /// Count distinct customers.
    pub distinct_customers: bool,
    /// Sum the value of every event instead of that of orders.
    pub value_of_events: bool,
    /// Sets of dimensions that series are kept by, without the total, which is always there.
    pub dimension_sets: Vec<Vec<Dimension>>,
    /// Values of one dimension per tenant; what comes later is `other`.
    pub dimension_cap: usize,
    /// Events in a session's path.
    pub path_max: usize,
    /// The words.
    pub taxonomy: Arc<Taxonomy>,
}

impl Settings {
    /// The texts of a touchpoint that the fold reads.
    pub fn needs(&self) -> Needs {
        let needs = Needs::of_figures(self.dimension_sets.iter().flatten().copied());
        match self.follow_customers {
            true => needs.and_customers(self.sessions_by_source),
            false => needs,
        }
    }

    /// The product's defaults, with one partition of each kind and no disorder, read directly.
    pub fn for_tests(taxonomy: Arc<Taxonomy>) -> Settings {
        Settings {
            app: "touchline".into(),
            generation: 1,
            partition: PartitionId::new(0),
            partitions: 1,
            rollup_partitions: 1,
            direct: Some(Direct { max_out_of_orderness: Millis::ZERO }),
            slice: Millis::from_secs(10),
            longest_window: Millis::from_hours(24),
            allowed_lateness: Millis::from_hours(1),
            outage_tolerance: Millis::from_hours(1),
            flush_interval: Millis::from_secs(1),
            flush_records: 1_000,
            session_gap: Millis::from_mins(30),
            channel_gaps: BTreeMap::new(),
            sessions_by_source: false,
            t_checkout: Millis::from_mins(30),
            follow_carts: true,
            t_cart: Millis::from_mins(60),
            t_pending: Millis::from_hours(24),
            t_merge: Millis::from_hours(24),
            max_checkout_age: Millis::from_hours(48),
            max_recovery: Millis::from_hours(7 * 24),
            transitions: Transition::ALL.into(),
            channel_t_checkout: BTreeMap::new(),
            dedup_window: Millis::from_hours(1),
            dedup_ids: 64,
            degenerate_ids: HashSet::new(),
            follow_customers: true,
            distinct_customers: true,
            value_of_events: false,
            dimension_sets: vec![
                vec![Dimension::Channel],
                vec![Dimension::Stage],
                vec![Dimension::Channel, Dimension::Stage],
                vec![Dimension::Touchpoint],
            ],
            dimension_cap: 1_000,
            path_max: 64,
            taxonomy,
        }
    }
}
