//! What is to be generated: scenario, seed, length, rate, and the faults that are injected.

use super::rng::{Rng, mix};
use crate::model::time::{EventTime, Millis};
use compact_str::CompactString;
use serde::Serialize;
use std::collections::BTreeMap;

/// Traffic with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// A shop's normal traffic; late events, none of them too late.
    Shop,
    /// The same with events that are too late.
    ShopLate,
    /// The payment step of one channel breaks and is repaired.
    Spike,
    /// The demo's traffic without a fault.
    Calm,
    /// A fifth more traffic for two hours, at the same rates.
    Promotion,
    /// One channel stops for a while.
    Silent,
    /// 3 % of the payments are pending for almost a day.
    Pending,
    /// `spike` and `pending` at once; all other traffic is that of `spike`.
    PendingSpike,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 8] = [
        Scenario::Shop,
        Scenario::ShopLate,
        Scenario::Spike,
        Scenario::Calm,
        Scenario::Promotion,
        Scenario::Silent,
        Scenario::Pending,
        Scenario::PendingSpike,
    ];

    /// The scenario's name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Shop => "shop",
            Scenario::ShopLate => "shop-late",
            Scenario::Spike => "spike",
            Scenario::Calm => "calm",
            Scenario::Promotion => "promotion",
            Scenario::Silent => "silent",
            Scenario::Pending => "pending",
            Scenario::PendingSpike => "pending-spike",
        }
    }

    /// The scenario of a name.
    pub fn by_name(name: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// What is done to the traffic for a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Payments in this channel mostly fail.
    PaymentBroken(CompactString),
    /// Nothing of this channel arrives.
    ChannelSilent(CompactString),
    /// This many per cent more visits; nothing is broken.
    Promotion(u32),
}

/// A fault: from `from` (inclusive) to `to` (exclusive), in event time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is done.
    pub kind: FaultKind,
    /// First moment.
    pub from: EventTime,
    /// First moment after.
    pub to: EventTime,
}

/// One line of the labels: what was injected, and what it should make fire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Label {
    /// `payment_broken`, `channel_silent` or `promotion`.
    pub kind: CompactString,
    /// Name of the alert that should fire; none if nothing should.
    pub alert: Option<CompactString>,
    /// Dimensions of the fault.
    pub dimensions: BTreeMap<CompactString, CompactString>,
    /// First moment, epoch ms.
    pub from: EventTime,
    /// First moment after, epoch ms.
    pub to: EventTime,
}

impl Fault {
    /// True at `at`.
    pub fn holds(&self, at: EventTime) -> bool {
        self.from <= at && at < self.to
    }

    /// The fault as a label.
    pub fn label(&self) -> Label {
        let (kind, alert, channel) = match &self.kind {
            FaultKind::PaymentBroken(channel) => {
                ("payment_broken", Some("CheckoutAbandonmentSpike"), Some(channel))
            }
            FaultKind::ChannelSilent(channel) => {
                ("channel_silent", Some("ChannelSilent"), Some(channel))
            }
            FaultKind::Promotion(_) => ("promotion", None, None),
        };
        Label {
            kind: kind.into(),
            alert: alert.map(CompactString::from),
            dimensions: channel.map(|c| ("channel".into(), c.clone())).into_iter().collect(),
            from: self.from,
            to: self.to,
        }
    }
}

/// What is to be generated.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The kind of traffic.
    pub scenario: Scenario,
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// How many touchpoints, repeats and poison records not counted; endless if none.
    pub events: Option<u64>,
    /// No touchpoint arrives at or after this; endless if none.
    pub until: Option<EventTime>,
    /// Touchpoints per second of event time, as a mean over the day. `shop-late` needs enough that
    /// every partition gets one at least every 50 minutes: then what should be too late is.
    pub rate: f64,
    /// First moment of the traffic.
    pub start: EventTime,
    /// What is injected.
    pub faults: Vec<Fault>,
}

