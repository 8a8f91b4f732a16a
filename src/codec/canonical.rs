//! The canonical topic: touchpoints and control records, in Avro and in JSON.
//!
//! `journey` reads through [`decode_avro`] and [`decode_json`], which borrow; `ingest` and the
//! tools read and write whole touchpoints. No IO: a schema that is not here yet is
//! [`Lookup::Missing`], and the shell fetches it.

pub use super::avro::plan::Plan;
pub use super::encode::{
    canonical_key, encode_avro, encode_control_avro, encode_control_json, encode_json,
};
pub use super::json::hot::{JsonScratch, MAX_JSON_BYTES, decode_json};
pub use super::slots::{Decoded, Filled, Needs};
pub use super::validate::{MAX_AMOUNT, MAX_ID_BYTES};

use super::tree::Tree;
use super::{fields, json, validate, wire};
use crate::model::control::Control;
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::{Origin, Touchpoint};
use hashbrown::HashMap;
use std::sync::{Arc, LazyLock};

/// What the cache knows of a schema id.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// Compiled.
    Known(&'a Plan),
    /// The registry gave something that is no usable schema.
    Unusable(&'a Reject),
    /// The registry does not know it.
    Unknown,
    /// Not asked for yet: to be fetched.
    Missing,
}

#[derive(Clone, Debug)]
enum Entry {
    Known(Arc<Plan>),
    Unusable(Reject),
    Unknown,
}

/// Writer schemas by registry id. Cloning is cheap: plans are shared.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    by_id: HashMap<u32, Entry>,
    needs: Needs,
}

impl Schemas {
    /// An empty cache.
    pub fn new() -> Schemas {
        Schemas::default()
    }

    /// An empty cache for a reader that wants these fields only.
    pub fn reading(needs: Needs) -> Schemas {
        Schemas { needs, ..Schemas::default() }
    }

    /// Compiles and keeps the schema of `id`.
    ///
    /// An error (it is no Avro schema) is kept, too, so that nobody asks again. A schema that is
    /// fine but is not a touchpoint's is no error here; [`decode_avro`] says `IncompatibleSchema`.
    pub fn insert(&mut self, id: u32, avsc: &str) -> Result<(), Reject> {
        match Plan::compile(avsc, self.needs) {
            Ok(plan) => {
                self.by_id.insert(id, Entry::Known(Arc::new(plan)));
                Ok(())
            }
            Err(reject) => {
                self.by_id.insert(id, Entry::Unusable(reject.clone()));
                Err(reject)
            }
        }
    }

    /// Keeps that the registry does not know `id`.
    pub fn insert_unknown(&mut self, id: u32) {
        self.by_id.insert(id, Entry::Unknown);
    }

    /// Forgets the ids that the registry did not know or had nothing usable for, so that they are
    /// asked for again.
    pub fn forget_failures(&mut self) {
        self.by_id.retain(|_, entry| matches!(entry, Entry::Known(_)));
    }

    /// What is known of `id`.
    #[inline]
    pub fn get(&self, id: u32) -> Lookup<'_> {
        match self.by_id.get(&id) {
            Some(Entry::Known(plan)) => Lookup::Known(plan),
            Some(Entry::Unusable(reject)) => Lookup::Unusable(reject),
            Some(Entry::Unknown) => Lookup::Unknown,
            None => Lookup::Missing,
        }
    }

    /// The schema id of a framed payload, if nothing is known of it yet.
    pub fn missing(&self, payload: &[u8]) -> Option<u32> {
        let (id, _) = wire::split(payload).ok()?;
        (!self.by_id.contains_key(&id)).then_some(id)
    }

    /// Splits the wire format and finds the plan.
    #[inline]
    fn plan<'a>(&'a self, payload: &'a [u8]) -> Result<(&'a Plan, &'a [u8]), DecodeError> {
        let (id, body) = wire::split(payload)?;
        match self.get(id) {
            Lookup::Known(plan) => Ok((plan, body)),
            Lookup::Unusable(reject) => Err(reject.clone().into()),
            Lookup::Unknown => Err(Reject::whole(RejectReason::UnknownSchemaId).into()),
            Lookup::Missing => Err(DecodeError::MissingSchema(id)),
        }
    }
}

/// Why a framed record could not be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// It never can be.
    Reject(Reject),
    /// It can once this schema is here.
    MissingSchema(u32),
}

