//! What holds for every touchpoint, whichever way it came in: bounds of ids, amounts and times,
//! degenerate customer ids, known words.
//!
//! Ids are text of at most 1 KiB. A degenerate id (`guest`, `0`, …) is taken away: the touchpoint
//! counts, and belongs to nobody. Times are judged by the time of arrival, which the shell gives
//! and no producer can set. Bots and tests are only marked; `journey` leaves them out.

use crate::model::dimension::OTHER;
use crate::model::ids::hex;
use crate::model::observation::Observation;
use crate::model::reject::{Reject, RejectReason};
use crate::model::taxonomy::Taxonomy;
use crate::model::time::{EventTime, Millis};
use crate::model::touchpoint::Touchpoint;
use compact_str::CompactString;
use std::collections::BTreeSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Longest id, bytes.
pub const MAX_ID_BYTES: usize = 1_024;
/// Largest amount of money, minor units, either sign.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;
/// Most lines of a cart or order that are kept.
pub const MAX_ITEMS: usize = 50;
/// Most segments that are kept.
pub const MAX_SEGMENTS: usize = 16;
/// Most attributes that are kept.
pub const MAX_ATTRIBUTES: usize = 32;

/// Ids that stand for nobody in particular, where the configuration gives no other list.
pub const DEGENERATE_IDS: [&str; 12] = [
    "",
    "0",
    "-1",
    "null",
    "none",
    "nil",
    "nan",
    "undefined",
    "unknown",
    "guest",
    "anonymous",
    "00000000-0000-0000-0000-000000000000",
];

/// Years 1 to 9999: what every format of ours can write.
const RANGE_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// True if a time can be represented in every format.
pub fn in_range(ms: i64) -> bool {
    RANGE_MS.contains(&ms)
}

/// What the configuration decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How far ahead of arrival an event time may be.
    pub max_future_skew: Millis,
    /// How far behind arrival an event time may be.
    pub max_age: Millis,
    /// Ids that stand for nobody in particular, lower case.
    pub degenerate_ids: BTreeSet<CompactString>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_future_skew: Millis::from_mins(10),
            max_age: Millis::from_hours(30 * 24),
            degenerate_ids: DEGENERATE_IDS.iter().map(|id| (*id).into()).collect(),
        }
    }
}

/// How often a word was not in the taxonomy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnknownWords {
    /// Channels, now `other`.
    pub channel: u64,
    /// Stages that the source gave.
    pub stage: u64,
    /// Pairs (touchpoint, action) without a stage: kept, with stage `other`.
    pub touchpoint: u64,
}

impl UnknownWords {
    /// Appends what is not zero, and begins anew.
    pub fn drain(&mut self, out: &mut Vec<Observation>) {
        let counted =
            [("channel", self.channel), ("stage", self.stage), ("touchpoint", self.touchpoint)];
        let observed = counted.into_iter().filter(|(_, n)| *n > 0);
        out.extend(observed.map(|(dimension, n)| Observation::UnknownWord { dimension, n }));
        *self = UnknownWords::default();
    }
}

/// The rules, with the words they go by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    settings: Settings,
    taxonomy: Arc<Taxonomy>,
}

impl Rules {
    /// Makes the rules.
    pub fn new(settings: Settings, taxonomy: Arc<Taxonomy>) -> Rules {
        Rules { settings, taxonomy }
    }

    /// True if `id` stands for nobody in particular.
    pub fn is_degenerate(&self, id: &str) -> bool {
        let id = id.trim();
        self.settings.degenerate_ids.iter().any(|d| d.eq_ignore_ascii_case(id))
    }

    /// Makes a touchpoint fit for the canonical topic, or says why it cannot be used.
    ///
    /// `arrival` is the record's timestamp where its type is LogAppendTime, else the shell's clock.
    ///
    /// # Errors
    /// The first reason found, with the field.
    pub fn finish(
        &self,
        touchpoint: &mut Touchpoint,
        arrival: i64,
        unknown: &mut UnknownWords,
    ) -> Result<(), Reject> {
        check_ids(touchpoint)?;
        check_amounts(touchpoint)?;
        self.check_time(touchpoint, arrival)?;
        for id in [&mut touchpoint.customer_id, &mut touchpoint.anonymous_id] {
            if id.as_deref().is_some_and(|id| self.is_degenerate(id)) {
                *id = None;
            }
        }
        touchpoint.received_time.get_or_insert(arrival);
        touchpoint.items.truncate(MAX_ITEMS);
        touchpoint.segments.truncate(MAX_SEGMENTS);
        while touchpoint.attributes.len() > MAX_ATTRIBUTES {
            touchpoint.attributes.pop_last();
        }
        self.use_known_words(touchpoint, unknown);
        Ok(())
    }

