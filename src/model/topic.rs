//! The topics that Touchline owns, by role. Their names are configuration.

use serde::{Deserialize, Serialize};

/// One of our topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the design's table of topics says it")]
pub enum Topic {
    Canonical,
    Rejected,
    Late,
    Sessions,
    CheckoutLifecycle,
    Live,
    ChannelStage,
    AlertEvents,
    AlertsActive,
    /// The repartition topic between journey and rollup.
    Rollup,
}

impl Topic {
    /// Every topic, upstream first.
    pub const ALL: [Topic; 10] = [
        Topic::Canonical,
        Topic::Rejected,
        Topic::Late,
        Topic::Sessions,
        Topic::CheckoutLifecycle,
        Topic::Live,
        Topic::ChannelStage,
        Topic::AlertEvents,
        Topic::AlertsActive,
        Topic::Rollup,
    ];

    /// Name where the configuration gives no other; the repartition topic's is preceded by `<app>.`.
    pub const fn default_name(self) -> &'static str {
        match self {
            Topic::Canonical => "touchpoints.canonical",
            Topic::Rejected => "touchpoints.rejected",
            Topic::Late => "touchpoints.late",
            Topic::Sessions => "journeys.sessions",
            Topic::CheckoutLifecycle => "checkout.lifecycle",
            Topic::Live => "engagement.live",
            Topic::ChannelStage => "engagement.channel_stage",
            Topic::AlertEvents => "alerts.events",
            Topic::AlertsActive => "alerts.active",
            Topic::Rollup => "rollup.repartition",
        }
    }
}
