//! Reading our own records where the writer's schema is that of the contract: field by field, without
//! a tree between.

use super::cursor::{Cursor, Malformed};
use super::shape::text;
use crate::model::reject::Reject;
use crate::model::time::EventTime;
use compact_str::CompactString;
use std::collections::BTreeMap;

/// What can be read as a field of one of our records; the counterpart of
/// [`AvroWrite`](super::write::AvroWrite).
pub(crate) trait AvroRead: Sized {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Reject>;
}

/// Reads a whole payload.
pub(crate) fn whole<T: AvroRead>(payload: &[u8]) -> Result<T, Reject> {
    let mut cursor = Cursor::new(payload);
    let value = T::read(&mut cursor)?;
    cursor.finish()?;
    Ok(value)
}

impl AvroRead for bool {
    fn read(cursor: &mut Cursor<'_>) -> Result<bool, Reject> {
        Ok(cursor.boolean()?)
    }
}

impl AvroRead for i32 {
    fn read(cursor: &mut Cursor<'_>) -> Result<i32, Reject> {
        Ok(cursor.int()?)
    }
}

impl AvroRead for u32 {
    fn read(cursor: &mut Cursor<'_>) -> Result<u32, Reject> {
        Ok(u32::try_from(cursor.int()?).map_err(|_| Malformed)?)
    }
}

impl AvroRead for i64 {
    fn read(cursor: &mut Cursor<'_>) -> Result<i64, Reject> {
        Ok(cursor.long()?)
    }
}

impl AvroRead for f64 {
    fn read(cursor: &mut Cursor<'_>) -> Result<f64, Reject> {
        Ok(cursor.double()?)
    }
}

impl AvroRead for CompactString {
    fn read(cursor: &mut Cursor<'_>) -> Result<CompactString, Reject> {
        Ok(text(cursor.bytes()?)?.into())
    }
}

impl AvroRead for EventTime {
    fn read(cursor: &mut Cursor<'_>) -> Result<EventTime, Reject> {
        Ok(EventTime::from_ms(cursor.long()?))
    }
}

/// Null is the first branch in every schema of ours.
impl<T: AvroRead> AvroRead for Option<T> {
    fn read(cursor: &mut Cursor<'_>) -> Result<Option<T>, Reject> {
        match cursor.index(2)? {
            0 => Ok(None),
            _ => T::read(cursor).map(Some),
        }
    }
}

impl<T: AvroRead> AvroRead for Vec<T> {
    fn read(cursor: &mut Cursor<'_>) -> Result<Vec<T>, Reject> {
        let mut list = Vec::new();
        cursor.blocks(|cursor| {
            list.push(T::read(cursor)?);
            Ok::<(), Reject>(())
        })?;
        Ok(list)
    }
}

impl<T: AvroRead> AvroRead for BTreeMap<CompactString, T> {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Reject> {
        let mut map = BTreeMap::new();
        cursor.blocks(|cursor| {
            let key = CompactString::read(cursor)?;
            map.insert(key, T::read(cursor)?);
            Ok::<(), Reject>(())
        })?;
        Ok(map)
    }
}