impl From<Reject> for DecodeError {
    fn from(reject: Reject) -> DecodeError {
        DecodeError::Reject(reject)
    }
}

/// Decodes a framed Avro record as `journey` needs it.
pub fn decode_avro<'a>(
    schemas: &'a Schemas,
    payload: &'a [u8],
) -> Result<Decoded<'a>, DecodeError> {
    let mut filled = Filled::new();
    Ok(match decode_avro_into(schemas, payload, &mut filled)? {
        Some(control) => Decoded::Control(control),
        None => filled.decoded(),
    })
}

/// The same, in place: fills in a touchpoint, or returns a control record.
#[inline]
pub fn decode_avro_into<'a>(
    schemas: &'a Schemas,
    payload: &'a [u8],
    filled: &mut Filled<'a>,
) -> Result<Option<Control>, DecodeError> {
    let (plan, body) = schemas.plan(payload)?;
    Ok(plan.decode(body, filled)?)
}

/// Decodes a framed Avro record of any schema, for mappings.
pub fn decode_avro_tree<'a>(
    schemas: &'a Schemas,
    payload: &'a [u8],
) -> Result<Tree<'a>, DecodeError> {
    let (plan, body) = schemas.plan(payload)?;
    Ok(plan.tree(body)?)
}

/// Decodes a JSON text of any shape, for mappings; at most `max_bytes` long.
pub fn decode_json_tree(payload: &[u8], max_bytes: usize) -> Result<Tree<'_>, Reject> {
    json::tree(payload, max_bytes)
}

/// Decodes a whole touchpoint from framed Avro.
pub fn decode_avro_full(
    schemas: &Schemas,
    payload: &[u8],
) -> Result<(Option<Origin>, Touchpoint), DecodeError> {
    let (plan, body) = schemas.plan(payload)?;
    let (origin, touchpoint) = plan.whole(body)?;
    validate_full(origin.as_ref(), &touchpoint)?;
    Ok((origin, touchpoint))
}

/// Decodes a whole touchpoint from JSON.
pub fn decode_json_full(payload: &[u8]) -> Result<(Option<Origin>, Touchpoint), Reject> {
    let (origin, touchpoint) = fields::touchpoint(&json::tree(payload, MAX_JSON_BYTES)?)?;
    validate_full(origin.as_ref(), &touchpoint)?;
    Ok((origin, touchpoint))
}

/// Checks a whole touchpoint and its origin: what every decoder does, for those who make their own.
pub fn validate_full(origin: Option<&Origin>, touchpoint: &Touchpoint) -> Result<(), Reject> {
    validate::whole(touchpoint)?;
    match origin {
        Some(origin) if origin.source.is_empty() => {
            Err(Reject::field(RejectReason::MissingField, "origin.source"))
        }
        Some(origin) => validate::progress(origin.watermark, "origin.watermark"),
        None => Ok(()),
    }
}

/// The contract `touchpoint.canonical.v1`.
pub const CANONICAL_SCHEMA: &str = include_str!("schemas/touchpoint.canonical.v1.avsc");

/// The schema of control records.
pub const CONTROL_SCHEMA: &str = include_str!("schemas/control.v1.avsc");

/// Field `origin` as it stands in front of the contract's fields.
const ORIGIN_FIELD: &str = r#"{"name": "origin", "doc": "where ingest read this from", "type":
      {"type": "record", "name": "Origin", "fields": [
      {"name": "source", "type": "string", "doc": "name of the source in the configuration"},
      {"name": "partition", "type": "int", "doc": "partition of the source topic"},
      {"name": "offset", "type": "long", "doc": "offset in that partition"},
      {"name": "watermark", "type": {"type": "long", "logicalType": "timestamp-millis"},
       "doc": "highest event time of the source partition so far, less the bound for disorder"}]}},
    "#;

/// The schema of what `ingest` writes: the contract with `origin` in front.
pub fn canonical_with_origin_schema() -> &'static str {
    static SCHEMA: LazyLock<String> = LazyLock::new(|| {
        let fields = "\"fields\": [";
        let at = CANONICAL_SCHEMA.find(fields).expect("the contract is a record") + fields.len();
        let (head, tail) = CANONICAL_SCHEMA.split_at(at);
        format!("{head}\n    {ORIGIN_FIELD}{}", tail.trim_start())
    });
    &SCHEMA
}
