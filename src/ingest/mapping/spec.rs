//! What a mapping file says, as plain data.
//!
//! Nothing is checked here beyond the types; [`Mapping::compile`](super::Mapping::compile) checks
//! paths, formats, conditions, field names and words, and names what is wrong by its place in the
//! file (`rules[1].emit[0].stage`). Reading the file and finding line and column is the
//! configuration's work.

use crate::model::time::Millis;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A whole mapping file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSpec {
    /// Name of the mapping; `source` of its touchpoints where nothing else says it.
    pub mapping: String,
    /// Where the event time stands: candidates in order of precedence. None usable: the broker's
    /// timestamp.
    #[serde(default, deserialize_with = "one_or_many")]
    pub time: Vec<TimeSpec>,
    /// Where the deduplication id stands; absent: a fingerprint of event, customer, time and keys.
    #[serde(default)]
    pub id: Option<IdSpec>,
    /// The known customer.
    #[serde(default)]
    pub customer_id: Option<ValueSpec>,
    /// E-mail address: hashed, and used as customer where there is no `customer_id`.
    #[serde(default)]
    pub email: Option<ValueSpec>,
    /// The customer before log-in.
    #[serde(default)]
    pub anonymous_id: Option<ValueSpec>,
    /// Any touchpoint field: used where neither the rule nor the keys above give a value.
    #[serde(default)]
    pub defaults: BTreeMap<String, ValueSpec>,
    /// Tables from the source's words to ours, by name.
    #[serde(default)]
    pub values: BTreeMap<String, BTreeMap<String, Const>>,
    /// What to make of which record; the first match decides unless it says `stop: false`.
    #[serde(default)]
    pub rules: Vec<RuleSpec>,
    /// What becomes of a record that no rule made anything of.
    #[serde(default)]
    pub otherwise: Otherwise,
}

/// One candidate for the event time: either `field` or `corrected`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpec {
    /// Path of the time.
    #[serde(default)]
    pub field: Option<String>,
    /// `rfc3339` (the default), `epoch_ms`, `epoch_s`, `epoch_us`, or a pattern of `strptime`.
    #[serde(default)]
    pub format: Option<String>,
    /// Time zone of times that name none; absent: UTC.
    #[serde(default)]
    pub zone: Option<String>,
    /// What to call it; absent: `true` for `field`, `corrected` for `corrected`.
    #[serde(default)]
    pub time_source: Option<TimeSource>,
    /// Correction of the producer's clock.
    #[serde(default)]
    pub corrected: Option<CorrectedSpec>,
}

/// Correction of the producer's clock: `timestamp` where the source has corrected it already, else
/// received − (`sent_at` − `original`).
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorrectedSpec {
    /// Path of the time that the source has corrected itself.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// Path of the time at which the source received it; absent: the record's time of arrival.
    #[serde(default)]
    pub received_at: Option<String>,
    /// Path of the time, by the producer's clock, at which it was sent.
    #[serde(default)]
    pub sent_at: Option<String>,
    /// Path of the time, by the producer's clock, at which it happened.
    #[serde(default)]
    pub original: Option<String>,
    /// Largest correction that is believed; beyond it the original time counts. Absent: 24 h.
    #[serde(default, deserialize_with = "length")]
    pub max: Option<Millis>,
}

/// Where an event time came from: touchpoint field `time_source`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeSource {
    /// The source vouches for it.
    True,
    /// The producer's, corrected by what was seen on the way.
    Corrected,
    /// The producer's, as it was.
    Original,
    /// The broker's timestamp of the record.
    Broker,
}

impl TimeSource {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            TimeSource::True => "true",
            TimeSource::Corrected => "corrected",
            TimeSource::Original => "original",
            TimeSource::Broker => "broker",
        }
    }
}

