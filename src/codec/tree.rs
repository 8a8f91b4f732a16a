//! A decoded value of any shape: what whole records and foreign formats are taken apart from.
//!
//! Borrowed from the payload wherever that is possible. Not for the hot path of `journey`, which
//! reads through a plan (`avro::plan`) or slot by slot (`json`).

use std::borrow::Cow;

/// One value; objects keep the order of their fields.
#[derive(Clone, PartialEq, Debug)]
pub enum Tree<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits 64 bits. Avro timestamps are in milliseconds here, whatever their unit.
    Int(i64),
    /// Any other number; integers beyond 64 bits are here, too.
    Double(f64),
    /// Text, or an enum's symbol.
    Text(Cow<'a, str>),
    /// Avro `bytes` and `fixed`, decimals included.
    Bytes(&'a [u8]),
    /// An array.
    List(Vec<Tree<'a>>),
    /// An object, record or map.
    Map(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    /// The member `name` of an object; nulls count as absent.
    pub fn get(&self, name: &str) -> Option<&Tree<'a>> {
        match self {
            Tree::Map(fields) => {
                let (_, value) = fields.iter().find(|(key, _)| key == name)?;
                (*value != Tree::Null).then_some(value)
            }
            _ => None,
        }
    }

    /// The value at a path of member names and list positions, such as `["items", "0", "sku"]`.
    pub fn at(&self, path: &[&str]) -> Option<&Tree<'a>> {
        path.iter().try_fold(self, |tree, step| match tree {
            Tree::List(items) => items.get(step.parse::<usize>().ok()?),
            _ => tree.get(step),
        })
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one; a double without fraction counts, as some producers write `1.0`.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Tree::Int(number) => Some(*number),
            Tree::Double(number) => integral(*number),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Tree::Int(number) => Some(*number as f64),
            Tree::Double(number) => Some(*number),
            _ => None,
        }
    }
}

/// `number` as an integer, if it is one and small enough to be exact.
pub(crate) fn integral(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}
