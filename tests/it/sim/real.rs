//! The tasks of the product itself, as the workers on Kafka run them, and input for them.

use super::env::Env;
use super::folds::REPARTITION;
use super::worker::{INPUTS, ROLLUPS};
use super::world::INPUT;
use std::collections::BTreeMap;
use std::sync::Arc;
use touchline::app::parts::Parts;
use touchline::app::tasks::context::Context;
use touchline::app::tasks::journey::Journeys;
use touchline::app::tasks::rollup::Rollups;
use touchline::codec::canonical::encode_json;
use touchline::codec::derived::Encoding;
use touchline::config::Settings;
use touchline::kafka::{Task, TaskFactory};
use touchline::model::ids::PartitionId;
use touchline::model::time::{EventTime, Millis};
use touchline::model::topic::Topic;
use touchline::model::touchpoint::Touchpoint;
use touchline::telemetry::Metrics;

/// A multiple of every window.
const BASE: i64 = 1_700_006_400_000;
/// Milliseconds of event time per millisecond of a world.
const SPEED: i64 = 60;

/// Topics that a stage of the product writes, by the names that they have here.
pub(crate) const WRITES: [&[Topic]; 2] = [
    &[Topic::Sessions, Topic::CheckoutLifecycle, Topic::Late, Topic::Rejected],
    &[Topic::Live, Topic::ChannelStage, Topic::AlertEvents, Topic::AlertsActive],
];

/// Both roles under two configurations.
pub(crate) struct Real {
    roles: [(Journeys, Rollups); 2],
}

fn settings(gap: &str) -> Settings {
    let yaml = format!(
        "ingest: direct\n\
         sources: {{shop: {{topic: {INPUT}, format: canonical_json, start: earliest}}}}\n\
         sessions: {{gap: {gap}}}\n\
         topics: {{rollup: {{partitions: {ROLLUPS}}}}}\n"
    );
    Settings::from_yaml_str("simulation", &yaml, BTreeMap::new()).expect("a valid configuration")
}

impl Real {
    pub(crate) fn new() -> Real {
        Real { roles: ["3m", "5m"].map(roles) }
    }

    pub(crate) fn task(&self, stage: usize, partition: PartitionId, config: u64) -> Box<dyn Task> {
        let (journeys, rollups) = &self.roles[config as usize - 1];
        let made = match stage {
            0 => journeys.create(INPUT, partition),
            _ => rollups.create(REPARTITION, partition),
        };
        made.expect("its parts are there")
    }
}

fn roles(gap: &str) -> (Journeys, Rollups) {
    let settings = settings(gap);
    let name = |topic: Topic| match topic {
        Topic::Canonical => INPUT,
        Topic::Rollup => REPARTITION,
        other => other.default_name(),
    };
    let names = Topic::ALL.iter().map(|t| (*t, Arc::from(name(*t)))).collect();
    let (json, metrics) = (Encoding::Json, Arc::new(Metrics::new()));
    let context = Context::new("sim".into(), names, json, None, BTreeMap::new(), metrics);
    let context = Arc::new(context);
    let mut parts = Parts::new(&settings);
    parts.set_direct(true);
    let journeys = Journeys {
        context: context.clone(),
        parts: parts.clone(),
        partitions: INPUTS,
        direct: Some("shop".to_owned()),
        idle_timeout: Millis::from_ms(900),
        max_bytes: 1 << 20,
    };
    (journeys, Rollups { context, parts, journey_partitions: INPUTS })
}

/// A random touchpoint of a customer at a time of the world; the kind of it follows from the dice.
pub(crate) fn event(env: &mut Env, at: i64, partition: i32, key: usize) -> Vec<u8> {
    let number = env.rng.next();
    let rng = &mut env.rng;
    let at = EventTime::from_ms(BASE + at * SPEED);
    let (what, action) = [
        ("page", "view"),
        ("product", "view"),
        ("checkout", "start"),
        ("checkout", "start"),
        ("checkout", "complete"),
        ("nothing", "known"),
    ][rng.below(6)];
    let channel = ["web", "app", "store"][rng.below(3)];
    let mut touchpoint = Touchpoint::new(&format!("{number:x}"), "shop", at, channel, what, action);
    touchpoint.customer_id = Some(format!("c{partition}.{key}").into());
    touchpoint.tenant = ["north", "south", "west"][key % 3].into();
    if what == "checkout" {
        touchpoint.checkout_id =
            Some(format!("o{partition}.{key}.{}", at.as_ms() / 400_000).into());
    }
    let mut payload = Vec::new();
    encode_json(None, &touchpoint, &mut payload);
    payload
}
