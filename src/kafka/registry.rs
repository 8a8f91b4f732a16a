//! Schemas by id from a schema registry, and registration of ours.
//!
//! Workers are threads without a runtime, so calls block, on a small runtime that this module owns. A
//! worker asks once per id and writer: the plan that is compiled from a schema is cached elsewhere; the
//! text is cached here, for the other workers. An id that the registry does not know is remembered for
//! a while, so that a stream of bad records is no stream of requests. A registry that does not answer
//! is [`RegistryError::Down`], which pauses a partition and is no reason to reject anything.
//!
//! Not for the hot path, and no schema evolution rules: the registry checks compatibility.

mod references;

use super::error::Error;
use crate::clock::Moment;
use crate::model::time::Millis;
use hashbrown::HashMap;
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_referenced_schema, get_schema_by_id, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RawError, RegisteredReference, SchemaType, SuppliedSchema,
};
use std::collections::VecDeque;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Schemas kept; beyond that all are asked for again.
pub const SCHEMAS_KEPT_MAX: usize = 10_000;

/// References that are followed for one schema, those of references included.
pub const REFERENCES_MAX: usize = 64;

/// How to reach the registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Base addresses, tried in order.
    pub urls: Vec<String>,
    /// Name and password, if it wants them.
    pub basic_auth: Option<(String, String)>,
    /// How long one call may take.
    pub timeout: Millis,
    /// How long an unknown id is remembered.
    pub unknown_for: Millis,
}

impl RegistrySettings {
    /// Settings with the defaults for everything but the address.
    pub fn new(url: impl Into<String>) -> RegistrySettings {
        RegistrySettings {
            urls: vec![url.into()],
            basic_auth: None,
            timeout: Millis::from_secs(5),
            unknown_for: Millis::from_secs(60),
        }
    }
}

/// Why there is no schema.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum RegistryError {
    /// The registry answered that it has no such schema, or none that is Avro.
    #[error("the registry has no such Avro schema")]
    Unknown,
    /// The registry refused, and will refuse again.
    #[error("the registry refused: {0}")]
    Refused(String),
    /// The registry did not answer, or not now.
    #[error("the registry cannot be reached: {0}")]
    Down(String),
}

struct Known {
    text: Result<Arc<str>, RegistryError>,
    since: Moment,
}

/// A schema registry.
pub struct Registry {
    settings: SrSettings,
    unknown_for: Millis,
    known: Mutex<HashMap<u32, Known>>,
    /// `None` only while dropping.
    runtime: Option<Runtime>,
}

impl Registry {
    /// A registry; nothing is asked yet.
    pub fn new(settings: &RegistrySettings) -> Result<Registry, Error> {
        let mut urls = settings.urls.iter();
        let Some(first) = urls.next() else {
            return Err(Error::Property("the registry has no address".to_owned()));
        };
        let mut builder = SrSettings::new_builder(trimmed(first));
        for url in urls {
            builder.add_url(trimmed(url));
        }
        if let Some((name, password)) = &settings.basic_auth {
            builder.set_basic_authorization(name, Some(password));
        }
        builder.set_timeout(Duration::from_millis(settings.timeout.as_ms().unsigned_abs()));
        let built = builder.build().map_err(|e| Error::Property(explain(&e)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|e| Error::System(format!("no runtime for the registry: {e}")))?;
        Ok(Registry {
            settings: built,
            unknown_for: settings.unknown_for,
            known: Mutex::default(),
            runtime: Some(runtime),
        })
    }

    /// Text of the Avro schema with this id, its references resolved. Blocks; must not be called from
    /// asynchronous code.
    pub fn fetch(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        if let Some(known) = self.known().get(&id)
            && (known.text.is_ok() || known.since.elapsed() < self.unknown_for)
        {
            return known.text.clone();
        }
        let text = self.runtime().block_on(self.ask(id));
        if !matches!(text, Err(RegistryError::Down(_))) {
            let mut known = self.known();
            if known.len() >= SCHEMAS_KEPT_MAX {
                known.clear();
            }
            known.insert(id, Known { text: text.clone(), since: Moment::now() });
        }
        text
    }

    async fn ask(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        let registered = get_schema_by_id(id, &self.settings).await.map_err(|e| classify(&e))?;
        if registered.schema_type != SchemaType::Avro {
            return Err(RegistryError::Unknown);
        }
        let mut text = registered.schema;
        let mut open: VecDeque<RegisteredReference> = registered.references.into();
        let mut resolved = 0;
        while let Some(reference) = open.pop_front() {
            resolved += 1;
            if resolved > REFERENCES_MAX {
                let reason = format!("schema {id} has more than {REFERENCES_MAX} references");
                return Err(RegistryError::Refused(reason));
            }
            let asked = get_referenced_schema(&self.settings, &reference).await;
            let referenced = asked.map_err(|e| classify(&e))?;
            // Ours, as the client's own way panics on a referenced schema without a namespace.
            text = references::inline(&text, &reference.name, &referenced.schema)
                .map_err(|reason| RegistryError::Refused(format!("schema {id}: {reason}")))?;
            open.extend(referenced.references);
        }
        Ok(text.into())
    }

    /// Registers a schema for a subject, or finds it there; returns its id. Blocks.
    pub fn register(&self, subject: &str, avsc: &str) -> Result<u32, RegistryError> {
        let schema = SuppliedSchema::new(None, SchemaType::Avro, avsc.to_owned());
        let posted = post_schema(&self.settings, subject.to_owned(), schema);
        let registered = self.runtime().block_on(posted).map_err(|e| classify(&e))?;
        Ok(registered.id)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.known.lock().expect("no panic while held")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("there until dropped")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Waiting for it is forbidden in asynchronous code, where this may be dropped.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

fn explain(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    }
}

/// What a failed call means.
///
/// The client calls every status but 502 and 503 final, also 500 and 429. Only an answer in the
/// registry's own words is: a 404 without them comes from a proxy, or from a wrong address, and must not
/// reject a topic. Refused credentials may be accepted when the operator has mended them.
fn classify(error: &SRCError) -> RegistryError {
    let status = error.error.split("failed with status ").nth(1);
    let status: Option<u16> = status.and_then(|s| s.get(..3)).and_then(|s| s.parse().ok());
    let code = error.source().and_then(|s| s.downcast_ref::<RawError>()).map(|raw| raw.error_code);
    match (status, code) {
        (Some(404), Some(40_400..=40_499)) => RegistryError::Unknown,
        (Some(409 | 422), Some(code)) if code != 0 => RegistryError::Refused(explain(error)),
        _ => RegistryError::Down(explain(error)),
    }
}

#[cfg(test)]
mod tests;
