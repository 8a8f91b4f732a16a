//! The Confluent wire format: `0x00`, schema id (u32, big endian), body.
//!
//! Deliberately absent: the header forms (`__value_schema_id`) and the GUID framing (magic byte 1).
//! Both are refused as [`RejectReason::WrongMagicByte`] instead of being guessed at.

use crate::model::reject::{Reject, RejectReason};

/// First byte of every framed payload.
pub const MAGIC: u8 = 0;

/// Splits a framed payload into schema id and body.
///
/// ```
/// use touchline::codec::wire::{frame, split};
/// let mut out = Vec::new();
/// frame(301, &mut out);
/// out.extend_from_slice(b"body");
/// assert_eq!(split(&out), Ok((301, &b"body"[..])));
/// ```
pub fn split(payload: &[u8]) -> Result<(u32, &[u8]), Reject> {
    match payload.split_first() {
        Some((&MAGIC, rest)) => match rest.split_first_chunk::<4>() {
            Some((id, body)) => Ok((u32::from_be_bytes(*id), body)),
            None => Err(Reject::whole(RejectReason::MalformedAvro)),
        },
        _ => Err(Reject::whole(RejectReason::WrongMagicByte)),
    }
}

/// Appends magic byte and schema id; the body follows.
pub fn frame(id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&id.to_be_bytes());
}
