//! The touchpoint fields that a mapping may fill, by name.

use super::path::Scope;
use super::value::{Scalar, Value};
use crate::ingest::decimal::{DecimalError, Rounding, scaled};
use crate::model::reject::{Reject, RejectReason};
use crate::model::touchpoint::{Campaign, Exposure, Rating, Touchpoint};
use compact_str::CompactString;

type Slot<T> = fn(&mut Touchpoint) -> &mut T;

/// A touchpoint field.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Required(Slot<CompactString>),
    Text(Slot<Option<CompactString>>),
    Campaign(fn(&mut Campaign) -> &mut Option<CompactString>),
    Flag(Slot<bool>),
    Paid,
    Step,
    Amount,
    RatingKind,
    RatingScore,
    RatingScale,
    ExperimentId,
    ExperimentVariant,
    Segments,
    Attribute(CompactString),
    Consent(CompactString),
}

macro_rules! slots {
    ($name:expr, $of:ty, $($field:ident),* $(,)?) => {
        match $name {
            $(stringify!($field) => {
                let slot: fn(&mut $of) -> &mut Option<CompactString> = |of| &mut of.$field;
                Some(slot)
            })*
            _ => None,
        }
    };
}

impl Target {
    /// The field of that name; `None` if there is none that a mapping may fill by name.
    pub(super) fn of(name: &str) -> Option<Target> {
        if let Some(name) = name.strip_prefix("attributes.") {
            return (!name.is_empty()).then(|| Target::Attribute(name.into()));
        }
        if let Some(name) = name.strip_prefix("consent.") {
            return (!name.is_empty()).then(|| Target::Consent(name.into()));
        }
        if let Some(name) = name.strip_prefix("campaign.") {
            return slots!(name, Campaign, id, name, source, medium, term, content, click_id)
                .map(Target::Campaign);
        }
        Some(match name {
            "source" => Target::Required(|t| &mut t.source),
            "tenant" => Target::Required(|t| &mut t.tenant),
            "channel" => Target::Required(|t| &mut t.channel),
            "is_bot" => Target::Flag(|t| &mut t.is_bot),
            "is_test" => Target::Flag(|t| &mut t.is_test),
            "paid" => Target::Paid,
            "step" => Target::Step,
            "value" => Target::Amount,
            "rating.kind" => Target::RatingKind,
            "rating.score" => Target::RatingScore,
            "rating.scale_max" => Target::RatingScale,
            "experiment.id" => Target::ExperimentId,
            "experiment.variant" => Target::ExperimentVariant,
            "segments" => Target::Segments,
            _ => return text_slot(name).map(Target::Text),
        })
    }

    /// Puts the value of this record in its place; leaves what is there if the record has none.
    pub(super) fn fill(
        &self,
        value: &Value,
        scope: &Scope<'_>,
        touchpoint: &mut Touchpoint,
    ) -> Result<(), Reject> {
        if let Target::Segments = self {
            let list = value.list(scope)?;
            if !list.is_empty() {
                touchpoint.segments = list.iter().map(|s| s.text().into()).collect();
            }
            return Ok(());
        }
        match value.get(scope)? {
            Some(scalar) => {
                self.set(&scalar, touchpoint).map_err(|reason| Reject::field(reason, &value.name))
            }
            None => Ok(()),
        }
    }

    fn set(&self, scalar: &Scalar<'_>, touchpoint: &mut Touchpoint) -> Result<(), RejectReason> {
        let text = || CompactString::from(scalar.text());
        match self {
            Target::Required(slot) => *slot(touchpoint) = text(),
            Target::Text(slot) => *slot(touchpoint) = Some(text()),
            Target::Campaign(slot) => {
                *slot(touchpoint.campaign.get_or_insert_default()) = Some(text());
            }
            Target::Flag(slot) => *slot(touchpoint) = flag(scalar)?,
            Target::Paid => touchpoint.paid = Some(flag(scalar)?),
            Target::Step => {
                let step = whole(scalar)?;
                touchpoint.step = Some(i32::try_from(step).map_err(|_| RejectReason::WrongType)?);
            }
            Target::Amount => {
                let amount = whole(scalar)?;
                touchpoint.value =
                    Some(i64::try_from(amount).map_err(|_| RejectReason::AmountOutOfBounds)?);
            }
            Target::RatingKind => rating(touchpoint).kind = text(),
            Target::RatingScore => rating(touchpoint).score = float(scalar)?,
            Target::RatingScale => rating(touchpoint).scale_max = float(scalar)?,
            Target::ExperimentId => exposure(touchpoint).experiment_id = text(),
            Target::ExperimentVariant => exposure(touchpoint).variant = text(),
            Target::Segments => touchpoint.segments = vec![text()],
            Target::Attribute(name) => {
                touchpoint.attributes.insert(name.clone(), text());
            }
            Target::Consent(name) => {
                touchpoint.consent.insert(name.clone(), flag(scalar)?);
            }
        }
        Ok(())
    }
}

