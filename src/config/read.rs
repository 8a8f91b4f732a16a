//! From a checked tree to [`Settings`].
//!
//! What has been reported reads as a zero or an empty text here; such settings are thrown away, as
//! nothing is handed out while there is a problem.

use super::settings::*;
use super::table::topic_key;
use super::units::{self, Start};
use super::view::View;
use crate::model::dimension::Dimension;
use crate::model::record::{Severity, Transition};
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::rollup::alerts::Bound;
use compact_str::CompactString;
use std::collections::BTreeMap;

pub(super) fn kafka(root: View<'_>) -> BTreeMap<String, String> {
    let entries = root.get("kafka").entries();
    entries.map(|(e, v)| (e.key.clone(), v.str().unwrap_or_default().to_owned())).collect()
}

pub(super) fn ingest(root: View<'_>) -> IngestMode {
    match root.get("ingest").str() {
        Some("direct") => IngestMode::Direct,
        _ => IngestMode::Canonical,
    }
}

/// A source without its mapping file.
pub(super) fn source(view: View<'_>) -> SourceSettings {
    let bound = view.get("max_out_of_orderness").valid_duration();
    SourceSettings {
        topic: view.get("topic").str().unwrap_or_default().to_owned(),
        format: match view.get("format").str() {
            Some("canonical_avro") => Format::CanonicalAvro,
            Some("mapped_json") => Format::MappedJson,
            _ => Format::CanonicalJson,
        },
        mapping: None,
        start: view.get("start").str().and_then(units::start).unwrap_or(Start::Earliest),
        max_out_of_orderness: bound.unwrap_or(Millis::from_secs(5)),
        tenant: view.get("tenant").optional_text().unwrap_or_else(|| "default".into()),
    }
}

pub(super) fn topics(root: View<'_>) -> BTreeMap<Topic, TopicSettings> {
    let section = root.get("topics");
    let app = root.get("app").get("name").str().unwrap_or_default();
    let topic = |topic: Topic| {
        let view = section.get(topic_key(topic));
        let default = || match topic {
            Topic::Rollup => format!("{app}.{}", topic.default_name()),
            _ => topic.default_name().to_owned(),
        };
        let settings = TopicSettings {
            name: view.get("name").str().map_or_else(default, str::to_owned),
            partitions: view.get("partitions").integer(),
            replication_factor: section.get("replication_factor").integer(),
            compact: view.get("cleanup").str() == Some("compact"),
            retention: view.get("retention").valid_duration(),
        };
        (topic, settings)
    };
    Topic::ALL.into_iter().map(topic).collect()
}

pub(super) fn delivery(root: View<'_>) -> DeliverySettings {
    let view = root.get("delivery");
    DeliverySettings {
        mode: match view.get("mode").str() {
            Some("at_least_once") => DeliveryMode::AtLeastOnce,
            _ => DeliveryMode::ExactlyOnce,
        },
        commit_interval: view.get("commit_interval").duration(),
        checkpoint_interval: view.get("checkpoint_interval").duration(),
        static_membership: view.get("static_membership").bool(),
        standby_replicas: view.get("standby_replicas").integer(),
        state_dir: match view.get("state_dir").str() {
            Some("none") => StateDir::None,
            Some("auto") | None => StateDir::Auto,
            Some(path) => StateDir::Path(path.into()),
        },
    }
}

pub(super) fn time(root: View<'_>) -> TimeSettings {
    let view = root.get("time");
    TimeSettings {
        slice: view.get("slice").duration(),
        allowed_lateness: view.get("allowed_lateness").duration(),
        outage_tolerance: view.get("outage_tolerance").duration(),
        idle_timeout: view.get("idle_timeout").duration(),
        max_future_skew: view.get("max_future_skew").duration(),
        max_age: view.get("max_age").duration(),
        max_drift: view.get("max_drift").duration(),
    }
}

pub(super) fn sessions(root: View<'_>) -> SessionSettings {
    let view = root.get("sessions");
    let gaps = view.get("channel_gaps").entries();
    SessionSettings {
        gap: view.get("gap").duration(),
        channel_gaps: gaps.map(|(e, v)| (e.key.as_str().into(), v.duration())).collect(),
        by: match view.get("by").str() {
            Some("source") => SessionBy::Source,
            _ => SessionBy::Gap,
        },
        path: view.get("path").integer(),
    }
}

pub(super) fn checkout(root: View<'_>) -> CheckoutSettings {
    let view = root.get("checkout");
    let channel = |v: View<'_>| ChannelCheckout {
        t_checkout: v.get("t_checkout").valid_duration(),
        t_cart: v.get("t_cart").valid_duration(),
    };
    let channels = view.get("channels").entries();
    let transitions = view.get("transitions").texts();
    CheckoutSettings {
        t_checkout: view.get("t_checkout").duration(),
        carts: view.get("carts").bool(),
        t_cart: view.get("t_cart").duration(),
        t_pending: view.get("t_pending").duration(),
        t_merge: view.get("t_merge").duration(),
        max_checkout_age: view.get("max_checkout_age").duration(),
        max_recovery: view.get("max_recovery").duration(),
        channels: channels.map(|(e, v)| (e.key.as_str().into(), channel(v))).collect(),
        transitions: transitions.iter().filter_map(|t| Transition::by_name(t)).collect(),
    }
}