/// Touchpoints per second where none is said: 300,000 take about 13 hours.
pub const DEFAULT_RATE: f64 = 5.0;
/// Where traffic begins if nothing is said: Monday, 2026-03-02, 06:00 UTC.
pub const DEFAULT_START: EventTime = EventTime::from_ms(1_772_431_200_000);

impl Plan {
    /// A scenario with its own faults, at the default rate and start, endless.
    pub fn new(scenario: Scenario, seed: u64) -> Plan {
        Plan {
            scenario,
            seed,
            events: None,
            until: None,
            rate: DEFAULT_RATE,
            start: DEFAULT_START,
            faults: Vec::new(),
        }
        .starting(DEFAULT_START)
    }

    /// The same plan from another moment; the scenario's faults move with it.
    pub fn starting(mut self, start: EventTime) -> Plan {
        self.start = start;
        self.faults = faults_of(self.scenario, self.seed, start);
        self
    }

    /// The labels of what is injected, in order of time.
    pub fn labels(&self) -> Vec<Label> {
        let mut labels: Vec<Label> = self.faults.iter().map(Fault::label).collect();
        labels.sort_by_key(|l| (l.from, l.to));
        labels
    }

    /// Share of payments that stay pending for almost a day.
    pub(super) fn long_pending(&self) -> f64 {
        match self.scenario {
            Scenario::Pending | Scenario::PendingSpike => 0.03,
            _ => 0.0,
        }
    }

    /// Chance of an event in the middle of a visit to come too late; a third of all are such, so that
    /// it makes 0.2 % of all.
    pub(super) fn too_late(&self) -> f64 {
        if self.scenario == Scenario::ShopLate { 0.006 } else { 0.0 }
    }

    /// How much more traffic there is at `at` than normally.
    pub(super) fn boost(&self, at: EventTime) -> f64 {
        let boosts = self.faults.iter().filter(|f| f.holds(at)).map(|f| match f.kind {
            FaultKind::Promotion(percent) => 1.0 + f64::from(percent) / 100.0,
            _ => 1.0,
        });
        boosts.product()
    }

    /// True if payments in `channel` are broken at `at`.
    pub(super) fn payment_broken(&self, channel: &str, at: EventTime) -> bool {
        let broken = |kind: &FaultKind| matches!(kind, FaultKind::PaymentBroken(c) if c == channel);
        self.faults.iter().any(|f| broken(&f.kind) && f.holds(at))
    }

    /// True if nothing of `channel` gets through at `at`.
    pub(super) fn silent(&self, channel: &str, at: EventTime) -> bool {
        let silent = |kind: &FaultKind| matches!(kind, FaultKind::ChannelSilent(c) if c == channel);
        self.faults.iter().any(|f| silent(&f.kind) && f.holds(at))
    }
}

/// The faults of a scenario: one, five to six hours after the start, for 45 to 60 minutes.
fn faults_of(scenario: Scenario, seed: u64, start: EventTime) -> Vec<Fault> {
    let mut rng = Rng::new(mix(&[seed, 0xfa17]));
    let from = start.plus(Millis::from_mins(rng.between(300, 360)));
    let long = Millis::from_mins(rng.between(45, 61));
    let channel = if rng.chance(0.3) { "mobile_app" } else { "web" };
    let (kind, long) = match scenario {
        Scenario::Spike | Scenario::PendingSpike => {
            (FaultKind::PaymentBroken(channel.into()), long)
        }
        // A channel without checkouts: its silence breaks nothing else.
        Scenario::Silent => (FaultKind::ChannelSilent("email".into()), Millis::from_mins(90)),
        Scenario::Promotion => (FaultKind::Promotion(20), Millis::from_hours(2)),
        Scenario::Shop | Scenario::ShopLate | Scenario::Calm | Scenario::Pending => {
            return Vec::new();
        }
    };
    vec![Fault { kind, from, to: from.plus(long) }]
}
