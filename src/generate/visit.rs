//! The script of one visit: what one customer does, from the first touch to what follows days later.
//!
//! A visit is a function of seed and visit number; faults draw from a stream of their own, so that
//! traffic with a fault differs from traffic without only where the fault acts.

use super::checkout;
use super::plan::Plan;
use super::rng::{Rng, mix};
use crate::model::time::{EventTime, Millis};
use crate::model::touchpoint::{Campaign, Exposure, Item, Rating, Touchpoint};
use compact_str::{CompactString, format_compact};

/// Who visits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// A customer with an account, by number.
    Known(u64),
    /// A browser that never logs in during the visit.
    Anonymous,
    /// An id that is everybody's.
    Guest,
    /// No id but the device's.
    Nobody,
}

/// One touchpoint of a script.
pub(super) struct Line {
    /// The touchpoint at its event time.
    pub touchpoint: Touchpoint,
    /// Other touchpoints of the same visit come before and after it, and no figure rests on it
    /// alone: it may come too late.
    pub inner: bool,
}

/// Writes a script line by line, on the visit's own clock.
pub(super) struct Scribe<'a> {
    pub(super) plan: &'a Plan,
    pub(super) rng: Rng,
    /// Chance of what faults do.
    pub(super) fault_rng: Rng,
    pub(super) number: u64,
    pub(super) channel: &'static str,
    /// True if this shop front sends no checkout, order or cart ids.
    pub(super) keyless: bool,
    who: Who,
    now: EventTime,
    lines: Vec<Line>,
    bot: bool,
    test: bool,
}

/// Writes the script of visit `number`, sorted by event time.
pub(super) fn script(plan: &Plan, number: u64, start: EventTime, who: Who) -> Vec<Line> {
    let mut rng = Rng::new(mix(&[plan.seed, number]));
    let fault_rng = Rng::new(mix(&[plan.seed, number, 0xfa17]));
    let bot = rng.chance(0.005);
    let test = !bot && rng.chance(0.002);
    let keyless = rng.chance(0.03);
    let now = even(start);
    let lines = Vec::new();
    let mut scribe = Scribe {
        plan,
        rng,
        fault_rng,
        number,
        channel: "web",
        keyless,
        who,
        now,
        lines,
        bot,
        test,
    };
    scribe.visit();
    let mut lines = scribe.lines;
    lines.sort_by_key(|l| l.touchpoint.event_time);
    lines
}

/// Visits keep to even milliseconds, what follows hours later to odd ones: so that no two events of
/// one customer have the same time.
fn even(at: EventTime) -> EventTime {
    EventTime::from_ms(at.as_ms() & !1)
}

