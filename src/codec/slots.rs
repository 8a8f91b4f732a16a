//! The fields that `journey` reads, as slots that a decoder fills in any order.

use crate::model::control::Control;
use crate::model::reject::{Reject, RejectReason};
use crate::model::time::EventTime;
use crate::model::touchpoint::{OriginRef, TouchpointRef};

/// What a slot takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
    Long,
    Time,
    Bool,
}

macro_rules! slots {
    (
        required { $($req:ident $req_name:ident,)* }
        optional { $($opt:ident $opt_name:ident,)* }
    ) => {
        /// One field that is read.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Slot {
            $($req,)* $($opt,)*
            EventTime, OriginalEventTime, Step, Value, IsBot, IsTest,
            CampaignId, CampaignName,
            OriginSource, OriginPartition, OriginOffset, OriginWatermark,
        }

        impl Slot {
            /// The slot of a field of the touchpoint itself.
            pub(crate) fn by_name(name: &str) -> Option<Slot> {
                Some(match name {
                    $(stringify!($req_name) => Slot::$req,)*
                    $(stringify!($opt_name) => Slot::$opt,)*
                    "event_time" => Slot::EventTime,
                    "original_event_time" => Slot::OriginalEventTime,
                    "step" => Slot::Step,
                    "value" => Slot::Value,
                    "is_bot" => Slot::IsBot,
                    "is_test" => Slot::IsTest,
                    _ => return None,
                })
            }

            /// Path of the field.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Slot::$req => stringify!($req_name),)*
                    $(Slot::$opt => stringify!($opt_name),)*
                    Slot::EventTime => "event_time",
                    Slot::OriginalEventTime => "original_event_time",
                    Slot::Step => "step",
                    Slot::Value => "value",
                    Slot::IsBot => "is_bot",
                    Slot::IsTest => "is_test",
                    Slot::CampaignId => "campaign.id",
                    Slot::CampaignName => "campaign.name",
                    Slot::OriginSource => "origin.source",
                    Slot::OriginPartition => "origin.partition",
                    Slot::OriginOffset => "origin.offset",
                    Slot::OriginWatermark => "origin.watermark",
                }
            }
        }

        impl<'a> Filled<'a> {
            /// Puts a text into a slot of kind text.
            #[inline]
            pub(crate) fn text(&mut self, slot: Slot, text: &'a str) {
                match slot {
                    $(Slot::$req => self.touchpoint.$req_name = text,)*
                    $(Slot::$opt => self.touchpoint.$opt_name = Some(text),)*
                    Slot::CampaignId => self.touchpoint.campaign = Some(text),
                    Slot::CampaignName => self.campaign_name = Some(text),
                    Slot::OriginSource => self.origin.source = text,
                    _ => {}
                }
            }
        }
    };
}

slots! {
    required {
        Id id, Source source, Tenant tenant, Channel channel, Touchpoint touchpoint, Action action,
    }
    optional {
        CustomerId customer_id, AnonymousId anonymous_id, SessionId session_id, Stage stage,
        ErrorCode error_code, CheckoutId checkout_id, OrderId order_id, CartId cart_id,
        StepName step_name, Currency currency, PaymentMethod payment_method,
        ShippingMethod shipping_method, Coupon coupon, AccountType account_type,
        ChannelGroup channel_group, MessageId message_id, ContentVersion content_version,
        HandledBy handled_by, Department department, DeviceId device_id, Country country,
        Region region, StoreId store_id,
    }
}

impl Slot {
    /// What the slot takes.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Slot::EventTime | Slot::OriginalEventTime | Slot::OriginWatermark => Kind::Time,
            Slot::Step | Slot::OriginPartition => Kind::Int,
            Slot::Value | Slot::OriginOffset => Kind::Long,
            Slot::IsBot | Slot::IsTest => Kind::Bool,
            _ => Kind::Text,
        }
    }

    /// A field of `campaign`.
    pub(crate) fn of_campaign(name: &str) -> Option<Slot> {
        match name {
            "id" => Some(Slot::CampaignId),
            "name" => Some(Slot::CampaignName),
            _ => None,
        }
    }

    /// A field of `origin`.
    pub(crate) fn of_origin(name: &str) -> Option<Slot> {
        match name {
            "source" => Some(Slot::OriginSource),
            "partition" => Some(Slot::OriginPartition),
            "offset" => Some(Slot::OriginOffset),
            "watermark" => Some(Slot::OriginWatermark),
            _ => None,
        }
    }

    /// One bit per slot, to notice repeats and gaps.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The fields of an origin beside its source's name.
