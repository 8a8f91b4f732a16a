//! Recordings: records of topics as lines of JSON or as an Avro container, for `replay`.
//!
//! A line is `{"topic", "partition", "offset", "timestamp", "key", "headers", "value"}`. Bytes
//! (key, value, each header's value) are
//!
//! - `null` where there are none;
//! - a JSON string where they are UTF-8: the text itself, also when it is JSON, so that they come
//!   back byte for byte;
//! - `{"base64": "…"}` otherwise.
//!
//! Other JSON in place of a value (an object, a number) is taken for its own text, as written; that
//! makes recordings easy to write by hand. Headers are an object by name, or a list of
//! `[name, value]` where a name repeats.
//!
//! A line without `topic` is bare: a canonical object by itself. What partition and offset it gets
//! is the reader's to say. Deliberately absent: compression, and reading files.

use super::canonical::{encode_json, validate_full};
use super::fields::{self, FromTree, required};
use super::json::{self, Parser, Peek};
use super::tree::Tree;
use crate::model::ids::{Offset, PartitionId};
use crate::model::reject::{Reject, RejectReason};
use apache_avro::types::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::borrow::Cow;

/// Longest line that is read: a record of 1 MiB with every byte escaped, and its headers.
pub const MAX_LINE_BYTES: usize = 8 << 20;

/// A header: name, and value if it has one.
pub type Header = (String, Option<Vec<u8>>);

/// One record as it lay in a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedLine {
    /// Name of the topic.
    pub topic: String,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp, epoch milliseconds.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers, in order; names may repeat.
    pub headers: Vec<Header>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl RecordedLine {
    /// The value of the first header `name`, if it has one.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }
}

/// What a line of an input file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// A record with its place.
    Recorded(RecordedLine),
    /// A canonical object in JSON and nothing else.
    Bare(Cow<'a, [u8]>),
}

/// Reads one line (without its line break).
pub fn parse_line(line: &[u8]) -> Result<Line<'_>, Reject> {
    let mut parser = Parser::new(line, MAX_LINE_BYTES)?;
    if parser.peek()? != Peek::Object {
        return Err(Reject::whole(RejectReason::WrongType));
    }
    let mut scratch = String::new();
    let mut members: Vec<(Cow<'_, str>, &str)> = Vec::new();
    let mut more = parser.open(b'{', b'}')?;
    while more {
        let name = json::string(&mut parser)?;
        parser.colon()?;
        let from = parser.position();
        parser.skip(&mut scratch, 1)?;
        members.push((name, parser.since(from)));
        more = parser.more(b'}')?;
    }
    parser.finish()?;
    let member = |name: &str| members.iter().find(|(n, _)| n == name).map(|(_, text)| *text);
    if member("topic").is_none() {
        return Ok(Line::Bare(Cow::Borrowed(line)));
    }
    Ok(Line::Recorded(RecordedLine {
        topic: field(member("topic"), "topic")?,
        partition: PartitionId::new(field(member("partition"), "partition")?),
        offset: Offset::new(field(member("offset"), "offset")?),
        timestamp: field(member("timestamp"), "timestamp")?,
        key: bytes(member("key").unwrap_or("null"), "key")?,
        headers: headers(member("headers").unwrap_or("null"))?,
        value: bytes(member("value").unwrap_or("null"), "value")?,
    }))
}

fn field<T: FromTree>(text: Option<&str>, name: &str) -> Result<T, Reject> {
    let value = match text {
        None | Some("null") => None,
        Some(text) => Some(T::from_tree(&json::tree(text.as_bytes(), MAX_LINE_BYTES)?, name)?),
    };
    required(value, name)
}

/// Bytes as they stand in a line.
fn bytes(text: &str, name: &str) -> Result<Option<Vec<u8>>, Reject> {
    match json::tree(text.as_bytes(), MAX_LINE_BYTES)? {
        Tree::Map(members) if is_base64(&members) => decoded(&members[0].1, name),
        tree => Ok(plain(&tree).unwrap_or_else(|| Some(text.as_bytes().to_vec()))),
    }
}

