//! The closure over a customer's keys: which ids name the same thing, since some event carries both.

use super::event::{CART_KEY, RichEvent};
use super::seed::{Seed, SeedKey};
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Keys that are looked up one after the other.
const FEW: usize = 16;

/// Union-find over keys; once over all kinds, once over those that name one checkout only.
#[derive(Debug)]
pub(super) struct Closure {
    /// Each key is the node of its place.
    keys: SmallVec<[(usize, u64); 8]>,
    /// The same to look keys up, once they are many.
    nodes: HashMap<(usize, u64), usize>,
    parents: SmallVec<[usize; 8]>,
    strong_parents: SmallVec<[usize; 8]>,
    /// Kinds of keys of a component, as bits, by its root.
    kinds: SmallVec<[u8; 8]>,
}

impl Closure {
    /// Connects what the events and the settled instances hold together.
    pub(super) fn of(seeds: &[Seed], events: &[&RichEvent]) -> Closure {
        let mut closure = Closure {
            keys: SmallVec::new(),
            nodes: HashMap::new(),
            parents: SmallVec::new(),
            strong_parents: SmallVec::new(),
            kinds: SmallVec::new(),
        };
        for seed in seeds {
            closure.connect_seed(seed.keys());
        }
        for event in events {
            closure.connect(event.own_keys());
        }
        for (node, (kind, _)) in closure.keys.iter().enumerate() {
            let root = root_of(&closure.parents, node);
            closure.kinds[root] |= 1 << kind;
        }
        closure
    }

    /// The keys of one settled instance, connected as they were: not all need to be.
    fn connect_seed(&mut self, keys: &[SeedKey]) {
        let nodes: SmallVec<[usize; 8]> = keys.iter().map(|key| self.node(key.key())).collect();
        for (at, key) in keys.iter().enumerate() {
            for (before, other) in keys[..at].iter().enumerate() {
                if other.group == key.group {
                    union(&mut self.parents, nodes[before], nodes[at]);
                }
                if key.strong_group.is_some() && other.strong_group == key.strong_group {
                    union(&mut self.strong_parents, nodes[before], nodes[at]);
                }
            }
        }
    }

    fn node(&mut self, key: (usize, u64)) -> usize {
        if let Some(node) = self.find(key) {
            return node;
        }
        let node = self.keys.len();
        self.keys.push(key);
        self.parents.push(node);
        self.strong_parents.push(node);
        self.kinds.push(0);
        if node == FEW {
            self.nodes.extend(self.keys.iter().enumerate().map(|(node, key)| (*key, node)));
        } else if node > FEW {
            self.nodes.insert(key, node);
        }
        node
    }

    fn find(&self, key: (usize, u64)) -> Option<usize> {
        match self.keys.len() {
            0..=FEW => self.keys.iter().position(|known| *known == key),
            _ => self.nodes.get(&key).copied(),
        }
    }

    /// Number of keys: roots are below.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    fn connect(&mut self, keys: impl Iterator<Item = (usize, u64)>) {
        let (mut all, mut strong): (Option<usize>, Option<usize>) = (None, None);
        for key in keys {
            let node = self.node(key);
            union(&mut self.parents, *all.get_or_insert(node), node);
            if key.0 != CART_KEY {
                union(&mut self.strong_parents, *strong.get_or_insert(node), node);
            }
        }
    }

    /// The component of a key.
    pub(super) fn root(&self, key: (usize, u64)) -> Option<usize> {
        self.find(key).map(|node| root_of(&self.parents, node))
    }

    /// The component of a key among the strong ones; `None` for a cart's key.
    pub(super) fn strong_root(&self, key: (usize, u64)) -> Option<usize> {
        let node = self.find(key).filter(|_| key.0 != CART_KEY)?;
        Some(root_of(&self.strong_parents, node))
    }

    /// Kinds of keys in a component, as bits.
    pub(super) fn kinds(&self, root: usize) -> u8 {
        self.kinds[root]
    }
}

fn root_of(parents: &[usize], mut node: usize) -> usize {
    while parents[node] != node {
        node = parents[node];
    }
    node
}

fn union(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root_of(parents, a), root_of(parents, b));
    parents[a.max(b)] = a.min(b);
}