pub(super) fn identity(root: View<'_>) -> IdentitySettings {
    let ids = root.get("identity").get("degenerate_ids").items();
    let lower = |v: View<'_>| CompactString::from(v.str().unwrap_or_default().to_lowercase());
    IdentitySettings {
        degenerate_ids: ids.into_iter().map(lower).collect(),
        follow_customers: root.get("identity").get("follow_customers").bool(),
    }
}

/// A set of dimensions, sorted, each once.
pub(super) fn dimension_set(view: View<'_>) -> Vec<Dimension> {
    let mut set: Vec<Dimension> = view.items().into_iter().filter_map(dimension).collect();
    set.sort_unstable();
    set.dedup();
    set
}

fn dimension(view: View<'_>) -> Option<Dimension> {
    Dimension::ALL.into_iter().find(|d| Some(d.name()) == view.str())
}

pub(super) fn figures(root: View<'_>) -> FigureSettings {
    let view = root.get("figures");
    let window = |v: View<'_>| WindowSettings {
        length: v.get("length").duration(),
        slide: v.get("slide").duration(),
    };
    let mut windows: Vec<_> = view.get("windows").items().into_iter().map(window).collect();
    windows.sort_by_key(|w| w.length);
    let sets = view.get("dimensions").items().into_iter().map(dimension_set);
    let mut dimensions: Vec<_> = sets.filter(|set| !set.is_empty()).collect();
    dimensions.sort();
    dimensions.dedup();
    FigureSettings {
        windows,
        dimensions,
        dimension_cap: view.get("dimension_cap").integer(),
        value_of: match view.get("value_of").str() {
            Some("events") => ValueOf::Events,
            _ => ValueOf::Orders,
        },
        distinct_customers: view.get("distinct_customers").bool(),
    }
}

/// The enabled rules.
pub(super) fn rules(root: View<'_>) -> BTreeMap<CompactString, RuleSettings> {
    let enabled = |(_, view): &(_, View<'_>)| view.get("enabled").bool();
    let entries = root.get("rules").entries().filter(enabled);
    entries.map(|(e, v)| (CompactString::from(e.key.as_str()), rule(&e.key, v))).collect()
}

fn rule(name: &str, view: View<'_>) -> RuleSettings {
    RuleSettings {
        name: name.into(),
        detector: match view.get("detector").str() {
            Some("silence") => DetectorSettings::Silence(silence(view)),
            Some("threshold") => DetectorSettings::Threshold(threshold(view)),
            _ => DetectorSettings::RatioSpike(ratio_spike(view)),
        },
        severity: match view.get("severity").str() {
            Some("critical") => Severity::Critical,
            Some("info") => Severity::Info,
            _ => Severity::Warning,
        },
        owner: view.get("owner").text(),
        runbook: view.get("runbook").text(),
        summary: view.get("summary").text().into(),
        scopes: view.get("scopes").items().into_iter().map(dimension_set).collect(),
        enter_k: view.get("enter").get("k").integer(),
        enter_of: view.get("enter").get("of").integer(),
        leave: view.get("leave").integer(),
        merge_gap: view.get("merge_gap").duration(),
        cool_down: view.get("cool_down").duration(),
        min_completeness: view.get("min_completeness").number(),
    }
}

fn ratio_spike(view: View<'_>) -> RatioSpike {
    let learning = view.get("learning");
    RatioSpike {
        ratio: Ratio::CheckoutAbandonment,
        window: view.get("window").duration(),
        over: view.get("over").integer(),
        min_sample: view.get("min_sample").integer(),
        min_effect: view.get("min_effect").number(),
        min_relative: view.get("min_relative").number(),
        alpha: view.get("alpha").number(),
        alpha_suspicious: view.get("alpha_suspicious").number(),
        learning: Learning {
            half_life: learning.get("half_life").duration(),
            min_windows: learning.get("min_windows").integer(),
            min_decided: learning.get("min_decided").integer(),
            relearn_after: learning.get("relearn_after").duration(),
        },
    }
}

fn silence(view: View<'_>) -> Silence {
    Silence {
        min_gap: view.get("min_gap").duration(),
        max_gap: view.get("max_gap").duration(),
        chance: view.get("chance").number(),
        horizon: view.get("horizon").duration(),
        min_history: view.get("min_history").duration(),
    }
}

fn threshold(view: View<'_>) -> Threshold {
    let (above, below) = (view.get("above"), view.get("below"));
    let bound = match above.str() {
        Some(_) => Bound::Above(above.integer()),
        None => Bound::Below(below.integer()),
    };
    Threshold { bound, window: view.get("window").duration() }
}

pub(super) fn relay(root: View<'_>) -> RelaySettings {
    let view = root.get("relay");
    let urls = view.get("alertmanagers").items();
    RelaySettings {
        alertmanagers: urls.iter().filter_map(|v| v.str()).map(str::to_owned).collect(),
        resend_interval: view.get("resend_interval").duration(),
        max_alert_age: view.get("max_alert_age").duration(),
        external_url: view.get("external_url").str().map(str::to_owned),
    }
}
