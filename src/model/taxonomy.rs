//! The words of the business: channels, stages, phases, and what stage a touchpoint belongs to.
//!
//! An unknown channel becomes `other`; a stage that the source gives is kept if it is known; without
//! one the pair (touchpoint, action) decides; an unknown pair has the stage `other`. Nothing is
//! guessed. What a pair *means* to sessions and checkouts does not depend on the taxonomy: see
//! [`Meaning`].

use super::dimension::OTHER;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a pair (touchpoint, action) means to sessions, checkouts and carts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Meaning {
    /// An interaction like any other.
    Interaction,
    /// A view: two of them make a session engaged.
    View,
    /// (`cart`, `add` / `remove` / `view`).
    Cart,
    /// (`checkout`, `start`).
    CheckoutStart,
    /// (`checkout`, `step`).
    CheckoutStep,
    /// (`checkout`, `complete`): an order.
    CheckoutComplete,
    /// (`checkout`, `fail`), (`payment`, `fail`).
    PaymentFailed,
    /// (`checkout`, `pending`), (`payment`, `pending`).
    PaymentPending,
    /// (`payment`, `info`).
    PaymentInfo,
    /// (`checkout`, `cancel` / `expire`).
    CheckoutExpire,
    /// (`store_purchase`, `complete`): an order without a checkout.
    StorePurchase,
    /// (`experiment`, …), (`identity`, …): a fact, no interaction; filtered from the figures.
    Fact,
}

impl Meaning {
    /// What the pair means.
    ///
    /// ```
    /// use touchline::model::taxonomy::Meaning;
    /// assert_eq!(Meaning::of("checkout", "start"), Meaning::CheckoutStart);
    /// assert_eq!(Meaning::of("product", "view"), Meaning::View);
    /// assert_eq!(Meaning::of("checkout", "teleport"), Meaning::Interaction);
    /// ```
    pub fn of(touchpoint: &str, action: &str) -> Meaning {
        match (touchpoint, action) {
            ("checkout", "start") => Meaning::CheckoutStart,
            ("checkout", "step") => Meaning::CheckoutStep,
            ("checkout", "complete") => Meaning::CheckoutComplete,
            ("checkout" | "payment", "fail") => Meaning::PaymentFailed,
            ("checkout" | "payment", "pending") => Meaning::PaymentPending,
            ("payment", "info") => Meaning::PaymentInfo,
            ("checkout", "cancel" | "expire") => Meaning::CheckoutExpire,
            ("cart", "add" | "remove" | "view") => Meaning::Cart,
            ("store_purchase", "complete") => Meaning::StorePurchase,
            ("experiment" | "identity", _) => Meaning::Fact,
            (_, "view") => Meaning::View,
            _ => Meaning::Interaction,
        }
    }

    /// True for what keeps a checkout alive: start, step, payment info, failed and pending payment.
    pub const fn is_checkout_activity(self) -> bool {
        matches!(
            self,
            Meaning::CheckoutStart
                | Meaning::CheckoutStep
                | Meaning::PaymentFailed
                | Meaning::PaymentPending
                | Meaning::PaymentInfo
        )
    }
}

/// One pair that the taxonomy knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// Touchpoint.
    pub touchpoint: CompactString,
    /// Action.
    pub action: CompactString,
    /// Stage of the pair.
    pub stage: CompactString,
}

/// A touchpoint's entry in the register: who owns it, and what to do when it fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// Owning department.
    pub owner: CompactString,
    /// Address of the runbook; empty if none.
    pub runbook: CompactString,
}

/// The configured words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taxonomy {
    channels: BTreeSet<CompactString>,
    /// In the order of the journey.
    stages: Vec<CompactString>,
    phases: BTreeMap<CompactString, CompactString>,
    pairs: BTreeMap<CompactString, BTreeMap<CompactString, CompactString>>,
    register: BTreeMap<CompactString, Registered>,
}

impl Taxonomy {
    /// Makes a taxonomy.
    ///
    /// `stages` are in the order of the journey, each with its phase; `other` is always among
    /// channels and stages.
    pub fn new(
        channels: impl IntoIterator<Item = CompactString>,
        stages: impl IntoIterator<Item = (CompactString, CompactString)>,
        pairs: impl IntoIterator<Item = Pair>,
        register: impl IntoIterator<Item = (CompactString, Registered)>,
    ) -> Taxonomy {
        let mut taxonomy = Taxonomy {
            channels: channels.into_iter().collect(),
            register: register.into_iter().collect(),
            ..Taxonomy::default()
        };
        taxonomy.channels.insert(OTHER.into());
        for (stage, phase) in stages {
            taxonomy.phases.insert(stage.clone(), phase);
            taxonomy.stages.push(stage);
        }
        for pair in pairs {
            taxonomy.pairs.entry(pair.touchpoint).or_default().insert(pair.action, pair.stage);
        }
        taxonomy
    }

    /// The channel's own name if it is known.
    pub fn channel(&self, name: &str) -> Option<&str> {
        self.channels.get(name).map(CompactString::as_str)
    }

    /// The stage's own name if it is known.
    pub fn stage(&self, name: &str) -> Option<&str> {
        self.stages.iter().find(|s| *s == name).map(CompactString::as_str)
    }

    /// The stage of a pair, if the pair is known.
    pub fn stage_of(&self, touchpoint: &str, action: &str) -> Option<&str> {
        self.pairs.get(touchpoint)?.get(action).map(CompactString::as_str)
    }

    /// The stage that a touchpoint counts for: the given one if known, else the pair's, else `other`.
    pub fn resolve_stage(&self, given: Option<&str>, touchpoint: &str, action: &str) -> &str {
        given
            .and_then(|name| self.stage(name))
            .or_else(|| self.stage_of(touchpoint, action))
            .unwrap_or(OTHER)
    }

    /// The channel that a touchpoint counts for: its own if known, else `other`.
    pub fn resolve_channel(&self, given: &str) -> &str {
        self.channel(given).unwrap_or(OTHER)
    }

    /// The phase of a stage; `None` for `other`.
    pub fn phase(&self, stage: &str) -> Option<&str> {
        self.phases.get(stage).map(CompactString::as_str)
    }

    /// Place of a stage on the journey, from 0; `None` for `other`.
    pub fn stage_rank(&self, stage: &str) -> Option<usize> {
        self.stages.iter().position(|s| s == stage)
    }

    /// Known channels, sorted, `other` included.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(CompactString::as_str)
    }

    /// Known stages in the order of the journey, without `other`.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(CompactString::as_str)
    }

    /// Known touchpoints: those of the pairs and those of the register.
    pub fn knows_touchpoint(&self, name: &str) -> bool {
        self.pairs.contains_key(name) || self.register.contains_key(name)
    }

    /// Known touchpoints, sorted.
    pub fn touchpoints(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&CompactString> =
            self.pairs.keys().chain(self.register.keys()).collect();
        names.into_iter().map(CompactString::as_str)
    }

    /// The register's entry of a touchpoint.
    pub fn registered(&self, touchpoint: &str) -> Option<&Registered> {
        self.register.get(touchpoint)
    }
}