impl Scribe<'_> {
    fn visit(&mut self) {
        let kind = self.rng.weighted(&[
            ("front", 0.64),
            ("campaign", 0.15),
            ("store", 0.06),
            ("support", 0.07),
            ("social", 0.03),
            ("loyalty", 0.03),
            ("faq", 0.02),
            ("kiosk", 0.004),
        ]);
        match kind {
            "campaign" => self.campaign(),
            "store" => self.store(),
            "support" => self.support(),
            "social" => {
                self.channel = "social";
                let action = self.rng.pick(&["react", "share"]);
                self.say("social_post", action).direction = Some("indirect".into());
            }
            "loyalty" => {
                self.channel = "loyalty_program";
                let action = self.rng.weighted(&[("earn", 0.7), ("redeem", 0.2), ("enrol", 0.1)]);
                self.say("loyalty", action);
            }
            "faq" => {
                self.channel = "self_service";
                for _ in 0..=self.rng.below(3) {
                    self.say("faq", "view");
                    self.wait(30.0);
                }
            }
            "kiosk" => {
                // A channel and a pair that no taxonomy knows.
                self.channel = "kiosk";
                self.say("page", "view");
                self.wait(5.0);
                self.say("page", "teleport");
            }
            _ => {
                self.channel =
                    self.rng.weighted(&[("web", 0.6), ("mobile_app", 0.34), ("marketplace", 0.06)]);
                self.front();
            }
        }
    }

    /// A campaign's touch, sometimes followed by a visit to the shop.
    fn campaign(&mut self) {
        let channel =
            self.rng.weighted(&[("email", 0.4), ("ads", 0.3), ("search", 0.2), ("push", 0.1)]);
        self.channel = channel;
        match channel {
            "email" => {
                self.say("email_campaign", "deliver");
                self.wait(300.0);
                self.say("email_campaign", "open");
                self.wait(10.0);
                self.say("email_campaign", "click");
            }
            "ads" => {
                self.say("ad", "impression").paid = Some(true);
                self.wait(4.0);
                self.say("ad", "click").paid = Some(true);
            }
            "push" => {
                self.say("push", "open");
            }
            _ => {
                self.say("search", "submit");
            }
        }
        let campaign = format_compact!("c{}", self.rng.below(8));
        for line in &mut self.lines {
            let named = Campaign { id: Some(campaign.clone()), ..Campaign::default() };
            line.touchpoint.campaign = Some(named);
        }
        if self.rng.chance(0.45) {
            self.wait(3.0);
            self.channel = if channel == "push" { "mobile_app" } else { "web" };
            self.front();
        }
    }

    /// A visit to a shop front: browsing, then perhaps a cart and a checkout.
    fn front(&mut self) {
        if self.rng.chance(0.02) {
            let exposure = Exposure { experiment_id: "hero".into(), variant: "b".into() };
            self.say("experiment", "expose").experiments.push(exposure);
            self.wait(0.3);
        }
        if self.rng.chance(0.01) {
            self.say("identity", "identify");
            self.wait(0.3);
        }
        self.say("page", "view");
        let first = self.lines.len();
        let mut left = 2 + self.rng.exponential(4.0) as usize;
        while left > 0 {
            self.wait(25.0);
            if self.rng.chance(0.02) {
                // The telephone rings; past half an hour a new session begins.
                self.wait(1_200.0);
            }
            let (touchpoint, action) = self.rng.weighted(&[
                (("product", "view"), 0.42),
                (("list", "view"), 0.22),
                (("page", "view"), 0.14),
                (("search", "submit"), 0.1),
                (("product", "click"), 0.07),
                (("wishlist", "add"), 0.05),
            ]);
            self.say(touchpoint, action);
            left -= 1;
        }
        let last = self.lines.len() - 1;
        self.lines[first..last].iter_mut().for_each(|l| l.inner = true);
        if self.rng.chance(0.5) {
            self.wait(15.0);
            checkout::cart(self);
        }
    }

    fn store(&mut self) {
        self.channel = "store";
        self.say("store_visit", "visit").store_id = Some("s1".into());
        if self.rng.chance(0.6) {
            self.wait(900.0);
            let (value, number) = (self.price(), self.number);
            let bought = self.say("store_purchase", "complete");
            bought.value = Some(value);
            bought.currency = Some("EUR".into());
            bought.order_id = Some(format_compact!("s{number:x}"));
            bought.store_id = Some("s1".into());
        }
    }

    fn support(&mut self) {
        let (channel, kind) = self.rng.weighted(&[
            (("chat", "chat"), 0.5),
            (("chatbot", "chatbot"), 0.25),
            (("phone", "call"), 0.25),
        ]);
        self.channel = channel;
        self.say(kind, "start");
        for _ in 0..1 + self.rng.below(4) {
            self.wait(25.0);
            self.say(kind, "message");
            self.wait(20.0);
            self.say(kind, "reply").handled_by = Some("human".into());
        }
        self.wait(10.0);
        self.say(kind, "end");
        let conversation = format_compact!("v{:x}", self.number);
        self.lines.iter_mut().for_each(|l| {
            l.touchpoint.conversation_id = Some(conversation.clone());
        });
    }

    /// What comes after an order: confirmation, parcel, review.
    pub(super) fn follow_up(&mut self, order: &Option<CompactString>) {
        let back = (self.now, self.channel);
        let later = |this: &mut Self, mins: (i64, i64), channel, pair: (&str, &str)| {
            let by = this.rng.between(mins.0 * 60_000, mins.1 * 60_000);
            this.now = EventTime::from_ms(even(this.now.plus(Millis::from_ms(by))).as_ms() + 1);
            this.channel = channel;
            let said = this.say(pair.0, pair.1);
            said.order_id.clone_from(order);
            said.event_time
        };
        later(self, (1, 4), "email", ("order", "update"));
        if self.rng.chance(0.8) {
            later(self, (60, 200), "delivery", ("delivery", "update"));
            let last = self.lines.len() - 1;
            self.lines[last].touchpoint.step_name = Some("delivered".into());
            if self.rng.chance(0.15) {
                later(self, (30, 300), "reviews", ("review", "submit"));
                let score = 1.0 + self.rng.below(5) as f64;
                let last = self.lines.len() - 1;
                self.lines[last].touchpoint.rating =
                    Some(Rating { kind: "review".into(), score, scale_max: 5.0 });
            }
        }
        (self.now, self.channel) = back;
    }

    /// Writes a touchpoint at the present moment.
    pub(super) fn say(&mut self, touchpoint: &str, action: &str) -> &mut Touchpoint {
        let id = format_compact!("{:x}-{}", self.number, self.lines.len());
        let source = match self.channel {
            "web" => "web",
            "mobile_app" => "app",
            _ => "backend",
        };
        let mut said = Touchpoint::new(&id, source, self.now, self.channel, touchpoint, action);
        match &self.who {
            Who::Known(customer) => said.customer_id = Some(format_compact!("k{customer}")),
            Who::Anonymous => said.anonymous_id = Some(format_compact!("a{:x}", self.number)),
            Who::Guest => said.customer_id = Some("guest".into()),
            Who::Nobody => {}
        }
        if self.channel == "mobile_app" || self.who == Who::Nobody {
            said.device_id = Some(format_compact!("d{:x}", self.number));
        }
        if touchpoint == "product" {
            let sku = format_compact!("p{}", self.number % 97);
            said.items.push(Item { sku, quantity: 1, ..Item::default() });
            // Some sources say the stage themselves.
            said.stage = (self.channel == "marketplace").then(|| "consideration".into());
        }
        if self.bot {
            said.is_bot = true;
            said.bot_reason = Some("crawler".into());
        }
        said.is_test = self.test;
        self.lines.push(Line { touchpoint: said, inner: false });
        let last = self.lines.len() - 1;
        &mut self.lines[last].touchpoint
    }

    /// Moves the visit's clock on, by `mean` seconds on average, by a tenth of a second at least.
    pub(super) fn wait(&mut self, mean: f64) {
        let mean = if self.bot { 0.5 } else { mean };
        let ms = 100 + (self.rng.exponential(mean) * 1_000.0) as i64;
        self.now = even(self.now.plus(Millis::from_ms(ms.min(4 * 3_600_000))));
    }

    /// Moves the visit's clock on by a time between `from` and `to` minutes.
    pub(super) fn pause(&mut self, from: i64, to: i64) {
        let ms = self.rng.between(from * 60_000, to * 60_000);
        self.now = even(self.now.plus(Millis::from_ms(ms)));
    }

    /// The visit's clock.
    pub(super) fn now(&self) -> EventTime {
        self.now
    }

    /// A price in minor units.
    pub(super) fn price(&mut self) -> i64 {
        900 + (self.rng.exponential(55.0) * 100.0) as i64
    }
}