fn text_slot(name: &str) -> Option<Slot<Option<CompactString>>> {
    slots!(
        name,
        Touchpoint,
        customer_id,
        anonymous_id,
        device_id,
        account_id,
        session_id,
        outcome,
        error_code,
        surface,
        direction,
        checkout_id,
        order_id,
        cart_id,
        conversation_id,
        ticket_id,
        shipment_id,
        subscription_id,
        survey_id,
        step_name,
        currency,
        payment_method,
        shipping_method,
        coupon,
        account_type,
        channel_group,
        message_id,
        content_version,
        response_to,
        handled_by,
        agent_id,
        department,
        country,
        region,
        store_id,
        bot_reason,
    )
}

fn rating(touchpoint: &mut Touchpoint) -> &mut Rating {
    touchpoint.rating.get_or_insert_with(|| Rating {
        kind: CompactString::default(),
        score: f64::NAN,
        scale_max: f64::NAN,
    })
}

fn exposure(touchpoint: &mut Touchpoint) -> &mut Exposure {
    if touchpoint.experiments.is_empty() {
        touchpoint.experiments.push(Exposure::default());
    }
    &mut touchpoint.experiments[0]
}

/// Drops a rating or an exposure of which a part is absent.
pub(super) fn drop_incomplete(touchpoint: &mut Touchpoint) {
    let complete = |r: &Rating| !r.kind.is_empty() && r.score.is_finite() && r.scale_max > 0.0;
    touchpoint.rating = touchpoint.rating.take().filter(complete);
    touchpoint.experiments.retain(|e| !e.experiment_id.is_empty() && !e.variant.is_empty());
}

fn flag(scalar: &Scalar<'_>) -> Result<bool, RejectReason> {
    match scalar.text() {
        "true" | "True" | "TRUE" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "0" => Ok(false),
        _ => Err(RejectReason::WrongType),
    }
}

/// A whole number; a text may hold one, a fraction is refused.
pub(super) fn whole(scalar: &Scalar<'_>) -> Result<i128, RejectReason> {
    let number = |rounding| match (scalar, scaled(scalar.text(), 1, rounding)) {
        (Scalar::Bool(_), _) | (_, Err(DecimalError::NotANumber)) => Err(RejectReason::WrongType),
        (_, Err(DecimalError::TooLarge)) => Err(RejectReason::AmountOutOfBounds),
        (_, Ok(number)) => Ok(number),
    };
    let floor = number(Rounding::Floor)?;
    if number(Rounding::Ceiling)? == floor { Ok(floor) } else { Err(RejectReason::WrongType) }
}

fn float(scalar: &Scalar<'_>) -> Result<f64, RejectReason> {
    match scalar {
        Scalar::Bool(_) => Err(RejectReason::WrongType),
        other => match other.text().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(RejectReason::WrongType),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_fraction() {
        let check = |text: &str, expected: Result<i128, RejectReason>| {
            assert_eq!(whole(&Scalar::Number(text.into())), expected, "{text}");
        };
        check("12", Ok(12));
        check("-12.00", Ok(-12));
        check("1.2e1", Ok(12));
        check("+7", Ok(7));
        check("12.5", Err(RejectReason::WrongType));
        check("12.4", Err(RejectReason::WrongType));
        check("-0.1", Err(RejectReason::WrongType));
        check("x", Err(RejectReason::WrongType));
        check("1e40", Err(RejectReason::AmountOutOfBounds));
        assert_eq!(whole(&Scalar::Bool(true)), Err(RejectReason::WrongType));
    }

    #[test]
    fn every_field_has_its_name() {
        for name in [
            "customer_id",
            "value",
            "step",
            "paid",
            "is_bot",
            "campaign.click_id",
            "attributes.x",
            "consent.ads",
            "rating.score",
            "experiment.id",
            "segments",
            "tenant",
            "bot_reason",
        ] {
            assert!(Target::of(name).is_some(), "{name}");
        }
        for name in ["id", "event_time", "stage", "phase", "campaign.x", "attributes.", "items"] {
            assert!(Target::of(name).is_none(), "{name}");
        }
    }
}
