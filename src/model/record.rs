//! Records of the derived topics, as plain data (`design`: contracts of the core topics).
//!
//! Times are epoch milliseconds, money is in minor units by currency, all counts are exact. Every
//! record has `schema_version` and `id`. As JSON the field names are those written here.

use super::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the schemas of all derived records.
pub const SCHEMA_VERSION: i32 = 1;

/// Minor units by currency, as records carry them.
pub type Value = BTreeMap<CompactString, i128>;

/// What a session's record says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// The gap has passed; first publication.
    Closed,
    /// Late events changed it.
    Amended,
    /// It turned out to be part of an older one.
    Merged,
}

/// One event of a session's path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named like the touchpoint's fields")]
pub struct PathStep {
    pub touchpoint: CompactString,
    pub action: CompactString,
    pub at: EventTime,
}

/// `journeys.sessions`, key `tenant|customer|session_id`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct SessionRecord {
    pub schema_version: i32,
    pub id: CompactString,
    pub tenant: CompactString,
    pub customer: CompactString,
    pub session_id: CompactString,
    pub status: SessionStatus,
    pub merged_into: Option<CompactString>,
    pub start: EventTime,
    pub end: EventTime,
    pub events: i64,
    pub channels: Vec<CompactString>,
    pub entry_channel: CompactString,
    pub stage_reached: CompactString,
    pub path: Vec<PathStep>,
    pub path_truncated: bool,
    pub engaged: bool,
    pub converted: bool,
    pub value: Value,
    pub revision: i64,
    pub is_final: bool,
}

/// Checkout or cart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum CheckoutKind {
    Checkout,
    Cart,
}

/// What happened to a checkout or cart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it; the rules are the journey fold's")]
pub enum Transition {
    Started,
    Step,
    PaymentFailed,
    Completed,
    Abandoned,
    Recovered,
    Retracted,
    Expired,
}

impl Transition {
    /// All, in the order in which they can come.
    pub const ALL: [Transition; 8] = [
        Transition::Started,
        Transition::Step,
        Transition::PaymentFailed,
        Transition::Completed,
        Transition::Abandoned,
        Transition::Recovered,
        Transition::Retracted,
        Transition::Expired,
    ];

    /// The word for it in records and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Transition::Started => "started",
            Transition::Step => "step",
            Transition::PaymentFailed => "payment_failed",
            Transition::Completed => "completed",
            Transition::Abandoned => "abandoned",
            Transition::Recovered => "recovered",
            Transition::Retracted => "retracted",
            Transition::Expired => "expired",
        }
    }

    /// The transition of that name.
    pub fn by_name(name: &str) -> Option<Transition> {
        Transition::ALL.into_iter().find(|transition| transition.name() == name)
    }

    /// True for what ends a checkout or a cart, as long as nothing takes it back.
    pub fn is_outcome(self) -> bool {
        use Transition::{Abandoned, Completed, Expired, Recovered};
        matches!(self, Completed | Abandoned | Recovered | Expired)
    }
}

/// `checkout.lifecycle`, key `instance`, ordered within it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct CheckoutRecord {
    pub schema_version: i32,
    pub id: CompactString,
    pub tenant: CompactString,
    pub customer: CompactString,
    pub instance: CompactString,
    pub kind: CheckoutKind,
    pub transition: Transition,
    pub revision: i64,
    /// Event time of the fact.
    pub at: EventTime,
    /// Clock that decided it.
    pub decided_at: EventTime,
    pub started_at: EventTime,
    pub last_activity: EventTime,
    pub step: Option<i32>,
    pub step_name: Option<CompactString>,
    pub channel: CompactString,
    pub value: Option<i64>,
    pub currency: Option<CompactString>,
    pub payment_method: Option<CompactString>,
    pub shipping_method: Option<CompactString>,
    pub coupon: Option<CompactString>,
    pub account_type: Option<CompactString>,
    pub error_code: Option<CompactString>,
    /// `checkout_id`, `order_id`, `cart_id`, `session` or `customer`.
    pub correlated_by: CompactString,
    pub merged_into: Option<CompactString>,
}

