//! Canonical records of either encoding, with schemas fetched when they are first met.

use super::context::Context;
use crate::codec::canonical::{
    DecodeError, Decoded, Filled, JsonScratch, Needs, Schemas, decode_avro_full, decode_avro_into,
    decode_json, decode_json_full,
};
use crate::kafka::registry::RegistryError;
use crate::model::control::Control;
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::Touchpoint;
use std::sync::Arc;

/// Decodes the records of one partition.
pub struct Decoder {
    context: Arc<Context>,
    schemas: Schemas,
    scratch: JsonScratch,
    max_bytes: usize,
    /// Magic byte and schema id of the last record: mostly those of the next.
    header: Option<[u8; 5]>,
}

/// Why a record could not be decoded.
#[derive(Debug)]
pub enum Undecoded {
    /// It is bad.
    Reject(Reject),
    /// The registry is out: try again.
    Retry(String),
}

/// First byte of the Confluent wire format.
const MAGIC: u8 = 0;

impl Decoder {
    /// Knows the schemas of the configured files and of the canonical topic itself. [`Decoder::decode`]
    /// reads what is in `needs`.
    pub fn new(context: Arc<Context>, max_bytes: usize, needs: Needs) -> Decoder {
        let mut schemas = Schemas::reading(needs);
        for (id, text) in &context.schemas {
            // What does not fit is remembered as such, and each record of it is rejected by name.
            if let Err(reject) = schemas.insert(*id, text) {
                tracing::warn!(id, ?reject, "a configured schema cannot be used");
            }
        }
        let scratch = JsonScratch::with_limit(max_bytes);
        Decoder { context, schemas, scratch, max_bytes, header: None }
    }

    /// What the fold reads of a record: a touchpoint, in `filled`, or the control record returned.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        value: &'a [u8],
        filled: &mut Filled<'a>,
    ) -> Result<Option<Control>, Undecoded> {
        self.prepare(value)?;
        if value.first() == Some(&b'{') || value.first().is_none_or(u8::is_ascii_whitespace) {
            return match decode_json(value, &mut self.scratch) {
                Ok(Decoded::Touchpoint { origin, touchpoint }) => {
                    filled.set(touchpoint, origin);
                    Ok(None)
                }
                Ok(Decoded::Control(control)) => Ok(Some(control)),
                Err(reject) => Err(Undecoded::Reject(reject)),
            };
        }
        decode_avro_into(&self.schemas, value, filled).map_err(|e| refused(e, value))
    }

    /// A whole touchpoint: what `ingest` writes again.
    pub fn decode_full(&mut self, value: &[u8], avro: bool) -> Result<Touchpoint, Undecoded> {
        if !avro {
            self.check_size(value)?;
            return match decode_json_full(value) {
                Ok((_, touchpoint)) => Ok(touchpoint),
                Err(reject) => Err(Undecoded::Reject(reject)),
            };
        }
        self.prepare(value)?;
        match decode_avro_full(&self.schemas, value) {
            Ok((_, touchpoint)) => Ok(touchpoint),
            Err(e) => Err(refused(e, value)),
        }
    }

    fn check_size(&self, value: &[u8]) -> Result<(), Undecoded> {
        if value.len() > self.max_bytes {
            return Err(Undecoded::Reject(Reject::whole(RejectReason::TooLarge)));
        }
        Ok(())
    }

    /// Sees to it that the writer's schema is known, if the record has one.
    fn prepare(&mut self, value: &[u8]) -> Result<(), Undecoded> {
        self.check_size(value)?;
        if value.first() != Some(&MAGIC) || self.header.is_some_and(|h| value.starts_with(&h)) {
            return Ok(());
        }
        let Some(id) = self.schemas.missing(value) else {
            self.header = value.first_chunk().copied();
            return Ok(());
        };
        let Some(registry) = &self.context.registry else {
            self.schemas.insert_unknown(id);
            return Ok(());
        };
        match registry.fetch(id) {
            Ok(schema) => {
                if let Err(reject) = self.schemas.insert(id, &schema) {
                    tracing::warn!(id, ?reject, "a schema of the registry cannot be used");
                }
                Ok(())
            }
            Err(RegistryError::Unknown) => {
                self.schemas.insert_unknown(id);
                Ok(())
            }
            // An outage is no poison pill, nor is a registry that lost our credentials.
            Err(error) => Err(Undecoded::Retry(error.to_string())),
        }
    }
}

fn refused(error: DecodeError, value: &[u8]) -> Undecoded {
    match error {
        DecodeError::Reject(reject) => Undecoded::Reject(reject),
        // prepare() has made every schema known or known to be unknown.
        DecodeError::MissingSchema(_) => {
            debug_assert!(!value.is_empty());
            Undecoded::Reject(Reject::whole(RejectReason::UnknownSchemaId))
        }
    }
}
