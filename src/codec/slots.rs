//! The fields that `journey` reads, as slots that a decoder fills in any order.

use super::validate::MAX_ID_BYTES;
use crate::model::control::Control;
use crate::model::dimension::Dimension;
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

    /// Where the value of a dimension comes from, if it is a text of the touchpoint's own and not read
    /// anyway.
    const fn of_dimension(dimension: Dimension) -> Option<Slot> {
        Some(match dimension {
            Dimension::AccountType => Slot::AccountType,
            Dimension::ChannelGroup => Slot::ChannelGroup,
            Dimension::ContentVersion => Slot::ContentVersion,
            Dimension::Country => Slot::Country,
            Dimension::Department => Slot::Department,
            Dimension::Device => Slot::DeviceId,
            Dimension::HandledBy => Slot::HandledBy,
            Dimension::Message => Slot::MessageId,
            Dimension::PaymentMethod => Slot::PaymentMethod,
            Dimension::Region => Slot::Region,
            Dimension::ShippingMethod => Slot::ShippingMethod,
            Dimension::Store => Slot::StoreId,
            // Campaigns are nested, and read wherever they are.
            Dimension::Campaign | Dimension::Channel | Dimension::Stage | Dimension::Touchpoint => {
                return None;
            }
        })
    }

    /// True for ids, whose length is bounded.
    pub(crate) const fn is_id(self) -> bool {
        matches!(
            self,
            Slot::Id
                | Slot::Source
                | Slot::CustomerId
                | Slot::AnonymousId
                | Slot::DeviceId
                | Slot::SessionId
                | Slot::CheckoutId
                | Slot::OrderId
                | Slot::CartId
                | Slot::MessageId
                | Slot::StoreId
        )
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

/// Which texts a reader wants. The others are passed over: of ids the length is checked, and that they
/// are there where they must be, but not that they are UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs(u64);

impl Default for Needs {
    /// All of them.
    fn default() -> Needs {
        Needs(u64::MAX)
    }
}

impl Needs {
    /// What figures need of every touchpoint, whoever it is of, and the values of `dimensions`.
    pub fn of_figures(dimensions: impl IntoIterator<Item = Dimension>) -> Needs {
        let always = [
            Slot::Tenant,
            Slot::Channel,
            Slot::Stage,
            Slot::Touchpoint,
            Slot::Action,
            Slot::Currency,
        ];
        let of_dimensions = dimensions.into_iter().filter_map(Slot::of_dimension);
        Needs(always.into_iter().chain(of_dimensions).fold(0, |all, slot| all | slot.bit()))
    }

    /// Those, and what is needed to follow customers.
    pub fn and_customers(self, sessions_by_source: bool) -> Needs {
        let more = [
            Slot::Id,
            Slot::Source,
            Slot::CustomerId,
            Slot::AnonymousId,
            Slot::CheckoutId,
            Slot::OrderId,
            Slot::CartId,
            Slot::StepName,
            Slot::PaymentMethod,
            Slot::ShippingMethod,
            Slot::Coupon,
            Slot::AccountType,
            Slot::ErrorCode,
        ];
        let session = sessions_by_source.then_some(Slot::SessionId);
        Needs(more.into_iter().chain(session).fold(self.0, |all, slot| all | slot.bit()))
    }

    pub(crate) const fn has(self, slot: Slot) -> bool {
        self.0 & slot.bit() != 0
    }
}

/// Stands for a required text that nobody reads.
const UNREAD: &str = "-";

/// The fields of an origin beside its source's name.
const ORIGIN_NUMBERS: u64 =
    Slot::OriginPartition.bit() | Slot::OriginOffset.bit() | Slot::OriginWatermark.bit();

/// The slots as they are being filled. It is half a kilobyte: a decoder fills its caller's.
#[derive(Debug)]
pub struct Filled<'a> {
    pub(crate) touchpoint: TouchpointRef<'a>,
    campaign_name: Option<&'a str>,
    origin: OriginRef<'a>,
    pub(crate) seen: u64,
    /// Length of the longest text, if the decoder tells it: mostly none is too long for an id.
    pub(crate) longest: usize,
}

impl Default for Filled<'_> {
    fn default() -> Self {
        Filled::new()
    }
}

impl<'a> Filled<'a> {
    /// Nothing is filled.
    #[inline]
    pub fn new() -> Filled<'a> {
        Filled {
            touchpoint: TouchpointRef::EMPTY,
            campaign_name: None,
            origin: OriginRef { source: "", partition: 0, offset: 0, watermark: EventTime::MIN },
            seen: 0,
            longest: usize::MAX,
        }
    }

    /// Checks an id that is passed over.
    #[inline]
    pub(crate) fn unread(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), Reject> {
        if bytes.len() > MAX_ID_BYTES {
            return Err(Reject::field(RejectReason::IdTooLong, slot.name()));
        }
        if !bytes.is_empty() {
            self.is_there(slot);
        }
        Ok(())
    }

    /// Notes that an id that is passed over is not empty.
    #[inline]
    pub(crate) fn is_there(&mut self, slot: Slot) {
        match slot {
            Slot::Id => self.touchpoint.id = UNREAD,
            Slot::Source => self.touchpoint.source = UNREAD,
            // The others may be absent.
            _ => {}
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

    /// The touchpoint.
    pub fn touchpoint(&self) -> &TouchpointRef<'a> {
        &self.touchpoint
    }

    /// Where it came from; absent if `ingest` did not write it.
    pub fn origin(&self) -> Option<OriginRef<'a>> {
        (self.seen & ORIGIN_NUMBERS == ORIGIN_NUMBERS).then_some(self.origin)
    }

    /// Takes over what was decoded elsewhere.
    pub(crate) fn set(&mut self, touchpoint: TouchpointRef<'a>, origin: Option<OriginRef<'a>>) {
        self.touchpoint = touchpoint;
        if let Some(origin) = origin {
            self.origin = origin;
            self.seen |= ORIGIN_NUMBERS;
        }
    }

    /// What it has become, by itself.
    pub(crate) fn decoded(&self) -> Decoded<'a> {
        Decoded::Touchpoint { origin: self.origin(), touchpoint: self.touchpoint }
    }

    /// Checks the touchpoint and its origin.
    #[inline]
    pub(crate) fn finish(&mut self) -> Result<(), Reject> {
        if self.seen & Slot::EventTime.bit() == 0 {
            return Err(Reject::field(RejectReason::MissingField, "event_time"));
        }
        self.touchpoint.campaign = self.touchpoint.campaign.or(self.campaign_name);
        super::validate::touchpoint_with(&self.touchpoint, self.longest)?;
        if !matches!(self.seen & ORIGIN_NUMBERS, 0 | ORIGIN_NUMBERS) {
            return Err(Reject::field(RejectReason::MissingField, "origin"));
        }
        if let Some(origin) = self.origin() {
            if origin.source.is_empty() {
                return Err(Reject::field(RejectReason::MissingField, "origin.source"));
            }
            super::validate::progress(origin.watermark, "origin.watermark")?;
        }
        Ok(())
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