const ORIGIN_NUMBERS: u64 =
    Slot::OriginPartition.bit() | Slot::OriginOffset.bit() | Slot::OriginWatermark.bit();

/// The slots as they are being filled.
pub(crate) struct Filled<'a> {
    pub(crate) touchpoint: TouchpointRef<'a>,
    campaign_name: Option<&'a str>,
    origin: OriginRef<'a>,
    pub(crate) seen: u64,
}

impl<'a> Filled<'a> {
    pub(crate) fn new() -> Filled<'a> {
        Filled {
            touchpoint: TouchpointRef::EMPTY,
            campaign_name: None,
            origin: OriginRef { source: "", partition: 0, offset: 0, watermark: EventTime::MIN },
            seen: 0,
        }
    }

    /// Puts a number into a slot of kind int, long or time.
    #[inline]
    pub(crate) fn number(&mut self, slot: Slot, number: i64) -> Result<(), Reject> {
        let wrong = || Reject::field(RejectReason::WrongType, slot.name());
        match slot {
            Slot::EventTime => self.touchpoint.event_time = EventTime::from_ms(number),
            Slot::OriginalEventTime => {
                self.touchpoint.original_event_time = Some(EventTime::from_ms(number));
            }
            Slot::Step => {
                self.touchpoint.step = Some(i32::try_from(number).map_err(|_| wrong())?);
            }
            Slot::Value => self.touchpoint.value = Some(number),
            Slot::OriginPartition => {
                self.origin.partition = i32::try_from(number).map_err(|_| wrong())?;
            }
            Slot::OriginOffset => self.origin.offset = number,
            Slot::OriginWatermark => self.origin.watermark = EventTime::from_ms(number),
            _ => return Err(wrong()),
        }
        self.seen |= slot.bit();
        Ok(())
    }

    /// Puts a truth value into a slot of kind bool.
    pub(crate) fn boolean(&mut self, slot: Slot, value: bool) {
        match slot {
            Slot::IsBot => self.touchpoint.is_bot = value,
            Slot::IsTest => self.touchpoint.is_test = value,
            _ => {}
        }
    }

    /// The touchpoint, checked, and its origin.
    pub(crate) fn finish(mut self) -> Result<Decoded<'a>, Reject> {
        if self.seen & Slot::EventTime.bit() == 0 {
            return Err(Reject::field(RejectReason::MissingField, "event_time"));
        }
        self.touchpoint.campaign = self.touchpoint.campaign.or(self.campaign_name);
        super::validate::touchpoint(&self.touchpoint)?;
        let origin = match self.seen & ORIGIN_NUMBERS {
            0 => None,
            ORIGIN_NUMBERS => Some(self.origin),
            _ => return Err(Reject::field(RejectReason::MissingField, "origin")),
        };
        if let Some(origin) = &origin {
            if origin.source.is_empty() {
                return Err(Reject::field(RejectReason::MissingField, "origin.source"));
            }
            super::validate::progress(origin.watermark, "origin.watermark")?;
        }
        Ok(Decoded::Touchpoint { origin, touchpoint: self.touchpoint })
    }
}

/// What a record of the canonical topic is.
#[derive(Clone, PartialEq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are touchpoints: a box for each is waste"
)]
pub enum Decoded<'a> {
    /// A customer event.
    Touchpoint {
        /// Where it came from; absent if `ingest` did not write it.
        origin: Option<OriginRef<'a>>,
        /// The event.
        touchpoint: TouchpointRef<'a>,
    },
    /// Something that a journey task must know.
    Control(Control),
}
