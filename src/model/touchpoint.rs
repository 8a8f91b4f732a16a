//! One decoded customer event, whole ([`Touchpoint`]) or as the journey fold reads it ([`TouchpointRef`]).
//!
//! The names are those of the contract `touchpoint.canonical.v1`; absent means `None`. Money is in
//! minor units of its currency.

use super::time::EventTime;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// A touchpoint with every field of the contract: what `ingest` writes and `generate` makes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct Touchpoint {
    pub id: CompactString,
    pub source: CompactString,
    #[serde(default = "default_tenant")]
    pub tenant: CompactString,
    pub event_time: EventTime,
    #[serde(default)]
    pub received_time: Option<i64>,
    #[serde(default)]
    pub original_event_time: Option<EventTime>,
    #[serde(default)]
    pub time_source: Option<CompactString>,
    #[serde(default)]
    pub customer_id: Option<CompactString>,
    #[serde(default)]
    pub anonymous_id: Option<CompactString>,
    #[serde(default)]
    pub device_id: Option<CompactString>,
    #[serde(default)]
    pub account_id: Option<CompactString>,
    #[serde(default)]
    pub session_id: Option<CompactString>,
    pub channel: CompactString,
    #[serde(default)]
    pub stage: Option<CompactString>,
    pub touchpoint: CompactString,
    pub action: CompactString,
    #[serde(default)]
    pub outcome: Option<CompactString>,
    #[serde(default)]
    pub error_code: Option<CompactString>,
    #[serde(default)]
    pub surface: Option<CompactString>,
    #[serde(default)]
    pub direction: Option<CompactString>,
    #[serde(default)]
    pub paid: Option<bool>,
    #[serde(default)]
    pub checkout_id: Option<CompactString>,
    #[serde(default)]
    pub order_id: Option<CompactString>,
    #[serde(default)]
    pub cart_id: Option<CompactString>,
    #[serde(default)]
    pub conversation_id: Option<CompactString>,
    #[serde(default)]
    pub ticket_id: Option<CompactString>,
    #[serde(default)]
    pub shipment_id: Option<CompactString>,
    #[serde(default)]
    pub subscription_id: Option<CompactString>,
    #[serde(default)]
    pub survey_id: Option<CompactString>,
    #[serde(default)]
    pub step: Option<i32>,
    #[serde(default)]
    pub step_name: Option<CompactString>,
    #[serde(default)]
    pub value: Option<i64>,
    #[serde(default)]
    pub currency: Option<CompactString>,
    #[serde(default)]
    pub payment_method: Option<CompactString>,
    #[serde(default)]
    pub shipping_method: Option<CompactString>,
    #[serde(default)]
    pub coupon: Option<CompactString>,
    #[serde(default)]
    pub account_type: Option<CompactString>,
    #[serde(default)]
    pub items: Vec<Item>,
    #[serde(default)]
    pub campaign: Option<Campaign>,
    #[serde(default)]
    pub channel_group: Option<CompactString>,
    #[serde(default)]
    pub message_id: Option<CompactString>,
    #[serde(default)]
    pub content_version: Option<CompactString>,
    #[serde(default)]
    pub experiments: Vec<Exposure>,
    #[serde(default)]
    pub segments: Vec<CompactString>,
    #[serde(default)]
    pub rating: Option<Rating>,
    #[serde(default)]
    pub response_to: Option<CompactString>,
    #[serde(default)]
    pub handled_by: Option<CompactString>,
    #[serde(default)]
    pub agent_id: Option<CompactString>,
    #[serde(default)]
    pub department: Option<CompactString>,
    #[serde(default)]
    pub country: Option<CompactString>,
    #[serde(default)]
    pub region: Option<CompactString>,
    #[serde(default)]
    pub store_id: Option<CompactString>,
    #[serde(default)]
    pub is_bot: bool,
    #[serde(default)]
    pub bot_reason: Option<CompactString>,
    #[serde(default)]
    pub is_test: bool,
    #[serde(default)]
    pub consent: BTreeMap<CompactString, bool>,
    #[serde(default)]
    pub attributes: BTreeMap<CompactString, CompactString>,
}

fn default_tenant() -> CompactString {
    CompactString::const_new("default")
}

