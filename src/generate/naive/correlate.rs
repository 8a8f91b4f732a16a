//! Which events of a customer belong together by their ids: the closure over shared keys.

use super::event::Event;
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};

/// An id with its kind: checkout 0, order 1, cart 2.
pub(super) type Key = (u8, CompactString);

/// The kind of cart ids.
pub(super) const CART: u8 = 2;

/// The events of checkouts, grouped: two that share an id are in one group, and so on.
pub(super) struct Components {
    of: BTreeMap<usize, usize>,
    keys: BTreeMap<usize, BTreeSet<Key>>,
}

impl Components {
    /// Groups the checkout events among `events`; one without any id is alone.
    pub(super) fn new(events: &[Event]) -> Components {
        let mut of: BTreeMap<usize, usize> =
            (0..events.len()).filter(|i| events[*i].is_checkout()).map(|i| (i, i)).collect();
        let mut sharing: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for i in of.keys() {
            for key in keys_of(&events[*i]) {
                sharing.entry(key).or_default().push(*i);
            }
        }
        // Everybody takes the least number around until nothing changes.
        let mut changed = true;
        while changed {
            changed = false;
            for members in sharing.values() {
                let least = members.iter().map(|i| of[i]).min().unwrap_or(0);
                for i in members {
                    changed |= of.insert(*i, least) != Some(least);
                }
            }
        }
        let mut keys: BTreeMap<usize, BTreeSet<Key>> = BTreeMap::new();
        for (i, component) in &of {
            keys.entry(*component).or_default().extend(keys_of(&events[*i]));
        }
        Components { of, keys }
    }

    /// The group of event `i`.
    pub(super) fn of(&self, i: usize) -> usize {
        self.of[&i]
    }

    /// All ids of a group.
    pub(super) fn keys(&self, component: usize) -> &BTreeSet<Key> {
        &self.keys[&component]
    }
}

/// The ids of one event.
pub(super) fn keys_of(event: &Event) -> BTreeSet<Key> {
    event.keys.iter().map(|(kind, id)| (kind, id.clone())).collect()
}

/// The ids that name a checkout and nothing else: those but the cart's.
pub(super) fn own_keys_of(event: &Event) -> BTreeSet<Key> {
    keys_of(event).into_iter().filter(|(kind, _)| *kind != CART).collect()
}

/// True if both have ids of one kind: then they are not the same checkout.
pub(super) fn conflict(a: &BTreeSet<Key>, b: &BTreeSet<Key>) -> bool {
    a.iter().any(|(kind, _)| b.iter().any(|(other, _)| kind == other))
}
