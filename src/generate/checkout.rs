//! The part of a visit's script that is about money: cart, checkout, payment, and coming back later.

use super::visit::Scribe;
use crate::model::touchpoint::Touchpoint;
use compact_str::{CompactString, format_compact};

/// How a checkout is to end, drawn before it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Complete,
    /// Left after so many of its six moves.
    Abandon(u64),
    Cancel,
}

/// What the events of one checkout have in common.
struct Basket {
    cart_id: Option<CompactString>,
    checkout_id: Option<CompactString>,
    order_id: Option<CompactString>,
    value: Option<i64>,
    currency: Option<CompactString>,
    payment: &'static str,
    shipping: &'static str,
    account: &'static str,
}

impl Basket {
    fn new(scribe: &mut Scribe<'_>) -> Basket {
        let (named, number) = (!scribe.keyless, scribe.number);
        let currency = if scribe.rng.chance(0.08) { "USD" } else { "EUR" };
        Basket {
            cart_id: named.then(|| format_compact!("b{number:x}")),
            checkout_id: named.then(|| format_compact!("c{number:x}")),
            order_id: named.then(|| format_compact!("o{number:x}")),
            value: Some(0),
            currency: Some(currency.into()),
            payment: scribe.rng.weighted(&[("card", 0.6), ("paypal", 0.3), ("invoice", 0.1)]),
            shipping: scribe.rng.weighted(&[("standard", 0.8), ("express", 0.2)]),
            account: scribe.rng.weighted(&[("member", 0.7), ("guest", 0.3)]),
        }
    }

    /// Puts what a checkout's event always carries on `said`.
    fn fill(&self, said: &mut Touchpoint) {
        said.checkout_id.clone_from(&self.checkout_id);
        said.cart_id.clone_from(&self.cart_id);
        said.value = self.value;
        said.currency.clone_from(&self.currency);
    }
}

/// A cart, and in most cases a checkout.
pub(super) fn cart(scribe: &mut Scribe<'_>) {
    let mut basket = Basket::new(scribe);
    let mut value = 0;
    for _ in 0..=scribe.rng.below(3) {
        value += scribe.price();
        put(scribe, &basket, "add", value);
        scribe.wait(20.0);
    }
    if scribe.rng.chance(0.15) {
        // Some empty it: such a cart cannot be abandoned.
        value = if scribe.rng.chance(0.4) { 0 } else { value / 2 };
        put(scribe, &basket, "remove", value);
        scribe.wait(10.0);
    }
    if scribe.rng.chance(0.3) {
        put(scribe, &basket, "view", value);
        scribe.wait(8.0);
    }
    if value == 0 || !scribe.rng.chance(0.62) {
        return;
    }
    basket.value = match scribe.rng.unit() {
        u if u < 0.015 => Some(0),
        u if u < 0.025 => None,
        _ => Some(value),
    };
    checkout(scribe, &basket);
}

fn put(scribe: &mut Scribe<'_>, basket: &Basket, action: &str, value: i64) {
    let said = scribe.say("cart", action);
    said.cart_id.clone_from(&basket.cart_id);
    said.value = Some(value);
    said.currency.clone_from(&basket.currency);
}

/// Share of checkouts that are left without any fault.
fn baseline(channel: &str) -> f64 {
    match channel {
        "mobile_app" => 0.32,
        "marketplace" => 0.27,
        _ => 0.30,
    }
}

/// Share of those who would pay but cannot while payments are broken: with the baseline of 30 % it
/// makes 75 %.
const BROKEN: f64 = 0.65;

fn checkout(scribe: &mut Scribe<'_>, basket: &Basket) {
    let end = match scribe.rng.unit() {
        u if u < 0.01 => End::Cancel,
        u if u < 0.01 + baseline(scribe.channel) => End::Abandon(1 + scribe.rng.below(5)),
        _ => End::Complete,
    };
    let moves = if let End::Abandon(moves) = end { moves } else { 6 };
    basket.fill(scribe.say("checkout", "start"));
    for (step, name) in (1..).zip(["contact", "address", "shipping", "review"]) {
        if moves <= step {
            return leave(scribe, basket);
        }
        scribe.wait(18.0);
        if step == 2 && scribe.rng.chance(0.06) {
            let action = scribe.rng.pick(&["apply", "deny"]);
            scribe.say("coupon", action).coupon = Some("SPRING".into());
            scribe.wait(6.0);
        }
        let said = scribe.say("checkout", "step");
        basket.fill(said);
        said.step = i32::try_from(step).ok();
        said.step_name = Some(name.into());
        said.account_type = (step == 1).then(|| basket.account.into());
        said.shipping_method = (step == 3).then(|| basket.shipping.into());
        if end == End::Cancel && step == 3 {
            scribe.wait(9.0);
            return basket.fill(scribe.say("checkout", "cancel"));
        }
    }
    scribe.wait(15.0);
    let said = scribe.say("payment", "info");
    basket.fill(said);
    said.payment_method = Some(basket.payment.into());
    pay(scribe, basket, end);
}

/// The payment itself: here faults act.
fn pay(scribe: &mut Scribe<'_>, basket: &Basket, end: End) {
    scribe.wait(8.0);
    // Drawn in every case, so that faults and pending payments change nothing else.
    let (fails, gives_up) = (scribe.rng.chance(0.04), end != End::Complete);
    let (short, never) = (scribe.rng.chance(0.01), scribe.rng.chance(0.2));
    let (broken, stays) = (scribe.fault_rng.unit(), scribe.fault_rng.unit());
    let away = scribe.fault_rng.between(22 * 60, 24 * 60);
    let fault = broken < BROKEN && scribe.plan.payment_broken(scribe.channel, scribe.now());
    if fault {
        for _ in 0..=scribe.fault_rng.below(2) {
            fail(scribe, basket, "gateway_timeout");
            scribe.wait(12.0);
        }
        return leave(scribe, basket);
    }
    if fails {
        fail(scribe, basket, "card_declined");
        scribe.wait(20.0);
    }
    if gives_up {
        return leave(scribe, basket);
    }
    let mut bare = scribe.rng.chance(0.08);
    if stays < scribe.plan.long_pending() {
        bare = false;
        basket.fill(scribe.say("payment", "pending"));
        scribe.pause(away, away + 1);
    } else if short {
        bare = false;
        basket.fill(scribe.say("payment", "pending"));
        if never {
            return;
        }
        scribe.pause(2, 90);
    }
    complete(scribe, basket, bare);
}

fn fail(scribe: &mut Scribe<'_>, basket: &Basket, code: &str) {
    let said = scribe.say("payment", "fail");
    basket.fill(said);
    said.outcome = Some("failure".into());
    said.error_code = Some(code.into());
}

/// The customer is gone; a few come back hours later and buy.
fn leave(scribe: &mut Scribe<'_>, basket: &Basket) {
    if scribe.rng.chance(0.07) && basket.checkout_id.is_some() {
        scribe.pause(45, 360);
        complete(scribe, basket, false);
    }
}

/// The order. A `bare` one names nothing but itself: it is found by its session.
fn complete(scribe: &mut Scribe<'_>, basket: &Basket, bare: bool) {
    let said = scribe.say("checkout", "complete");
    basket.fill(said);
    said.order_id.clone_from(&basket.order_id);
    said.outcome = Some("success".into());
    if bare {
        said.checkout_id = None;
        said.cart_id = None;
    }
    scribe.follow_up(&basket.order_id);
}