fn is_base64(members: &[(Cow<'_, str>, Tree<'_>)]) -> bool {
    matches!(members, [(name, Tree::Text(_))] if name == "base64")
}

fn decoded(tree: &Tree<'_>, name: &str) -> Result<Option<Vec<u8>>, Reject> {
    match BASE64.decode(tree.as_str().unwrap_or_default()) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(Reject::field(RejectReason::WrongType, name)),
    }
}

/// Bytes that are null or a text.
fn plain(tree: &Tree<'_>) -> Option<Option<Vec<u8>>> {
    match tree {
        Tree::Null => Some(None),
        Tree::Text(text) => Some(Some(text.as_bytes().to_vec())),
        Tree::Bytes(bytes) => Some(Some(bytes.to_vec())),
        _ => None,
    }
}

fn headers(text: &str) -> Result<Vec<Header>, Reject> {
    let wrong = || Reject::field(RejectReason::WrongType, "headers");
    let value = |tree: &Tree<'_>| match tree {
        Tree::Map(members) if is_base64(members) => decoded(&members[0].1, "headers"),
        other => plain(other).ok_or_else(wrong),
    };
    match json::tree(text.as_bytes(), MAX_LINE_BYTES)? {
        Tree::Null => Ok(Vec::new()),
        Tree::Map(members) => {
            members.iter().map(|(name, tree)| Ok((name.to_string(), value(tree)?))).collect()
        }
        Tree::List(pairs) => pairs
            .iter()
            .map(|pair| match pair {
                Tree::List(parts) => match parts.as_slice() {
                    [Tree::Text(name), tree] => Ok((name.to_string(), value(tree)?)),
                    _ => Err(wrong()),
                },
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// Appends one line, with its line break.
pub fn write_line(record: &RecordedLine, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_text(&record.topic, out);
    let numbers = format!(
        ",\"partition\":{},\"offset\":{},\"timestamp\":{},\"key\":",
        record.partition, record.offset, record.timestamp
    );
    out.extend_from_slice(numbers.as_bytes());
    write_bytes(record.key.as_deref(), out);
    out.extend_from_slice(b",\"headers\":");
    write_headers(&record.headers, out);
    out.extend_from_slice(b",\"value\":");
    write_bytes(record.value.as_deref(), out);
    out.extend_from_slice(b"}\n");
}

fn write_headers(headers: &[Header], out: &mut Vec<u8>) {
    let repeats = headers
        .iter()
        .enumerate()
        .any(|(i, (name, _))| headers[..i].iter().any(|(n, _)| n == name));
    let (open, close) = if repeats { (b'[', b']') } else { (b'{', b'}') };
    out.push(open);
    for (i, (name, value)) in headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if repeats {
            out.push(b'[');
        }
        write_text(name, out);
        out.push(if repeats { b',' } else { b':' });
        write_bytes(value.as_deref(), out);
        if repeats {
            out.push(b']');
        }
    }
    out.push(close);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes every text");
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"null"),
        Some((_, Ok(text))) => write_text(text, out),
        Some((bytes, Err(_))) => {
            let encoded = BASE64.encode(bytes);
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(encoded.as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Reads an Avro container: recorded records
/// ([`RECORDED_SCHEMA`](super::schemas::RECORDED_SCHEMA)), or touchpoints of any schema that has
/// the contract's fields, which come out as bare JSON.
pub fn read_container(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<Line<'static>, Reject>> + '_, Reject> {
    let malformed = || Reject::whole(RejectReason::MalformedAvro);
    let reader = apache_avro::Reader::new(bytes).map_err(|_| malformed())?;
    // After an error the reader has lost its place: nothing that follows could be trusted.
    let mut failed = false;
    Ok(reader.map_while(move |value| {
        if failed {
            return None;
        }
        let line = value.map_err(|_| malformed()).and_then(|v| container_line(&tree_of(&v)));
        failed = line.as_ref().is_err_and(|r| r.reason == RejectReason::MalformedAvro);
        Some(line)
    }))
}

fn container_line(tree: &Tree<'_>) -> Result<Line<'static>, Reject> {
    if tree.get("topic").is_none() {
        let (origin, touchpoint) = fields::touchpoint(tree)?;
        validate_full(origin.as_ref(), &touchpoint)?;
        let mut json = Vec::new();
        encode_json(origin.as_ref(), &touchpoint, &mut json);
        return Ok(Line::Bare(Cow::Owned(json)));
    }
    let wrong = |name: &str| Reject::field(RejectReason::WrongType, name);
    let bytes =
        |name: &str| plain(tree.get(name).unwrap_or(&Tree::Null)).ok_or_else(|| wrong(name));
    Ok(Line::Recorded(RecordedLine {
        topic: member(tree, "topic")?,
        partition: PartitionId::new(member(tree, "partition")?),
        offset: Offset::new(member(tree, "offset")?),
        timestamp: member(tree, "timestamp")?,
        key: bytes("key")?,
        headers: container_headers(tree.get("headers"))?,
        value: bytes("value")?,
    }))
}

fn member<T: FromTree>(tree: &Tree<'_>, name: &str) -> Result<T, Reject> {
    required(tree.get(name).map(|value| T::from_tree(value, name)).transpose()?, name)
}

fn container_headers(tree: Option<&Tree<'_>>) -> Result<Vec<Header>, Reject> {
    let wrong = || Reject::field(RejectReason::WrongType, "headers");
    match tree {
        None => Ok(Vec::new()),
        Some(Tree::List(items)) => items
            .iter()
            .map(|item| {
                let value = plain(item.get("value").unwrap_or(&Tree::Null)).ok_or_else(wrong)?;
                Ok((member(item, "name")?, value))
            })
            .collect(),
        Some(Tree::Map(members)) => members
            .iter()
            .map(|(name, value)| Ok((name.to_string(), plain(value).ok_or_else(wrong)?)))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

/// What the Avro library read, as a tree.
fn tree_of(value: &Value) -> Tree<'_> {
    match value {
        Value::Null => Tree::Null,
        Value::Boolean(value) => Tree::Bool(*value),
        Value::Int(n) | Value::Date(n) | Value::TimeMillis(n) => Tree::Int(i64::from(*n)),
        Value::Long(n)
        | Value::TimeMicros(n)
        | Value::TimestampMillis(n)
        | Value::LocalTimestampMillis(n)
        | Value::LocalTimestampMicros(n)
        | Value::LocalTimestampNanos(n) => Tree::Int(*n),
        Value::TimestampMicros(n) => Tree::Int(n.div_euclid(1_000)),
        Value::TimestampNanos(n) => Tree::Int(n.div_euclid(1_000_000)),
        Value::Float(n) => Tree::Double(f64::from(*n)),
        Value::Double(n) => Tree::Double(*n),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Tree::Bytes(bytes),
        Value::String(text) | Value::Enum(_, text) => Tree::Text(Cow::Borrowed(text)),
        Value::Union(_, inner) => tree_of(inner),
        Value::Array(items) => Tree::List(items.iter().map(tree_of).collect()),
        Value::Map(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(k, v)| (Cow::Borrowed(k.as_str()), tree_of(v))).collect();
            // The library's map has no order of its own.
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Tree::Map(members)
        }
        Value::Record(fields) => {
            Tree::Map(fields.iter().map(|(k, v)| (Cow::Borrowed(k.as_str()), tree_of(v))).collect())
        }
        Value::Uuid(uuid) => Tree::Text(Cow::Owned(uuid.to_string())),
        // No field of a recording or touchpoint has such a type.
        Value::Decimal(_) | Value::BigDecimal(_) | Value::Duration(_) => Tree::Null,
    }
}