/// One line of a cart or an order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct Item {
    pub sku: CompactString,
    #[serde(default)]
    pub category: Option<CompactString>,
    #[serde(default = "one")]
    pub quantity: i32,
    #[serde(default)]
    pub price: Option<i64>,
}

fn one() -> i32 {
    1
}

/// Where the customer came from.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct Campaign {
    #[serde(default)]
    pub id: Option<CompactString>,
    #[serde(default)]
    pub name: Option<CompactString>,
    #[serde(default)]
    pub source: Option<CompactString>,
    #[serde(default)]
    pub medium: Option<CompactString>,
    #[serde(default)]
    pub term: Option<CompactString>,
    #[serde(default)]
    pub content: Option<CompactString>,
    #[serde(default)]
    pub click_id: Option<CompactString>,
}

/// Which variant of an experiment the customer saw.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct Exposure {
    pub experiment_id: CompactString,
    pub variant: CompactString,
}

/// One answer on a scale.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct Rating {
    pub kind: CompactString,
    pub score: f64,
    pub scale_max: f64,
}

impl Touchpoint {
    /// A touchpoint of which all but the required fields are absent.
    pub fn new(
        id: &str,
        source: &str,
        event_time: EventTime,
        channel: &str,
        touchpoint: &str,
        action: &str,
    ) -> Touchpoint {
        Touchpoint {
            id: id.into(),
            source: source.into(),
            tenant: default_tenant(),
            event_time,
            channel: channel.into(),
            touchpoint: touchpoint.into(),
            action: action.into(),
            received_time: None,
            original_event_time: None,
            time_source: None,
            customer_id: None,
            anonymous_id: None,
            device_id: None,
            account_id: None,
            session_id: None,
            stage: None,
            outcome: None,
            error_code: None,
            surface: None,
            direction: None,
            paid: None,
            checkout_id: None,
            order_id: None,
            cart_id: None,
            conversation_id: None,
            ticket_id: None,
            shipment_id: None,
            subscription_id: None,
            survey_id: None,
            step: None,
            step_name: None,
            value: None,
            currency: None,
            payment_method: None,
            shipping_method: None,
            coupon: None,
            account_type: None,
            items: Vec::new(),
            campaign: None,
            channel_group: None,
            message_id: None,
            content_version: None,
            experiments: Vec::new(),
            segments: Vec::new(),
            rating: None,
            response_to: None,
            handled_by: None,
            agent_id: None,
            department: None,
            country: None,
            region: None,
            store_id: None,
            is_bot: false,
            bot_reason: None,
            is_test: false,
            consent: BTreeMap::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// The view of this touchpoint that the journey fold reads.
    pub fn view(&self) -> TouchpointRef<'_> {
        TouchpointRef {
            id: &self.id,
            source: &self.source,
            tenant: &self.tenant,
            event_time: self.event_time,
            original_event_time: self.original_event_time,
            customer_id: self.customer_id.as_deref(),
            anonymous_id: self.anonymous_id.as_deref(),
            session_id: self.session_id.as_deref(),
            channel: &self.channel,
            stage: self.stage.as_deref(),
            touchpoint: &self.touchpoint,
            action: &self.action,
            error_code: self.error_code.as_deref(),
            checkout_id: self.checkout_id.as_deref(),
            order_id: self.order_id.as_deref(),
            cart_id: self.cart_id.as_deref(),
            step: self.step,
            step_name: self.step_name.as_deref(),
            value: self.value,
            currency: self.currency.as_deref(),
            payment_method: self.payment_method.as_deref(),
            shipping_method: self.shipping_method.as_deref(),
            coupon: self.coupon.as_deref(),
            account_type: self.account_type.as_deref(),
            campaign: self.campaign.as_ref().and_then(|c| c.id.as_deref().or(c.name.as_deref())),
            channel_group: self.channel_group.as_deref(),
            message_id: self.message_id.as_deref(),
            content_version: self.content_version.as_deref(),
            handled_by: self.handled_by.as_deref(),
            department: self.department.as_deref(),
            device_id: self.device_id.as_deref(),
            country: self.country.as_deref(),
            region: self.region.as_deref(),
            store_id: self.store_id.as_deref(),
            is_bot: self.is_bot,
            is_test: self.is_test,
            words: WordsHint::NONE,
        }
    }
}

/// Number of a combination of channel, stage, touchpoint and action that a decoder has met before, for
/// those who would look such a combination up: touchpoints of one number have the same four texts. It is
/// unique within the process, and says nothing beside: views are equal whatever theirs are.
#[derive(Clone, Copy, Default, Debug)]
pub struct WordsHint(Option<NonZeroU32>);

impl WordsHint {
    /// No number.
    pub const NONE: WordsHint = WordsHint(None);

