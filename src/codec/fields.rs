//! Whole records field by field: from a [`Tree`], to Avro and to JSON, from one list of fields
//! each.

use super::avro::cursor::Cursor;
use super::avro::read::AvroRead;
use super::avro::write::AvroWrite;
use super::tree::Tree;
use crate::model::control::{Control, Mark};
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::EventTime;
use crate::model::touchpoint::{Campaign, Exposure, Item, Origin, Rating, Touchpoint};
use compact_str::CompactString;

/// What can be taken from a tree.
pub(crate) trait FromTree: Sized {
    /// Reads a value that is not null; `field` is its name, for the error.
    fn from_tree(tree: &Tree<'_>, field: &str) -> Result<Self, Reject>;

    /// What an absent field stands for; `None` if it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// What can be written as JSON.
pub(crate) trait JsonWrite {
    fn json(&self, out: &mut Vec<u8>);

    /// True for what is left out of an object: absent means null, false or empty.
    fn is_absent(&self) -> bool {
        false
    }
}

/// The names of a record's fields.
pub(crate) trait Named {
    const FIELDS: &[&str];
}

pub(crate) fn wrong(field: &str) -> Reject {
    Reject::field(RejectReason::WrongType, field)
}

/// Puts the name of the record that a field is in before it.
pub(crate) fn within(field: &str, reject: Reject) -> Reject {
    match reject.field {
        Some(inner) if !field.is_empty() => {
            Reject::field(reject.reason, &format!("{field}.{inner}"))
        }
        _ => reject,
    }
}

pub(crate) fn required<T: FromTree>(value: Option<T>, field: &str) -> Result<T, Reject> {
    value.or_else(T::absent).ok_or_else(|| Reject::field(RejectReason::MissingField, field))
}

/// How a field is read: by its type, unless the list of fields says otherwise.
macro_rules! reader {
    () => {
        FromTree::from_tree
    };
    ($via:path) => {
        $via
    };
}
pub(crate) use reader;

/// Makes a record readable from a tree and writable as Avro, in the order of the fields given.
macro_rules! record {
    ($type:ident { $($field:ident $(= $default:expr)? $(, via $via:path)?;)* }) => {
        impl AvroWrite for $type {
            fn avro(&self, out: &mut Vec<u8>) {
                $(self.$field.avro(out);)*
            }
        }

        impl FromTree for $type {
            fn from_tree(tree: &Tree<'_>, field: &str) -> Result<$type, Reject> {
                let Tree::Map(members) = tree else {
                    return Err($crate::codec::fields::wrong(field));
                };
                $(let mut $field = None;)*
                for (name, value) in members {
                    if *value == Tree::Null {
                        continue;
                    }
                    match &**name {
                        $(stringify!($field) => {
                            if $field.is_some() {
                                return Err(Reject::field(RejectReason::MalformedJson, name));
                            }
                            let read = $crate::codec::fields::reader!($($via)?)(value, name);
                            let read = read.map_err(|r| $crate::codec::fields::within(field, r));
                            $field = Some(read?);
                        })*
                        _ => {}
                    }
                }
                $(let $field = $field$(.or_else(|| Some($default)))?;)*
                Ok($type {
                    $($field: $crate::codec::fields::required($field, stringify!($field))?,)*
                })
            }
        }
    };
}
pub(crate) use record;

/// The same, and readable from Avro of the very schema, and writable as JSON.
macro_rules! canonical_record {
    ($type:ident { $($field:ident $(= $default:expr)? $(, via $via:path)?;)* }) => {
        record!($type { $($field $(= $default)? $(, via $via)?;)* });

        impl AvroRead for $type {
            fn read(cursor: &mut Cursor<'_>) -> Result<$type, Reject> {
                // In the order of the schema.
                Ok($type { $($field: AvroRead::read(cursor)?,)* })
            }
        }

        impl Named for $type {
            const FIELDS: &[&str] = &[$(stringify!($field),)*];
        }

        impl JsonWrite for $type {
            fn json(&self, out: &mut Vec<u8>) {
                out.push(b'{');
                let start = out.len();
                $(member(stringify!($field), &self.$field, start, out);)*
                out.push(b'}');
            }
        }
    };
}

/// Writes one member of the object that began at `start`.
pub(crate) fn member(name: &str, value: &impl JsonWrite, start: usize, out: &mut Vec<u8>) {
    if value.is_absent() {
        return;
    }
    if out.len() > start {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    value.json(out);
}

canonical_record!(Touchpoint {
    id;
    source;
    tenant = CompactString::const_new("default");
    event_time;
    received_time, via time_ms;
    original_event_time;
    time_source;
    customer_id;
    anonymous_id;
    device_id;
    account_id;
    session_id;
    channel;
    stage;
    touchpoint;
    action;
    outcome;
    error_code;
    surface;
    direction;
    paid;
    checkout_id;
    order_id;
    cart_id;
    conversation_id;
    ticket_id;
    shipment_id;
    subscription_id;
    survey_id;
    step;
    step_name;
    value;
    currency;
    payment_method;
    shipping_method;
    coupon;
    account_type;
    items;
    campaign;
    channel_group;
    message_id;
    content_version;
    experiments;
    segments;
    rating;
    response_to;
    handled_by;
    agent_id;
    department;
    country;
    region;
    store_id;
    is_bot = false;
    bot_reason;
    is_test = false;
    consent;
    attributes;
});
canonical_record!(Item { sku; category; quantity = 1; price; });
canonical_record!(Campaign { id; name; source; medium; term; content; click_id; });
canonical_record!(Exposure { experiment_id; variant; });
canonical_record!(Rating { kind; score; scale_max; });
canonical_record!(Origin { source; partition; offset; watermark; });
canonical_record!(Mark { source; partition; watermark; clock; idle = false; of; });

/// What `ingest` writes.
pub(crate) struct WithOrigin {
    pub(crate) origin: Origin,
    pub(crate) touchpoint: Touchpoint,
}

impl AvroRead for WithOrigin {
    fn read(cursor: &mut Cursor<'_>) -> Result<WithOrigin, Reject> {
        Ok(WithOrigin { origin: AvroRead::read(cursor)?, touchpoint: AvroRead::read(cursor)? })
    }
}

/// A touchpoint and, where there is one, its origin. An `origin` that is no object is some other
/// producer's word and ignored.
pub(crate) fn touchpoint(tree: &Tree<'_>) -> Result<(Option<Origin>, Touchpoint), Reject> {
    let origin = match tree.get("origin") {
        Some(origin @ Tree::Map(members)) if is_origin(members) => {
            Some(Origin::from_tree(origin, "origin").map_err(|r| within("origin", r))?)
        }
        _ => None,
    };
    if !matches!(tree, Tree::Map(_)) {
        return Err(Reject::whole(RejectReason::WrongType));
    }
    Ok((origin, Touchpoint::from_tree(tree, "")?))
}

fn is_origin(members: &[(std::borrow::Cow<'_, str>, Tree<'_>)]) -> bool {
    let numbers = ["partition", "offset", "watermark"];
    members.iter().any(|(name, value)| numbers.contains(&&**name) && *value != Tree::Null)
}

/// A control record.
pub(crate) fn control(tree: &Tree<'_>) -> Result<Control, Reject> {
    match tree.get("control").map(Tree::as_str) {
        Some(Some("mark")) => {
            let mark = Mark::from_tree(tree, "")?;
            for time in [mark.watermark, mark.clock].into_iter().flatten() {
                super::validate::progress(time, "watermark")?;
            }
            Ok(Control::Mark(mark))
        }
        Some(_) => Err(wrong("control")),
        None => Err(Reject::field(RejectReason::MissingField, "control")),
    }
}

fn time_ms(tree: &Tree<'_>, field: &str) -> Result<Option<i64>, Reject> {
    Ok(Some(EventTime::from_tree(tree, field)?.as_ms()))
}
