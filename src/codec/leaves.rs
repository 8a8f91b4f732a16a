//! How the types of fields are read from a tree and written as JSON.

use super::fields::{FromTree, JsonWrite, wrong};
use super::json::rfc3339_ms;
use super::tree::{Tree, integral};
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::EventTime;
use compact_str::CompactString;
use std::collections::BTreeMap;

impl FromTree for CompactString {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<CompactString, Reject> {
        match tree {
            Tree::Text(text) => Ok(CompactString::from(&**text)),
            Tree::Bytes(bytes) => std::str::from_utf8(bytes)
                .map(CompactString::from)
                .map_err(|_| Reject::field(RejectReason::InvalidUtf8, field)),
            _ => Err(wrong(field)),
        }
    }
}

impl FromTree for String {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<String, Reject> {
        CompactString::from_tree(tree, field).map(String::from)
    }
}

impl FromTree for bool {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<bool, Reject> {
        match tree {
            Tree::Bool(value) => Ok(*value),
            _ => Err(wrong(field)),
        }
    }
}

impl FromTree for i64 {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<i64, Reject> {
        match tree {
            Tree::Int(number) => Ok(*number),
            Tree::Double(number) => integral(*number).ok_or_else(|| {
                // Money is the only large number of the contract.
                let is_amount = number.fract() == 0.0;
                let wrong_type = RejectReason::WrongType;
                let reason = if is_amount { RejectReason::AmountOutOfBounds } else { wrong_type };
                Reject::field(reason, field)
            }),
            _ => Err(wrong(field)),
        }
    }
}

impl FromTree for i32 {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<i32, Reject> {
        tree.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| wrong(field))
    }
}

impl FromTree for u32 {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<u32, Reject> {
        tree.as_i64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| wrong(field))
    }
}

impl FromTree for i128 {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<i128, Reject> {
        i64::from_tree(tree, field).map(i128::from)
    }
}

impl FromTree for f64 {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<f64, Reject> {
        tree.as_f64().ok_or_else(|| wrong(field))
    }
}

impl FromTree for EventTime {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<EventTime, Reject> {
        let ms = match tree {
            Tree::Text(text) => rfc3339_ms(text),
            other => other.as_i64(),
        };
        ms.map(EventTime::from_ms).ok_or_else(|| wrong(field))
    }
}

impl<T: FromTree> FromTree for Option<T> {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<Option<T>, Reject> {
        T::from_tree(tree, field).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: FromTree> FromTree for Vec<T> {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<Vec<T>, Reject> {
        match tree {
            Tree::List(items) => items.iter().map(|item| T::from_tree(item, field)).collect(),
            _ => Err(wrong(field)),
        }
    }

    fn absent() -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

impl<T: FromTree> FromTree for BTreeMap<CompactString, T> {
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<Self, Reject> {
        match tree {
            Tree::Map(members) => members
                .iter()
                .map(|(key, value)| Ok((CompactString::from(&**key), T::from_tree(value, field)?)))
                .collect(),
            _ => Err(wrong(field)),
        }
    }

    fn absent() -> Option<Self> {
        Some(BTreeMap::new())
    }
}

/// Leaves go through `serde_json`, which writes numbers and escapes.
macro_rules! json_leaf {
    ($($type:ty),*) => {$(
        impl JsonWrite for $type {
            fn json(&self, out: &mut Vec<u8>) {
                serde_json::to_writer(out, self).expect("a vector takes all, and keys are text");
            }
        }
    )*};
}
json_leaf!(CompactString, i32, u32, i64, f64, EventTime);

impl JsonWrite for bool {
    fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    /// False is the default of every flag that is not nullable.
    fn is_absent(&self) -> bool {
        !self
    }
}

impl<T: JsonWrite> JsonWrite for Option<T> {
    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.json(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: JsonWrite> JsonWrite for Vec<T> {
    fn json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (i, item) in self.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            item.json(out);
        }
        out.push(b']');
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: JsonWrite> JsonWrite for BTreeMap<CompactString, T> {
    fn json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, (key, value)) in self.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            key.json(out);
            out.push(b':');
            value.json(out);
        }
        out.push(b'}');
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
