//! How records are written: JSON without a registry, Avro by the registry's ids with one.

use super::tasks::context::Context as Tasks;
use super::tasks::ingest::CanonicalEncoding;
use crate::codec::canonical::CONTROL_SCHEMA;
use crate::codec::canonical::{Schemas, canonical_with_origin_schema};
use crate::codec::derived::{Encoding, SchemaIds};
use crate::codec::schemas::schema_of;
use crate::config::Settings;
use crate::kafka::registry::{Registry, RegistrySettings};
use crate::model::topic::Topic;
use crate::telemetry::Metrics;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all tasks share, how canonical records are written, and the schemas of derived records for
/// those who read them. With a registry our schemas are registered first, as `TOPIC-value`.
///
/// # Errors
/// If the registry refuses or cannot be reached.
pub fn prepare(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Tasks, CanonicalEncoding, Schemas)> {
    let names: BTreeMap<Topic, Arc<str>> =
        Topic::ALL.iter().map(|t| (*t, Arc::from(settings.topic(*t)))).collect();
    let mut files: BTreeMap<u32, String> =
        settings.registry.schemas.iter().map(|(id, file)| (*id, file.text.clone())).collect();
    let mut schemas = Schemas::new();
    let app = settings.app.name.clone();
    let Some(url) = &settings.registry.url else {
        let tasks = Tasks::new(app, names, Encoding::Json, None, files, metrics.clone())
            .with_message_bytes(&settings.kafka);
        return Ok((tasks, CanonicalEncoding::Json, schemas));
    };
    let mut access = RegistrySettings::new(url);
    access.basic_auth = settings
        .registry
        .username
        .clone()
        .map(|name| (name, settings.registry.password.clone().unwrap_or_default()));
    let registry =
        Registry::new(&access).with_context(|| format!("using the schema registry at {url}"))?;
    let register = |subject: String, schema: &str| {
        registry
            .register(&subject, schema)
            .with_context(|| format!("registering the schema of {subject} at {url}"))
    };
    let mut ids = SchemaIds::default();
    for topic in SchemaIds::TOPICS {
        let Some(schema) = schema_of(topic) else { continue };
        let id = register(format!("{}-value", settings.topic(topic)), schema)?;
        ids.set(topic, id);
        // The schemas are ours: a test reads every one of them.
        schemas.insert(id, schema).map_err(|r| anyhow::anyhow!("our own schema: {r:?}"))?;
    }
    let canonical = settings.topic(Topic::Canonical);
    let touchpoint = register(format!("{canonical}-value"), canonical_with_origin_schema())?;
    let control = register(format!("{canonical}-control"), CONTROL_SCHEMA)?;
    files.insert(touchpoint, canonical_with_origin_schema().to_owned());
    files.insert(control, CONTROL_SCHEMA.to_owned());
    let encoding = CanonicalEncoding::Avro { touchpoint, control };
    let registry = Some(Arc::new(registry));
    let tasks = Tasks::new(app, names, Encoding::Avro(ids), registry, files, metrics.clone())
        .with_message_bytes(&settings.kafka);
    Ok((tasks, encoding, schemas))
}
