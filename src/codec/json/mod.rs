//! JSON by hand: a strict parser that borrows what it can and names what is wrong.
//!
//! `serde_json` is the oracle of the tests. It is not used for canonical records because it neither
//! says which field has the wrong type nor lends text out of a text with escapes.

pub(crate) mod hot;
mod parser;

pub(crate) use parser::{MAX_DEPTH, Parser, Peek, Span};

use super::tree::{Tree, integral};
use crate::model::reject::{Reject, RejectReason};
use std::borrow::Cow;

/// Parses a whole text of at most `max_bytes`.
pub(crate) fn tree(payload: &[u8], max_bytes: usize) -> Result<Tree<'_>, Reject> {
    let mut parser = Parser::new(payload, max_bytes)?;
    let value = value(&mut parser, 0)?;
    parser.finish()?;
    Ok(value)
}

fn value<'a>(parser: &mut Parser<'a>, depth: u32) -> Result<Tree<'a>, Reject> {
    if depth > MAX_DEPTH {
        return Err(Reject::whole(RejectReason::TooDeep));
    }
    Ok(match parser.peek()? {
        Peek::Object => {
            let mut members = Vec::new();
            let mut more = parser.open(b'{', b'}')?;
            while more {
                let key = string(parser)?;
                parser.colon()?;
                members.push((key, value(parser, depth + 1)?));
                more = parser.more(b'}')?;
            }
            Tree::Map(members)
        }
        Peek::Array => {
            let mut items = Vec::new();
            let mut more = parser.open(b'[', b']')?;
            while more {
                items.push(value(parser, depth + 1)?);
                more = parser.more(b']')?;
            }
            Tree::List(items)
        }
        Peek::String => Tree::Text(string(parser)?),
        Peek::Number => {
            let number = parser.number()?;
            match number.parse::<i64>() {
                Ok(integer) => Tree::Int(integer),
                Err(_) => Tree::Double(float(number)?),
            }
        }
        Peek::True | Peek::False => Tree::Bool(parser.boolean()?),
        Peek::Null => {
            parser.null()?;
            Tree::Null
        }
    })
}

/// A string, borrowed unless it has escapes.
pub(crate) fn string<'a>(parser: &mut Parser<'a>) -> Result<Cow<'a, str>, Reject> {
    let mut scratch = String::new();
    Ok(match parser.string(&mut scratch)? {
        Span::Borrowed(text) => Cow::Borrowed(text),
        Span::Scratch(_) => Cow::Owned(scratch),
    })
}

fn float(number: &str) -> Result<f64, Reject> {
    match number.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(float),
        _ => Err(Reject::whole(RejectReason::MalformedJson)),
    }
}

/// An integer out of a number's text; `Err(true)` if it is one but too large for 64 bits.
pub(crate) fn integer(number: &str) -> Result<i64, bool> {
    match number.parse::<i64>() {
        Ok(integer) => Ok(integer),
        Err(_) => match number.parse::<f64>() {
            Ok(float) => integral(float).ok_or(float.fract() == 0.0),
            Err(_) => Err(false),
        },
    }
}

/// Epoch milliseconds of an RFC 3339 time.
pub(crate) fn rfc3339_ms(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).ok()
}
