//! Writing canonical records: touchpoints with their origin, control records, keys.

use super::avro::write::AvroWrite;
use super::fields::{JsonWrite, member};
use super::wire;
use crate::model::control::Control;
use crate::model::touchpoint::{Origin, Touchpoint};

/// Appends a touchpoint as canonical JSON; absent fields are left out, `origin` comes first.
pub fn encode_json(origin: Option<&Origin>, touchpoint: &Touchpoint, out: &mut Vec<u8>) {
    match origin {
        None => touchpoint.json(out),
        Some(origin) => {
            out.push(b'{');
            let start = out.len();
            member("origin", origin, start, out);
            let bracket = out.len();
            touchpoint.json(out);
            // The touchpoint's own members follow in the same object.
            out[bracket] = b',';
        }
    }
}

/// Appends a framed touchpoint in Avro.
///
/// The schema of `schema_id` must be [`CANONICAL_SCHEMA`](super::canonical::CANONICAL_SCHEMA)
/// without an origin and
/// [`canonical_with_origin_schema`](super::canonical::canonical_with_origin_schema) with one.
pub fn encode_avro(
    schema_id: u32,
    origin: Option<&Origin>,
    touchpoint: &Touchpoint,
    out: &mut Vec<u8>,
) {
    wire::frame(schema_id, out);
    if let Some(origin) = origin {
        origin.avro(out);
    }
    touchpoint.avro(out);
}

/// Appends a control record as JSON.
pub fn encode_control_json(control: &Control, out: &mut Vec<u8>) {
    serde_json::to_writer(out, control).expect("a vector takes all, and every key is text");
}

/// Appends a framed control record in Avro
/// ([`CONTROL_SCHEMA`](super::canonical::CONTROL_SCHEMA)).
pub fn encode_control_avro(schema_id: u32, control: &Control, out: &mut Vec<u8>) {
    wire::frame(schema_id, out);
    match control {
        Control::Mark(mark) => {
            "mark".avro(out);
            mark.avro(out);
        }
    }
}

/// Appends the key of the canonical topic: `tenant|customer`.
pub fn canonical_key(tenant: &str, customer: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(tenant.as_bytes());
    out.push(b'|');
    out.extend_from_slice(customer.as_bytes());
}