    /// A number that no other combination has; none if there are no more.
    pub fn unique() -> WordsHint {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let next =
            NEXT.try_update(Ordering::Relaxed, Ordering::Relaxed, |next| next.checked_add(1));
        WordsHint(next.ok().and_then(NonZeroU32::new))
    }

    /// The number.
    pub const fn number(self) -> Option<NonZeroU32> {
        self.0
    }
}

impl PartialEq for WordsHint {
    fn eq(&self, _: &WordsHint) -> bool {
        true
    }
}

/// What the journey fold reads of a touchpoint, borrowed from the record's bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(missing_docs, reason = "the fields are documented in touchpoint.canonical.v1.avsc")]
pub struct TouchpointRef<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub tenant: &'a str,
    pub event_time: EventTime,
    pub original_event_time: Option<EventTime>,
    pub customer_id: Option<&'a str>,
    pub anonymous_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub channel: &'a str,
    pub stage: Option<&'a str>,
    pub touchpoint: &'a str,
    pub action: &'a str,
    pub error_code: Option<&'a str>,
    pub checkout_id: Option<&'a str>,
    pub order_id: Option<&'a str>,
    pub cart_id: Option<&'a str>,
    pub step: Option<i32>,
    pub step_name: Option<&'a str>,
    pub value: Option<i64>,
    pub currency: Option<&'a str>,
    pub payment_method: Option<&'a str>,
    pub shipping_method: Option<&'a str>,
    pub coupon: Option<&'a str>,
    pub account_type: Option<&'a str>,
    /// The campaign's id, or its name where it has none.
    pub campaign: Option<&'a str>,
    pub channel_group: Option<&'a str>,
    pub message_id: Option<&'a str>,
    pub content_version: Option<&'a str>,
    pub handled_by: Option<&'a str>,
    pub department: Option<&'a str>,
    pub device_id: Option<&'a str>,
    pub country: Option<&'a str>,
    pub region: Option<&'a str>,
    pub store_id: Option<&'a str>,
    pub is_bot: bool,
    pub is_test: bool,
    /// Beside the fields.
    pub words: WordsHint,
}

impl TouchpointRef<'static> {
    /// A view with every text empty or absent: what a decoder fills.
    pub const EMPTY: TouchpointRef<'static> = TouchpointRef {
        id: "",
        source: "",
        tenant: "default",
        event_time: EventTime::MIN,
        original_event_time: None,
        customer_id: None,
        anonymous_id: None,
        session_id: None,
        channel: "",
        stage: None,
        touchpoint: "",
        action: "",
        error_code: None,
        checkout_id: None,
        order_id: None,
        cart_id: None,
        step: None,
        step_name: None,
        value: None,
        currency: None,
        payment_method: None,
        shipping_method: None,
        coupon: None,
        account_type: None,
        campaign: None,
        channel_group: None,
        message_id: None,
        content_version: None,
        handled_by: None,
        department: None,
        device_id: None,
        country: None,
        region: None,
        store_id: None,
        is_bot: false,
        is_test: false,
        words: WordsHint::NONE,
    };
}

/// Where a canonical record comes from, and how far its source had got: field `origin`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the source in the configuration.
    pub source: CompactString,
    /// Partition of the source topic.
    pub partition: i32,
    /// Offset of the record in that partition.
    pub offset: i64,
    /// The source partition's watermark when the record was mapped (highest event time seen in it,
    /// this record included, less the source's bound for disorder).
    pub watermark: EventTime,
}

/// The same, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "as in Origin")]
pub struct OriginRef<'a> {
    pub source: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub watermark: EventTime,
}
