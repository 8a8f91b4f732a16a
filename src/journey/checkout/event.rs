//! Events of checkouts and carts as they are kept: packed, as a customer may wait a week for its
//! recovery.

use crate::journey::customer::Stored;
use crate::journey::packed_bytes;
use crate::journey::profile::{ProfileId, Profiles};
use crate::model::taxonomy::Meaning;
use crate::model::time::EventTime;
use crate::model::touchpoint::TouchpointRef;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Kinds of keys, the strongest first.
pub(super) const KEY_KINDS: usize = 3;
/// Place of the cart's key; the ones before it name one checkout only.
pub(super) const CART_KEY: usize = 2;
/// Place of the order's key.
pub(super) const ORDER_KEY: usize = 1;

/// An event of a checkout or cart. Keys are only ever compared within a customer: hashes will do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::journey) struct RichEvent {
    pub(super) stored: Stored,
    pub(super) meaning: Meaning,
    /// Hashes of checkout, order and cart id; 0 for none.
    pub(super) keys: [u64; KEY_KINDS],
    /// The session that it belongs to.
    #[serde(with = "postcard::fixint::le")]
    pub(super) session: u64,
    /// Too late for the figures.
    pub(super) late: bool,
    pub(super) value: Option<i64>,
    /// Interned.
    pub(super) currency: Option<u32>,
    pub(super) step: Option<i32>,
    pub(super) details: Details,
}

impl RichEvent {
    /// Keeps what checkouts need of a touchpoint; `None` if it is none of theirs.
    pub(in crate::journey) fn of(
        touchpoint: &TouchpointRef<'_>,
        stored: Stored,
        currency: Option<u32>,
        late: bool,
        profiles: &Profiles,
    ) -> Option<RichEvent> {
        let meaning = profiles.get(stored.profile).meaning;
        if matches!(meaning, Meaning::Interaction | Meaning::View | Meaning::Fact) {
            return None;
        }
        let key = |id: Option<&str>| {
            id.filter(|id| !id.is_empty()).map_or(0, |id| xxh3_64(id.as_bytes()).max(1))
        };
        Some(RichEvent {
            stored,
            meaning,
            keys: [key(touchpoint.checkout_id), key(touchpoint.order_id), key(touchpoint.cart_id)],
            session: 0,
            late,
            value: touchpoint.value,
            currency,
            step: touchpoint.step,
            details: Details::pack([
                touchpoint.step_name,
                touchpoint.payment_method,
                touchpoint.shipping_method,
                touchpoint.coupon,
                touchpoint.account_type,
                touchpoint.error_code,
            ]),
        })
    }

    /// The same, of that session.
    pub(in crate::journey) fn in_session(self, session: u64) -> RichEvent {
        RichEvent { session, ..self }
    }

    pub(super) fn time(&self) -> EventTime {
        self.stored.time
    }

    pub(super) fn profile(&self) -> ProfileId {
        self.stored.profile
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.stored.fingerprint
    }

    /// The keys that are there, with their kinds.
    pub(super) fn own_keys(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.keys.iter().copied().enumerate().filter(|(_, key)| *key != 0)
    }
}

/// Fields of [`Details`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    StepName,
    PaymentMethod,
    ShippingMethod,
    Coupon,
    AccountType,
    ErrorCode,
}

/// Number of fields.
pub(super) const DETAILS: usize = 6;

/// Texts of an event in one allocation, or none if there is no text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Details(#[serde(with = "packed_bytes::optional")] Option<Box<[u8]>>);

impl Details {
    /// Packs the texts, in the order of [`Detail`]: each with its length plus one, 0 for none.
    pub(super) fn pack(texts: [Option<&str>; DETAILS]) -> Details {
        if texts.iter().all(Option::is_none) {
            return Details(None);
        }
        let mut bytes = Vec::new();
        for text in texts {
            // Longer ones than can be said are cut at a character.
            let text = text.map(|t| &t[..t.floor_char_boundary(usize::from(u16::MAX) - 1)]);
            let length = text.map_or(0, |t| t.len() as u16 + 1);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.unwrap_or("").as_bytes());
        }
        Details(Some(bytes.into_boxed_slice()))
    }

    /// Calls `f` with the place and text of each that is there.
    pub(super) fn each<'a>(&'a self, mut f: impl FnMut(usize, &'a str)) {
        let mut rest = self.0.as_deref().unwrap_or_default();
        for place in 0..DETAILS {
            let Some((length, after)) = rest.split_first_chunk::<2>() else { return };
            let length = usize::from(u16::from_le_bytes(*length));
            let (text, after) = after.split_at(length.saturating_sub(1));
            if length > 0
                && let Ok(text) = std::str::from_utf8(text)
            {
                f(place, text);
            }
            rest = after;
        }
    }
}

/// Latest known values of an instance, as its records say them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Face {
    pub(super) step: Option<i32>,
    pub(super) value: Option<i64>,
    pub(super) currency: Option<u32>,
    pub(super) texts: [Option<CompactString>; DETAILS],
}

impl Face {
    /// The same, to go on from.
    pub(super) fn view(&self) -> View<'_> {
        View {
            step: self.step,
            value: self.value,
            currency: self.currency,
            texts: self.texts.each_ref().map(|text| text.as_deref()),
        }
    }
}

/// Latest known values, borrowed from the events that say them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View<'a> {
    pub(super) step: Option<i32>,
    pub(super) value: Option<i64>,
    pub(super) currency: Option<u32>,
    pub(super) texts: [Option<&'a str>; DETAILS],
}

impl<'a> View<'a> {
    /// Takes over what the event says.
    pub(super) fn update(&mut self, event: &'a RichEvent) {
        self.step = event.step.or(self.step);
        if event.value.is_some() {
            self.value = event.value;
            self.currency = event.currency;
        }
        event.details.each(|place, text| self.texts[place] = Some(text));
    }

    pub(super) fn text(&self, detail: Detail) -> Option<CompactString> {
        self.texts[detail as usize].map(CompactString::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_packing() {
        let details = Details::pack([
            Some("shipping"),
            None,
            Some(""),
            Some("é"),
            None,
            Some("card_declined"),
        ]);
        let get = |details: &Details, detail: Detail| {
            let mut found = None;
            details.each(|place, text| {
                if place == detail as usize {
                    found = Some(text.to_owned());
                }
            });
            found
        };
        let check =
            |detail, expected: Option<&str>| assert_eq!(get(&details, detail).as_deref(), expected);
        check(Detail::StepName, Some("shipping"));
        check(Detail::PaymentMethod, None);
        check(Detail::ShippingMethod, Some(""));
        check(Detail::Coupon, Some("é"));
        check(Detail::AccountType, None);
        check(Detail::ErrorCode, Some("card_declined"));
        assert_eq!(Details::pack([None; DETAILS]), Details::default());
        let long = "é".repeat(40_000);
        let cut = Details::pack([Some(&long), None, None, None, None, Some("x")]);
        assert_eq!(get(&cut, Detail::StepName).map(|t| t.len()), Some(65_534));
        assert_eq!(get(&cut, Detail::ErrorCode).as_deref(), Some("x"));
    }
}
