//! What is known of a checkout or cart at some event: the latest of each field.

use super::event::{Event, Reasons};
use crate::model::record::{CheckoutKind, CheckoutRecord, SCHEMA_VERSION, Transition};
use crate::model::time::EventTime;
use compact_str::CompactString;

/// The latest known fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) value: Option<i64>,
    currency: Option<CompactString>,
    step: Option<i32>,
    step_name: Option<CompactString>,
    reasons: Reasons,
}

fn newer<T: Clone>(field: &mut Option<T>, value: Option<&T>) {
    if let Some(value) = value {
        *field = Some(value.clone());
    }
}

impl Known {
    /// Takes over what `event` says.
    pub(super) fn learn(&mut self, event: &Event) {
        // A value and its currency are one thing.
        if event.value.is_some() {
            self.value = event.value;
            self.currency.clone_from(&event.currency);
        }
        newer(&mut self.step, event.step.as_ref());
        newer(&mut self.step_name, event.step_name.as_ref());
        if let Some(given) = event.reasons.as_deref() {
            let mine = &mut self.reasons;
            newer(&mut mine.payment_method, given.payment_method.as_ref());
            newer(&mut mine.shipping_method, given.shipping_method.as_ref());
            newer(&mut mine.coupon, given.coupon.as_ref());
            newer(&mut mine.account_type, given.account_type.as_ref());
            newer(&mut mine.error_code, given.error_code.as_ref());
        }
    }
}

/// One transition: what happened, when, and the event whose channel and stage it counts for.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) transition: Transition,
    pub(super) at: EventTime,
    pub(super) rests_on: usize,
    pub(super) known: Known,
}

/// Whose record it is, and what all records of the instance share.
pub(super) struct Subject<'a> {
    pub(super) tenant: &'a CompactString,
    pub(super) customer: &'a CompactString,
    pub(super) kind: CheckoutKind,
    pub(super) instance: CompactString,
    pub(super) started_at: EventTime,
    pub(super) last_activity: EventTime,
}

impl Moment {
    /// The transition as a record, the `revision`th of its instance.
    pub(super) fn record(
        &self,
        s: &Subject<'_>,
        events: &[Event],
        revision: i64,
    ) -> CheckoutRecord {
        let known = &self.known;
        let reasons = &known.reasons;
        CheckoutRecord {
            schema_version: SCHEMA_VERSION,
            id: "".into(),
            tenant: s.tenant.clone(),
            customer: s.customer.clone(),
            instance: s.instance.clone(),
            kind: s.kind,
            transition: self.transition,
            revision,
            at: self.at,
            decided_at: self.at,
            started_at: s.started_at,
            last_activity: s.last_activity,
            step: known.step,
            step_name: known.step_name.clone(),
            channel: events[self.rests_on].channel.clone(),
            value: known.value,
            currency: known.currency.clone(),
            payment_method: reasons.payment_method.clone(),
            shipping_method: reasons.shipping_method.clone(),
            coupon: reasons.coupon.clone(),
            account_type: reasons.account_type.clone(),
            error_code: reasons.error_code.clone(),
            correlated_by: "".into(),
            merged_into: None,
        }
    }
}
