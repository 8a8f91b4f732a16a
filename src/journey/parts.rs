//! Store, timers and context beside one another: what a change of one customer needs.

use super::checkout::RichEvent;
use super::context::Context;
use super::store::Store;
use super::timers::{Slot, Timers};
use crate::model::time::EventTime;

/// The store and timers beside the context of a change.
pub(super) struct Parts<'a> {
    pub(super) store: &'a mut Store,
    pub(super) timers: &'a mut Timers,
    pub(super) ctx: Context<'a>,
}

impl Parts<'_> {
    /// Does what is due for a customer; one with nothing left to remember is forgotten.
    pub(super) fn tend(&mut self, slot: Slot, fresh: Option<RichEvent>) {
        let customer = self.store.get_mut(slot);
        let next = customer.tend(fresh, &mut self.ctx);
        self.timers.set(slot, customer.timer, next);
        customer.timer = next;
        if next.is_none() {
            self.store.remove(slot);
        }
    }

    /// Sees to it that the customer is tended to when the clock passes `at`. A timer that is due
    /// sooner stays: it finds nothing to do and is set anew.
    pub(super) fn wake(&mut self, slot: Slot, at: EventTime) {
        let customer = self.store.get_mut(slot);
        if customer.timer.is_none_or(|timer| timer > at) {
            self.timers.set(slot, customer.timer, Some(at));
            customer.timer = Some(at);
        }
    }
}