/// `touchpoints.late`: the canonical record as it came, and why it was too late.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the headers of the topic document the fields")]
pub struct LateRecord {
    pub id: CompactString,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub event_time: EventTime,
    pub late_by_ms: i64,
    pub watermark: EventTime,
    /// `source/partition/offset` of the source record, or of the input under `direct`.
    pub origin: String,
}

/// `engagement.live`, key `tenant|window|dimensions`: one slide's value, never amended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct LiveRecord {
    pub schema_version: i32,
    pub id: CompactString,
    pub tenant: CompactString,
    pub window: CompactString,
    pub start: EventTime,
    pub end: EventTime,
    pub dimensions: BTreeMap<CompactString, CompactString>,
    pub events: i64,
    pub customers: i64,
    pub sessions: i64,
    pub engaged_sessions: i64,
    pub orders: i64,
    pub value: Value,
    pub checkouts_started: i64,
    pub checkouts_completed: i64,
    pub checkouts_abandoned: i64,
    pub checkouts_recovered: i64,
    pub completeness: f64,
}

/// The cohort of checkouts started in a window.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct Abandonment {
    pub started: i64,
    pub abandoned: i64,
    pub expired: i64,
    pub undecided: i64,
    pub unique_abandoners: i64,
    pub mature: bool,
}

/// `engagement.channel_stage`, key `tenant|window|start|dimensions`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct WindowRecord {
    pub schema_version: i32,
    pub id: CompactString,
    pub tenant: CompactString,
    pub window: CompactString,
    pub start: EventTime,
    pub end: EventTime,
    pub dimensions: BTreeMap<CompactString, CompactString>,
    pub events: i64,
    pub customers: i64,
    pub sessions: i64,
    pub engaged_sessions: i64,
    pub orders: i64,
    pub value: Value,
    pub checkouts_started: i64,
    pub checkouts_completed: i64,
    pub checkouts_abandoned: i64,
    pub checkouts_recovered: i64,
    pub abandonment: Abandonment,
    pub revision: i64,
    pub is_final: bool,
    pub completeness: f64,
}

/// A step in an alert's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it; the rules are the rollup fold's")]
pub enum AlertTransition {
    Pending,
    Firing,
    Amended,
    Recovering,
    Resolved,
    Suppressed,
}

/// How bad an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of Prometheus' conventions")]
pub enum Severity {
    Critical,
    Warning,
    Info,
}

/// One dimension value and its share in an alert's effect.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Contributor {
    /// Dimension values, for instance `{"channel": "web"}`.
    pub dimensions: BTreeMap<CompactString, CompactString>,
    /// Share of the effect, in the figure's own unit (points of a ratio, events of a count).
    pub effect: f64,
    /// Value of the figure for it.
    pub value: f64,
    /// Its sample size.
    pub n: i64,
}

/// Where an alert's evidence lies, offsets inclusive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct Evidence {
    pub topic: CompactString,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// `alerts.events`, key `fingerprint`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema files document the fields")]
pub struct AlertRecord {
    pub schema_version: i32,
    pub id: CompactString,
    pub fingerprint: CompactString,
    /// Fingerprint and `starts_at`.
    pub episode: CompactString,
    /// From 0, without gaps, in an episode.
    pub sequence: i64,
    pub alert: CompactString,
    pub transition: AlertTransition,
    pub severity: Severity,
    pub owner: CompactString,
    pub tenant: CompactString,
    pub dimensions: BTreeMap<CompactString, CompactString>,
    /// Step (event time) at which this was decided.
    pub at: EventTime,
    pub starts_at: EventTime,
    pub ends_at: Option<EventTime>,
    pub value: f64,
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
    pub n: i64,
    pub effect: f64,
    pub p_value: f64,
    pub window: CompactString,
    /// Share of the cohort that is decided.
    pub maturity: f64,
    pub completeness: f64,
    pub contributors: Vec<Contributor>,
    pub at_risk: Value,
    pub evidence: Vec<Evidence>,
    pub summary: String,
    pub runbook: CompactString,
}
