//! Why a record cannot be used: the closed set of reasons that `touchpoints.rejected`, metrics and
//! documentation name.

use serde::{Deserialize, Serialize};

/// Why a record went to `touchpoints.rejected`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// First byte is not the Confluent wire format's 0.
    WrongMagicByte,
    /// The registry (or the configured files) know no such schema.
    UnknownSchemaId,
    /// The writer's schema lacks what is needed, or differs in type.
    IncompatibleSchema,
    /// The bytes end before the record does, or lengths make no sense.
    MalformedAvro,
    /// Not JSON.
    MalformedJson,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// Nested deeper than the bound.
    TooDeep,
    /// Larger than the bound.
    TooLarge,
    /// A required field is absent.
    MissingField,
    /// A field has another type or form than it must have.
    WrongType,
    /// No customer, anonymous or other id at all, where one is required.
    MissingId,
    /// An id longer than 1 KiB.
    IdTooLong,
    /// A tenant with `|` in it.
    BadTenant,
    /// An amount beyond 10^15 minor units.
    AmountOutOfBounds,
    /// Event time further ahead of arrival than `max_future_skew`.
    FutureTime,
    /// Event time further behind arrival than `max_age`.
    PastTime,
    /// Event time outside of what can be represented.
    AbsurdTime,
    /// No rule of the mapping made anything of the record.
    Unmapped,
}

impl RejectReason {
    /// Every reason.
    pub const ALL: [RejectReason; 18] = [
        RejectReason::WrongMagicByte,
        RejectReason::UnknownSchemaId,
        RejectReason::IncompatibleSchema,
        RejectReason::MalformedAvro,
        RejectReason::MalformedJson,
        RejectReason::InvalidUtf8,
        RejectReason::TooDeep,
        RejectReason::TooLarge,
        RejectReason::MissingField,
        RejectReason::WrongType,
        RejectReason::MissingId,
        RejectReason::IdTooLong,
        RejectReason::BadTenant,
        RejectReason::AmountOutOfBounds,
        RejectReason::FutureTime,
        RejectReason::PastTime,
        RejectReason::AbsurdTime,
        RejectReason::Unmapped,
    ];

    /// The reason's name in headers and labels.
    pub const fn name(self) -> &'static str {
        match self {
            RejectReason::WrongMagicByte => "wrong_magic_byte",
            RejectReason::UnknownSchemaId => "unknown_schema_id",
            RejectReason::IncompatibleSchema => "incompatible_schema",
            RejectReason::MalformedAvro => "malformed_avro",
            RejectReason::MalformedJson => "malformed_json",
            RejectReason::InvalidUtf8 => "invalid_utf8",
            RejectReason::TooDeep => "too_deep",
            RejectReason::TooLarge => "too_large",
            RejectReason::MissingField => "missing_field",
            RejectReason::WrongType => "wrong_type",
            RejectReason::MissingId => "missing_id",
            RejectReason::IdTooLong => "id_too_long",
            RejectReason::BadTenant => "bad_tenant",
            RejectReason::AmountOutOfBounds => "amount_out_of_bounds",
            RejectReason::FutureTime => "future_time",
            RejectReason::PastTime => "past_time",
            RejectReason::AbsurdTime => "absurd_time",
            RejectReason::Unmapped => "unmapped",
        }
    }
}

/// A reason and the field that it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Path of the field, where there is one.
    pub field: Option<String>,
}

impl Reject {
    /// A reject that is about the record as a whole.
    pub fn whole(reason: RejectReason) -> Reject {
        Reject { reason, field: None }
    }

    /// A reject that is about one field.
    pub fn field(reason: RejectReason, field: &str) -> Reject {
        Reject { reason, field: Some(field.to_owned()) }
    }
}

/// Why a record or touchpoint is left out of the figures without being wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterReason {
    /// A tombstone (empty value).
    Tombstone,
    /// The mapping says to leave it out.
    Mapping,
    /// Marked as a bot.
    Bot,
    /// Marked as a test.
    Test,
    /// A fact (experiment, identity), no interaction.
    Fact,
}

impl FilterReason {
    /// The reason's name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            FilterReason::Tombstone => "tombstone",
            FilterReason::Mapping => "mapping",
            FilterReason::Bot => "bot",
            FilterReason::Test => "test",
            FilterReason::Fact => "fact",
        }
    }
}
