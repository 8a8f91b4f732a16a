//! The schema files of our topics: what `schemas show` prints and what the registry is given.
//!
//! The text of a schema file is the documentation of its topic: a stranger can write a consumer
//! from it alone.

use super::canonical::{CONTROL_SCHEMA, canonical_with_origin_schema};
use crate::model::topic::Topic;
use std::sync::LazyLock;

/// Schema of `journeys.sessions`.
pub const SESSION_SCHEMA: &str = include_str!("schemas/session.v1.avsc");
/// Schema of `checkout.lifecycle`.
pub const CHECKOUT_SCHEMA: &str = include_str!("schemas/checkout.v1.avsc");
/// Schema of `engagement.live`.
pub const LIVE_SCHEMA: &str = include_str!("schemas/live.v1.avsc");
/// Schema of `engagement.channel_stage`.
pub const WINDOW_SCHEMA: &str = include_str!("schemas/window.v1.avsc");
/// Schema of `alerts.events` and `alerts.active`.
pub const ALERT_SCHEMA: &str = include_str!("schemas/alert.v1.avsc");
/// Schema of a line of a recording.
pub const RECORDED_SCHEMA: &str = include_str!("schemas/recorded.v1.avsc");

/// Name under which [`schemas`] has the schema of control records, which lie in the canonical
/// topic.
pub const CONTROL_NAME: &str = "touchpoints.canonical-control";

/// Schema of the touchpoints or facts of a topic; `None` where values have no schema of ours
/// (rejects are as they came, flushes are internal).
pub fn schema_of(topic: Topic) -> Option<&'static str> {
    match topic {
        Topic::Canonical | Topic::Late => Some(canonical_with_origin_schema()),
        Topic::Sessions => Some(SESSION_SCHEMA),
        Topic::CheckoutLifecycle => Some(CHECKOUT_SCHEMA),
        Topic::Live => Some(LIVE_SCHEMA),
        Topic::ChannelStage => Some(WINDOW_SCHEMA),
        Topic::AlertEvents | Topic::AlertsActive => Some(ALERT_SCHEMA),
        Topic::Rejected | Topic::Rollup => None,
    }
}

/// Every schema with the default name of its topic, upstream first; control records are named
/// [`CONTROL_NAME`].
pub fn schemas() -> &'static [(&'static str, &'static str)] {
    static ALL: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
        let mut all = Vec::new();
        for topic in Topic::ALL {
            all.extend(schema_of(topic).map(|schema| (topic.default_name(), schema)));
            if topic == Topic::Canonical {
                all.push((CONTROL_NAME, CONTROL_SCHEMA));
            }
        }
        all
    });
    &ALL
}