/// Where the deduplication id stands: `field`, else `header`, else `position` or a fingerprint.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdSpec {
    /// Path of the id.
    #[serde(default)]
    pub field: Option<String>,
    /// Name of the Kafka header that holds it.
    #[serde(default)]
    pub header: Option<String>,
    /// Paths of the fields whose values together make one event.
    #[serde(default)]
    pub fingerprint: Vec<String>,
    /// The record's place in its topic: for sources without ids in which equal records are
    /// different events. Repeats that the source makes are then not recognised.
    #[serde(default)]
    pub position: bool,
}

/// A constant of the file.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each is the type of its name")]
pub enum Const {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A constant, or where a value stands in the record.
#[derive(Clone, PartialEq, Debug)]
pub enum ValueSpec {
    /// Always this.
    Const(Const),
    /// Taken from the record.
    From(Box<FromSpec>),
}

/// Where a value stands, and what is done with it: exactly one of `field`, `header`, `key`, `cel`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromSpec {
    /// Path in the record; under `each`, `item.` begins a path in the element.
    #[serde(default)]
    pub field: Option<String>,
    /// Name of a Kafka header.
    #[serde(default)]
    pub header: Option<String>,
    /// The record's Kafka key.
    #[serde(default)]
    pub key: bool,
    /// CEL expression over `event`, `headers` and, under `each`, `item`.
    #[serde(default)]
    pub cel: Option<String>,
    /// Table of `values` through which it goes.
    #[serde(default)]
    pub table: Option<String>,
    /// The value if there is none (or none in the table).
    #[serde(default)]
    pub default: Option<Const>,
    /// Factor of a number, for money in major units: 100.
    #[serde(default)]
    pub scale: Option<i64>,
    /// Text put in front.
    #[serde(default)]
    pub prefix: Option<String>,
}

/// What to make of the records that meet a condition.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// CEL condition over `event` and `headers`; absent: every record.
    #[serde(default)]
    pub when: Option<String>,
    /// The touchpoints to make.
    #[serde(default)]
    pub emit: Vec<EmitSpec>,
    /// Leave the record out, counted as filtered.
    #[serde(default)]
    pub filter: bool,
    /// No later rule is looked at.
    #[serde(default = "yes")]
    pub stop: bool,
}

/// One touchpoint to make of a record, or of each element of one of its arrays.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitSpec {
    /// Path of an array: one touchpoint for each element (variable `item`).
    #[serde(default)]
    pub each: Option<String>,
    /// The touchpoint.
    pub touchpoint: ValueSpec,
    /// What happened there.
    pub action: ValueSpec,
    /// The stage; absent: what the taxonomy says of the pair.
    #[serde(default)]
    pub stage: Option<ValueSpec>,
    /// Any other touchpoint field (`campaign.name`, `rating.score`, `attributes.x`, `consent.x`).
    #[serde(default)]
    pub fields: BTreeMap<String, ValueSpec>,
    /// The lines of a cart or an order.
    #[serde(default)]
    pub items: Option<ItemsSpec>,
    /// Moves the event time, back if negative: for records that speak of a moment before or after
    /// their own, such as a heartbeat for the seconds that led to it.
    #[serde(default, deserialize_with = "signed_length")]
    pub shift: Option<Millis>,
}

/// The lines of a cart or an order, from an array; paths in it begin with `item.`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsSpec {
    /// Path of the array.
    pub each: String,
    /// What was bought; an element without it is left out.
    pub sku: ValueSpec,
    /// Its category.
    #[serde(default)]
    pub category: Option<ValueSpec>,
    /// How many; absent: 1.
    #[serde(default)]
    pub quantity: Option<ValueSpec>,
    /// Price of one, minor units.
    #[serde(default)]
    pub price: Option<ValueSpec>,
}

/// What becomes of a record that no rule made anything of.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Otherwise {
    /// To `touchpoints.rejected`, reason `unmapped`.
    #[default]
    Reject,
    /// Left out, counted as filtered.
    Filter,
    /// This touchpoint.
    Emit(Box<EmitSpec>),
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for Const {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Const, D::Error> {
        match ValueSpec::deserialize(deserializer)? {
            ValueSpec::Const(constant) => Ok(constant),
            ValueSpec::From(_) => Err(de::Error::custom("expected a constant")),
        }
    }
}

