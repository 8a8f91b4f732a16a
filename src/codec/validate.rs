//! Bounds that every decoded touchpoint keeps, whatever its format was.

use crate::model::reject::{Reject, RejectReason};
use crate::model::time::EventTime;
use crate::model::touchpoint::{Touchpoint, TouchpointRef};

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 1024;
/// Largest amount in minor units, either sign.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;
/// 0001-01-01T00:00:00Z.
const FIRST_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
const LAST_MS: i64 = 253_402_300_799_999;

fn at(reason: RejectReason, field: &str) -> Reject {
    Reject::field(reason, field)
}

/// Checks the fields that the journey fold reads.
pub fn touchpoint(t: &TouchpointRef<'_>) -> Result<(), Reject> {
    touchpoint_with(t, usize::MAX)
}

/// The same, where no text is longer than `longest`.
#[inline]
pub(crate) fn touchpoint_with(t: &TouchpointRef<'_>, longest: usize) -> Result<(), Reject> {
    let present = [t.id, t.source, t.tenant, t.channel, t.touchpoint, t.action];
    if longest > MAX_ID_BYTES || present.iter().any(|text| text.is_empty()) {
        texts(t)?;
    }
    // The bar separates the parts of keys.
    if t.tenant.contains('|') {
        return Err(at(RejectReason::BadTenant, "tenant"));
    }
    amount("value", t.value)?;
    moment("event_time", Some(t.event_time))?;
    moment("original_event_time", t.original_event_time)
}

/// Checks the lengths of the texts.
fn texts(t: &TouchpointRef<'_>) -> Result<(), Reject> {
    let required = [
        ("id", t.id),
        ("source", t.source),
        ("tenant", t.tenant),
        ("channel", t.channel),
        ("touchpoint", t.touchpoint),
        ("action", t.action),
    ];
    for (name, text) in required {
        if text.is_empty() {
            return Err(at(RejectReason::MissingField, name));
        }
        if text.len() > MAX_ID_BYTES {
            return Err(at(RejectReason::IdTooLong, name));
        }
    }
    let ids = [
        ("customer_id", t.customer_id),
        ("anonymous_id", t.anonymous_id),
        ("device_id", t.device_id),
        ("session_id", t.session_id),
        ("checkout_id", t.checkout_id),
        ("order_id", t.order_id),
        ("cart_id", t.cart_id),
        ("message_id", t.message_id),
        ("store_id", t.store_id),
    ];
    ids.into_iter().try_for_each(|(name, id)| id_length(name, id))
}

/// Checks every field of a whole touchpoint.
pub fn whole(t: &Touchpoint) -> Result<(), Reject> {
    touchpoint(&t.view())?;
    let ids = [
        ("account_id", &t.account_id),
        ("conversation_id", &t.conversation_id),
        ("ticket_id", &t.ticket_id),
        ("shipment_id", &t.shipment_id),
        ("subscription_id", &t.subscription_id),
        ("survey_id", &t.survey_id),
        ("response_to", &t.response_to),
        ("agent_id", &t.agent_id),
    ];
    for (name, id) in ids {
        id_length(name, id.as_deref())?;
    }
    moment("received_time", t.received_time.map(EventTime::from_ms))?;
    t.items.iter().try_for_each(|item| amount("items.price", item.price))
}

/// Checks a time of progress: arithmetic on it must not overflow.
pub fn progress(time: EventTime, field: &str) -> Result<(), Reject> {
    if (EventTime::MIN..=EventTime::MAX).contains(&time) {
        Ok(())
    } else {
        Err(at(RejectReason::AbsurdTime, field))
    }
}

fn id_length(name: &str, id: Option<&str>) -> Result<(), Reject> {
    match id {
        Some(id) if id.len() > MAX_ID_BYTES => Err(at(RejectReason::IdTooLong, name)),
        _ => Ok(()),
    }
}

fn amount(name: &str, amount: Option<i64>) -> Result<(), Reject> {
    match amount {
        Some(minor) if !(-MAX_AMOUNT..=MAX_AMOUNT).contains(&minor) => {
            Err(at(RejectReason::AmountOutOfBounds, name))
        }
        _ => Ok(()),
    }
}

fn moment(name: &str, time: Option<EventTime>) -> Result<(), Reject> {
    match time {
        Some(time) if !(FIRST_MS..=LAST_MS).contains(&time.as_ms()) => {
            Err(at(RejectReason::AbsurdTime, name))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Touchpoint), expected: Option<(RejectReason, &str)>) {
        let time = EventTime::from_ms(0);
        let mut touchpoint = Touchpoint::new("e-1", "shop", time, "web", "product", "view");
        change(&mut touchpoint);
        let got = whole(&touchpoint).err();
        let expected = expected.map(|(reason, field)| Reject::field(reason, field));
        assert_eq!(got, expected);
    }

    #[test]
    fn bounds() {
        check(|_| {}, None);
        check(|t| t.id = "".into(), Some((RejectReason::MissingField, "id")));
        check(|t| t.tenant = "a|b".into(), Some((RejectReason::BadTenant, "tenant")));
        check(|t| t.customer_id = Some("x".repeat(1024).into()), None);
        let long = || Some("x".repeat(1025).into());
        check(|t| t.customer_id = long(), Some((RejectReason::IdTooLong, "customer_id")));
        check(|t| t.ticket_id = long(), Some((RejectReason::IdTooLong, "ticket_id")));
        check(|t| t.value = Some(-MAX_AMOUNT), None);
        check(|t| t.value = Some(MAX_AMOUNT + 1), Some((RejectReason::AmountOutOfBounds, "value")));
        check(|t| t.event_time = EventTime::from_ms(FIRST_MS), None);
        check(|t| t.event_time = EventTime::from_ms(LAST_MS), None);
        let absurd = Some((RejectReason::AbsurdTime, "event_time"));
        check(|t| t.event_time = EventTime::from_ms(FIRST_MS - 1), absurd);
        check(|t| t.event_time = EventTime::from_ms(LAST_MS + 1), absurd);
        check(|t| t.event_time = EventTime::from_ms(i64::MIN), absurd);
    }
}