    fn check_time(&self, touchpoint: &Touchpoint, arrival: i64) -> Result<(), Reject> {
        let event = touchpoint.event_time.as_ms();
        let original = touchpoint.original_event_time.map_or(event, EventTime::as_ms);
        if !in_range(event) {
            return Err(Reject::field(RejectReason::AbsurdTime, "event_time"));
        }
        if !in_range(original) {
            return Err(Reject::field(RejectReason::AbsurdTime, "original_event_time"));
        }
        let ahead = event.saturating_sub(arrival);
        if ahead > self.settings.max_future_skew.as_ms() {
            return Err(Reject::field(RejectReason::FutureTime, "event_time"));
        }
        if ahead.saturating_neg() > self.settings.max_age.as_ms() {
            return Err(Reject::field(RejectReason::PastTime, "event_time"));
        }
        Ok(())
    }

    fn use_known_words(&self, touchpoint: &mut Touchpoint, unknown: &mut UnknownWords) {
        if self.taxonomy.channel(&touchpoint.channel).is_none() {
            touchpoint.channel = OTHER.into();
            unknown.channel += 1;
        }
        let (name, action) = (touchpoint.touchpoint.as_str(), touchpoint.action.as_str());
        let known = |stage: &str| stage == OTHER || self.taxonomy.stage(stage).is_some();
        match touchpoint.stage.as_deref() {
            Some(stage) if known(stage) => return,
            Some(_) => unknown.stage += 1,
            None if self.taxonomy.stage_of(name, action).is_none() => unknown.touchpoint += 1,
            None => {}
        }
        let stage = self.taxonomy.resolve_stage(touchpoint.stage.as_deref(), name, action);
        touchpoint.stage = Some(stage.into());
    }
}

/// The customer key of a touchpoint: the known customer, else the anonymous one.
pub fn customer(touchpoint: &Touchpoint) -> Option<&str> {
    touchpoint.customer_id.as_deref().or(touchpoint.anonymous_id.as_deref())
}

/// Customer id of an e-mail address: the hash of what is left without spaces around and in lower
/// case. It hides the address from readers; it does not withstand somebody who tries addresses.
pub fn hashed_email(address: &str) -> CompactString {
    hex(xxh3_128(address.trim().to_lowercase().as_bytes()))
}

/// Id of an event whose source gives none: a hash of the parts, absent ones included.
pub fn fingerprint<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> CompactString {
    let mut bytes = Vec::with_capacity(128);
    for part in parts {
        match part {
            Some(text) => {
                // With the length in front, no two lists of parts run together.
                bytes.extend_from_slice(&(text.len() as u64 + 1).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            None => bytes.extend_from_slice(&0u64.to_le_bytes()),
        }
    }
    hex(xxh3_128(&bytes))
}

fn check_ids(touchpoint: &Touchpoint) -> Result<(), Reject> {
    if touchpoint.id.is_empty() {
        return Err(Reject::field(RejectReason::MissingId, "id"));
    }
    if touchpoint.tenant.is_empty() || touchpoint.tenant.contains('|') {
        return Err(Reject::field(RejectReason::BadTenant, "tenant"));
    }
    let t = touchpoint;
    let required =
        [("id", &t.id), ("source", &t.source), ("tenant", &t.tenant)].map(|(n, v)| (n, Some(v)));
    let optional = [
        ("customer_id", &t.customer_id),
        ("anonymous_id", &t.anonymous_id),
        ("device_id", &t.device_id),
        ("account_id", &t.account_id),
        ("session_id", &t.session_id),
        ("checkout_id", &t.checkout_id),
        ("order_id", &t.order_id),
        ("cart_id", &t.cart_id),
        ("conversation_id", &t.conversation_id),
        ("ticket_id", &t.ticket_id),
        ("shipment_id", &t.shipment_id),
        ("subscription_id", &t.subscription_id),
        ("survey_id", &t.survey_id),
        ("message_id", &t.message_id),
        ("response_to", &t.response_to),
        ("agent_id", &t.agent_id),
        ("store_id", &t.store_id),
    ]
    .map(|(n, v)| (n, v.as_ref()));
    match required
        .into_iter()
        .chain(optional)
        .find(|(_, id)| id.is_some_and(|id| id.len() > MAX_ID_BYTES))
    {
        Some((name, _)) => Err(Reject::field(RejectReason::IdTooLong, name)),
        None => Ok(()),
    }
}

fn check_amounts(touchpoint: &Touchpoint) -> Result<(), Reject> {
    let within =
        |amount: Option<i64>| amount.is_none_or(|a| a.unsigned_abs() <= MAX_AMOUNT.unsigned_abs());
    if !within(touchpoint.value) {
        return Err(Reject::field(RejectReason::AmountOutOfBounds, "value"));
    }
    if !touchpoint.items.iter().all(|item| within(item.price)) {
        return Err(Reject::field(RejectReason::AmountOutOfBounds, "items.price"));
    }
    Ok(())
}