impl<'de> Deserialize<'de> for ValueSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ValueSpec, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = ValueSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a constant or {field, table, default, scale, prefix, cel}")
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<ValueSpec, E> {
                Ok(ValueSpec::Const(Const::Bool(v)))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<ValueSpec, E> {
                Ok(ValueSpec::Const(Const::Int(v)))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<ValueSpec, E> {
                let int = i64::try_from(v).map_err(|_| E::custom("number too large"))?;
                Ok(ValueSpec::Const(Const::Int(int)))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<ValueSpec, E> {
                Ok(ValueSpec::Const(Const::Float(v)))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<ValueSpec, E> {
                Ok(ValueSpec::Const(Const::Text(v.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ValueSpec, A::Error> {
                let from = FromSpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ValueSpec::From(Box::new(from)))
            }
        }
        deserializer.deserialize_any(Values)
    }
}

impl<'de> Deserialize<'de> for Otherwise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Otherwise, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = Otherwise;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("reject, filter or {touchpoint, action}")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Otherwise, E> {
                match v {
                    "reject" => Ok(Otherwise::Reject),
                    "filter" => Ok(Otherwise::Filter),
                    _ => Err(E::invalid_value(de::Unexpected::Str(v), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Otherwise, A::Error> {
                let emit = EmitSpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Otherwise::Emit(Box::new(emit)))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// Reads a list, or one entry as a list of one.
fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an entry or a list of entries")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(Entries(PhantomData))
}

/// Reads a length of time as configuration writes it: whole `ms`, `s`, `m`, `h` or `d`.
fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    parse_length(&text)
        .map(Some)
        .ok_or_else(|| de::Error::custom(format!("`{text}` is no length of time such as 24h")))
}

/// The same, with a `-` in front for backwards.
fn signed_length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millis>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let (digits, sign) = text.strip_prefix('-').map_or((text.as_str(), 1), |rest| (rest, -1));
    parse_length(digits)
        .map(|length| Some(Millis::from_ms(sign * length.as_ms())))
        .ok_or_else(|| de::Error::custom(format!("`{text}` is no length of time such as -5s")))
}

fn parse_length(text: &str) -> Option<Millis> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..digits].parse().ok()?;
    let factor = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor).map(Millis::from_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_need_a_unit() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_length(text).map(Millis::as_ms), expected, "{text}");
        };
        check("24h", Some(86_400_000));
        check("0s", Some(0));
        check("1500ms", Some(1_500));
        check("24", None);
        check("h", None);
        check("-1h", None);
        check("99999999999999999d", None);
    }

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let spec: MappingSpec = serde_saphyr::from_str(
            "mapping: m\n\
             time: {corrected: {timestamp: t, max: 24h}}\n\
             defaults: {channel: web, paid: true, step: 2, currency: {field: c, default: EUR}}\n\
             values: {t: {a: x, 404: z}}\n\
             rules:\n  - when: 'true'\n    emit: [{touchpoint: a, action: {field: b}}]\n",
        )
        .unwrap();
        assert_eq!(spec.time.len(), 1);
        assert_eq!(spec.time[0].corrected.as_ref().unwrap().max, Some(Millis::from_hours(24)));
        assert_eq!(spec.defaults["step"], ValueSpec::Const(Const::Int(2)));
        assert_eq!(spec.defaults["paid"], ValueSpec::Const(Const::Bool(true)));
        assert_eq!(spec.values["t"]["404"], Const::Text("z".into()));
        assert!(spec.rules[0].stop && !spec.rules[0].filter);
        assert_eq!(spec.otherwise, Otherwise::Reject);
        for (text, wrong) in [
            ("mapping: m\notherwise: drop\n", "drop"),
            ("mapping: m\nunknown: 1\n", "unknown"),
            ("mapping: m\nvalues: {t: {a: {field: b}}}\n", "constant"),
        ] {
            let error = serde_saphyr::from_str::<MappingSpec>(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
