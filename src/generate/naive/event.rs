//! One touchpoint as the naive model keeps it, and the order of a customer's touchpoints.

use super::settings::Settings;
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use crate::model::touchpoint::Touchpoint;
use compact_str::CompactString;

/// A touchpoint, its channel and stage resolved.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: CompactString,
    pub(super) source: CompactString,
    pub(super) at: EventTime,
    original: EventTime,
    pub(super) session_id: Option<CompactString>,
    pub(super) channel: CompactString,
    pub(super) stage: CompactString,
    pub(super) touchpoint: CompactString,
    pub(super) action: CompactString,
    pub(super) meaning: Meaning,
    pub(super) value: Option<i64>,
    pub(super) currency: Option<CompactString>,
    pub(super) keys: Keys,
    pub(super) step: Option<i32>,
    pub(super) step_name: Option<CompactString>,
    pub(super) reasons: Option<Box<Reasons>>,
}

/// Ids that tie a checkout's events together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Keys {
    pub(super) checkout: Option<CompactString>,
    pub(super) order: Option<CompactString>,
    pub(super) cart: Option<CompactString>,
}

/// What may explain an abandonment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reasons {
    pub(super) payment_method: Option<CompactString>,
    pub(super) shipping_method: Option<CompactString>,
    pub(super) coupon: Option<CompactString>,
    pub(super) account_type: Option<CompactString>,
    pub(super) error_code: Option<CompactString>,
}

impl Event {
    pub(super) fn new(t: &Touchpoint, settings: &Settings) -> Event {
        let taxonomy = &settings.taxonomy;
        let stage = taxonomy.resolve_stage(t.stage.as_deref(), &t.touchpoint, &t.action);
        let reasons = Reasons {
            payment_method: t.payment_method.clone(),
            shipping_method: t.shipping_method.clone(),
            coupon: t.coupon.clone(),
            account_type: t.account_type.clone(),
            error_code: t.error_code.clone(),
        };
        let given = t.payment_method.is_some()
            || t.shipping_method.is_some()
            || t.coupon.is_some()
            || t.account_type.is_some()
            || t.error_code.is_some();
        Event {
            id: t.id.clone(),
            source: t.source.clone(),
            at: t.event_time,
            original: t.original_event_time.unwrap_or(t.event_time),
            session_id: t.session_id.clone(),
            channel: taxonomy.resolve_channel(&t.channel).into(),
            stage: stage.into(),
            touchpoint: t.touchpoint.clone(),
            action: t.action.clone(),
            meaning: match Meaning::of(&t.touchpoint, &t.action) {
                Meaning::Cart if !settings.follow_carts => Meaning::Interaction,
                meaning => meaning,
            },
            value: t.value,
            currency: t.currency.clone(),
            keys: Keys {
                checkout: t.checkout_id.clone(),
                order: t.order_id.clone(),
                cart: t.cart_id.clone(),
            },
            step: t.step,
            step_name: t.step_name.clone(),
            reasons: given.then(|| Box::new(reasons)),
        }
    }

    /// The order of a customer's events: event time, original event time, life cycle, source, id.
    pub(super) fn order(&self) -> impl Ord + '_ {
        let life_cycle = match self.meaning {
            Meaning::CheckoutStart => 0,
            Meaning::CheckoutComplete | Meaning::StorePurchase => 2,
            _ => 1,
        };
        (self.at, self.original, life_cycle, &self.source, &self.id)
    }

    /// True for what sells something.
    pub(super) fn is_order(&self) -> bool {
        matches!(self.meaning, Meaning::CheckoutComplete | Meaning::StorePurchase)
    }

    /// True for what belongs to a checkout.
    pub(super) fn is_checkout(&self) -> bool {
        self.meaning.is_checkout_activity()
            || matches!(self.meaning, Meaning::CheckoutComplete | Meaning::CheckoutExpire)
    }
}

impl Keys {
    /// The ids with their kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &CompactString)> {
        let kinds = [&self.checkout, &self.order, &self.cart];
        (0u8..).zip(kinds).filter_map(|(kind, id)| id.as_ref().map(|id| (kind, id)))
    }
}
