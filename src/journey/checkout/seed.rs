//! Settled instances: decided, published, and older than anything that can still come in time. Of
//! these only what a later completion or a repeated order needs is kept.
//!
//! What is settled stays: a later event whose keys would have joined a settled event to something
//! else does not reopen that. Events that are linked by keys within the session gap are never parted
//! by it, nor is a completion from the checkout whose key it carries.

use super::closure::Closure;
use super::event::{DETAILS, Details, Face, RichEvent};
use super::instance::{By, Instance, Point, State};
use super::publish::Published;
use crate::model::record::CheckoutKind;
use crate::model::time::EventTime;
use serde::{Deserialize, Serialize};

/// A key of a settled instance, and which of its keys it was connected with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SeedKey {
    #[serde(with = "postcard::fixint::le")]
    hash: u64,
    kind: u8,
    /// Component over all keys: place of its first key in this instance.
    pub(super) group: u8,
    /// Component over the strong keys, likewise; none for a cart's key.
    pub(super) strong_group: Option<u8>,
}

impl SeedKey {
    pub(super) fn key(self) -> (usize, u64) {
        (usize::from(self.kind), self.hash)
    }
}

/// A settled checkout or cart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seed {
    kind: CheckoutKind,
    state: State,
    started: Option<Point>,
    last: Option<Point>,
    value: Option<i64>,
    by: Option<By>,
    kinds: u8,
    keys: Box<[SeedKey]>,
    step: Option<i32>,
    face_value: Option<i64>,
    currency: Option<u32>,
    details: Details,
    /// Fingerprint of the event that it is named by.
    #[serde(with = "postcard::fixint::le")]
    pub(super) anchor: u64,
    revision: i64,
    /// Orders counted, by key; without a key, `ordered` says so.
    pub(super) orders: Box<[u64]>,
    pub(super) ordered: bool,
    /// When it can be forgotten.
    pub(super) until: EventTime,
}

/// What is kept of a settled instance besides itself.
pub(super) struct Kept {
    pub(super) orders: Vec<u64>,
    pub(super) ordered: bool,
    pub(super) until: EventTime,
}

impl Seed {
    /// Keeps what is needed of an instance that was published.
    pub(super) fn of(
        instance: &Instance,
        published: &Published,
        events: &[RichEvent],
        closure: &Closure,
        Kept { orders, ordered, until }: Kept,
    ) -> Seed {
        let face = instance.face_at(events, EventTime::MAX, None);
        Seed {
            kind: instance.kind,
            state: instance.state,
            started: instance.started(),
            last: instance.last,
            value: instance.value,
            by: instance.by,
            kinds: instance.kinds,
            keys: seed_keys(&instance.keys, closure),
            step: face.step,
            face_value: face.value,
            currency: face.currency,
            details: Details::pack(face.texts),
            anchor: published.anchor,
            revision: published.revision,
            orders: orders.into_boxed_slice(),
            ordered,
            until,
        }
    }

    pub(super) fn kind(&self) -> CheckoutKind {
        self.kind
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    pub(super) fn keys(&self) -> &[SeedKey] {
        &self.keys
    }

    /// The instance to go on from.
    pub(super) fn instance(&self, place: usize, closure: &Closure) -> Instance {
        let mut instance = Instance::new(self.kind);
        instance.seed = Some(place);
        instance.state = self.state;
        instance.start = self.started;
        instance.last = self.last;
        instance.value = self.value;
        instance.by = self.by;
        instance.keys = self.keys.iter().map(|k| k.key()).collect();
        instance.kinds = self.kinds;
        for root in self.keys.iter().filter_map(|key| closure.root(key.key())) {
            instance.kinds |= closure.kinds(root);
            instance.roots.push(root);
        }
        let mut texts = [const { None }; DETAILS];
        self.details.each(|place, text| texts[place] = Some(text.into()));
        let (step, value, currency) = (self.step, self.face_value, self.currency);
        instance.face = Some(Box::new(Face { step, value, currency, texts }));
        instance
    }

    /// What has been published of it.
    pub(super) fn published(&self) -> Published {
        Published {
            kind: self.kind,
            anchor: self.anchor,
            revision: self.revision,
            started: self.started.map(|s| s.time),
            told: Vec::new(),
            outcome: super::publish::outcome_of(self.state),
            rests_on: 0,
        }
    }
}

/// At most 255 keys, the first ones: an instance with more is no customer's.
fn seed_keys(keys: &[(usize, u64)], closure: &Closure) -> Box<[SeedKey]> {
    let first = |root: &dyn Fn((usize, u64)) -> Option<usize>, key: (usize, u64)| {
        let own = root(key)?;
        let place = keys.iter().position(|other| root(*other) == Some(own))?;
        u8::try_from(place).ok()
    };
    keys.iter()
        .take(usize::from(u8::MAX))
        .map(|key| SeedKey {
            hash: key.1,
            kind: key.0 as u8,
            group: first(&|key| closure.root(key), *key).unwrap_or(u8::MAX),
            strong_group: first(&|key| closure.strong_root(key), *key),
        })
        .collect()
}
