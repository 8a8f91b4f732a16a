//! The customers of a task: found by (tenant, id), named by a slot that timers can hold.

use super::context::Who;
use super::customer::Customer;
use super::frozen::Frozen;
use super::profile::TenantId;
use super::timers::Slot;
use crate::engine::state::StateError;
use crate::model::time::EventTime;
use hashbrown::HashTable;
use smallvec::SmallVec;
use std::hint::black_box;
use std::ops::BitXor as _;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Customers that are fetched together at most.
const TOGETHER: usize = 16;

/// Customers in slots; a slot that becomes free is taken again.
#[derive(Default, Debug)]
pub(super) struct Store {
    slots: Vec<Place>,
    free: Vec<Slot>,
    index: HashTable<Indexed>,
    /// Slots of the customers that are dirty; some may have been freed since, or taken again.
    dirty: Vec<Slot>,
    /// Slots of the customers that have been woken up, changed or not since.
    woken: Vec<Slot>,
    /// All are to be written, those at rest, too.
    all: bool,
    /// Customers that were written down and have been forgotten since.
    gone: Vec<Who>,
}

/// A customer that was put in, or taken out, while a state is restored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored {
    pub(super) slot: Slot,
    /// When its timer was due before.
    pub(super) old: Option<EventTime>,
    /// And when it is due now.
    pub(super) new: Option<EventTime>,
}

/// What a slot holds.
#[derive(Debug)]
enum Place {
    Free,
    Awake(Box<Customer>),
    /// Written down, and not changed since.
    AtRest(Frozen),
}

/// A slot with half of its customer's hash: most others are told from it without a look at them, and
/// none is looked at when the index grows.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    slot: Slot,
}

fn hash(tenant: TenantId, customer: &[u8]) -> u64 {
    let hash = xxh3_64_with_seed(customer, u64::from(tenant));
    spread(hash as u32)
}

/// The table takes its place from the low bits and its tag from the highest.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

impl Place {
    /// Something of the memory that it names.
    fn near(&self) -> u64 {
        match self {
            Place::Free => 0,
            Place::Awake(customer) => customer.near(),
            Place::AtRest(frozen) => u64::from(frozen.tenant()),
        }
    }

    /// Something of the memory that this names in turn.
    fn far(&self) -> u64 {
        match self {
            Place::Awake(customer) => customer.far(),
            Place::Free | Place::AtRest(_) => 0,
        }
    }

    fn who(&self) -> (TenantId, &str) {
        match self {
            Place::Free => unreachable!("whoever holds a slot has not freed it"),
            Place::Awake(customer) => (customer.who.tenant, &customer.who.customer),
            Place::AtRest(frozen) => (frozen.tenant(), frozen.name()),
        }
    }
}

impl Store {
    /// The slot of a customer, if there is state of it.
    pub(super) fn find(&self, tenant: TenantId, customer: &str) -> Option<Slot> {
        self.find_hashed(hash(tenant, customer.as_bytes()), tenant, customer)
    }

    fn find_hashed(&self, full: u64, tenant: TenantId, customer: &str) -> Option<Slot> {
        let same = |indexed: &Indexed| {
            indexed.hash == full as u32 && self.who(indexed.slot) == (tenant, customer)
        };
        self.index.find(full, same).map(|indexed| indexed.slot)
    }

    /// Brings what is kept of these into the cache. A look at one waits for memory several times, one
    /// step after the other; the steps of several wait together.
    pub(super) fn fetch<'a>(&self, them: impl Iterator<Item = (TenantId, &'a [u8])>) {
        let hashes: SmallVec<[u64; TOGETHER]> =
            them.take(TOGETHER).map(|(tenant, customer)| hash(tenant, customer)).collect();
        let find = |full: &u64| self.index.find(*full, |indexed| indexed.hash == *full as u32);
        let slots: SmallVec<[Slot; TOGETHER]> =
            hashes.iter().filter_map(find).map(|indexed| indexed.slot).collect();
        let of = |slot: &Slot| &self.slots[*slot as usize];
        black_box(slots.iter().map(|slot| of(slot).near()).fold(0, u64::bitxor));
        black_box(slots.iter().map(|slot| of(slot).far()).fold(0, u64::bitxor));
    }

    /// The same of one whose timer is about to fire, and when that is.
    pub(super) fn fetch_timer(&self, slot: Slot) -> Option<EventTime> {
        black_box(self.slots[slot as usize].far());
        self.timer(slot)
    }

    /// The slot of a customer, made if there is none.
    pub(super) fn slot(&mut self, tenant: TenantId, customer: &str) -> Slot {
        if let Some(slot) = self.find(tenant, customer) {
            return slot;
        }
        let made = Customer::new(Who { tenant, customer: customer.into() });
        let slot = self.insert(hash(tenant, customer.as_bytes()), Place::Awake(Box::new(made)));
        self.touch(slot);
        slot
    }

    /// Gives something a slot, under the hash of who it is.
    fn insert(&mut self, hash: u64, place: Place) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = place;
                slot
            }
            None => {
                self.slots.push(place);
                (self.slots.len() - 1) as Slot
            }
        };
        let indexed = Indexed { hash: hash as u32, slot };
        self.index.insert_unique(hash, indexed, |indexed| spread(indexed.hash));
        slot
    }

    /// Tenant and id of a customer.
    pub(super) fn who(&self, slot: Slot) -> (TenantId, &str) {
        self.slots[slot as usize].who()
    }

    /// When a customer's timer is due; `None` if it has none, or the slot has been freed.
    pub(super) fn timer(&self, slot: Slot) -> Option<EventTime> {
        match &self.slots[slot as usize] {
            Place::Free => None,
            Place::Awake(customer) => customer.timer,
            Place::AtRest(frozen) => frozen.timer(),
        }
    }

    /// The customer, which is awake.
    pub(super) fn get(&self, slot: Slot) -> &Customer {
        match &self.slots[slot as usize] {
            Place::Awake(customer) => customer,
            _ => unreachable!("whoever looks at a customer has woken it up"),
        }
    }

    /// The customer, which is awake from now on. It can rest again at the next checkpoint, and is
    /// written down then only if it has changed.
    pub(super) fn thawed(&mut self, slot: Slot) -> &Customer {
        if let Place::AtRest(frozen) = &self.slots[slot as usize] {
            let mut customer = frozen.thaw();
            customer.is_saved = true;
            self.slots[slot as usize] = Place::Awake(Box::new(customer));
            self.woken.push(slot);
        }
        self.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Customer {
        self.thawed(slot);
        self.touch(slot);
        match &mut self.slots[slot as usize] {
            Place::Awake(customer) => customer,
            _ => unreachable!("it has just been woken up"),
        }
    }

    /// Forgets a customer.
    pub(super) fn remove(&mut self, slot: Slot) {
        let place = std::mem::replace(&mut self.slots[slot as usize], Place::Free);
        if matches!(place, Place::Free) {
            return;
        }
        let (tenant, customer) = place.who();
        if let Ok(entry) =
            self.index.find_entry(hash(tenant, customer.as_bytes()), |indexed| indexed.slot == slot)
        {
            entry.remove();
        }
        self.free.push(slot);
        match place {
            Place::Awake(customer) if !customer.is_saved => {}
            place => {
                let (tenant, customer) = place.who();
                self.gone.push(Who { tenant, customer: customer.into() });
            }
        }
    }

    /// The customer has changed, or is about to.
    fn touch(&mut self, slot: Slot) {
        match &mut self.slots[slot as usize] {
            Place::Awake(customer) if !customer.is_dirty => customer.is_dirty = true,
            _ => return,
        }
        // Where nobody writes anything down, customers come and go without end.
        if self.dirty.len() > 2 * self.slots.len() + 64 {
            let is_dirty =
                |slot: &Slot| matches!(&self.slots[*slot as usize], Place::Awake(c) if c.is_dirty);
            self.dirty = self.taken().filter(is_dirty).collect();
        } else {
            self.dirty.push(slot);
        }
    }

    /// Every slot that is taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = Slot> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, place)| match place {
            Place::Free => None,
            _ => Some(slot as Slot),
        })
    }

    /// Marks every customer as changed.
    pub(super) fn touch_all(&mut self) {
        for slot in 0..self.slots.len() {
            self.touch(slot as Slot);
        }
        self.all = true;
    }

    /// Hands every dirty customer and its value to `write`, and who has been forgotten to `forget`.
    /// Those of which `rests` is true are at rest from now on.
    pub(super) fn take_dirty(
        &mut self,
        rests: impl Fn(&Customer) -> bool,
        mut write: impl FnMut(TenantId, &str, Vec<u8>),
        mut forget: impl FnMut(TenantId, &str),
    ) {
        if std::mem::take(&mut self.all) {
            for place in &self.slots {
                if let Place::AtRest(frozen) = place {
                    write(frozen.tenant(), frozen.name(), frozen.value().to_vec());
                }
            }
        }
        let (dirty, woken) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.woken));
        for slot in dirty.into_iter().chain(woken) {
            let place = &mut self.slots[slot as usize];
            let Place::Awake(customer) = place else { continue };
            let (changed, rests) = (std::mem::take(&mut customer.is_dirty), rests(customer));
            if !changed && !rests {
                continue;
            }
            customer.is_saved = true;
            let (tenant, name, value) =
                (customer.who.tenant, &customer.who.customer, customer.save());
            let frozen = rests.then(|| Frozen::new(tenant, name, &value));
            if changed {
                write(tenant, name, value);
            }
            if let Some(Ok(frozen)) = frozen {
                *place = Place::AtRest(frozen);
            }
        }
        for Who { tenant, customer } in std::mem::take(&mut self.gone) {
            // One that is back has just been written.
            if self.find(tenant, &customer).is_none() {
                forget(tenant, &customer);
            }
        }
    }

    /// Puts a customer in as it was written down, or takes it out. Returns its slot, and when its timer
    /// was due before and is now; nothing if there was none, and is none.
    ///
    /// # Errors
    /// If the value is of another version.
    pub(super) fn restore(
        &mut self,
        tenant: TenantId,
        customer: &str,
        value: Option<&[u8]>,
    ) -> Result<Option<Restored>, StateError> {
        let full = hash(tenant, customer.as_bytes());
        let known = self.find_hashed(full, tenant, customer);
        let old = known.and_then(|slot| self.timer(slot));
        let Some(value) = value else {
            let restored = known.map(|slot| Restored { slot, old, new: None });
            known.into_iter().for_each(|slot| self.remove(slot));
            return Ok(restored);
        };
        let (frozen, new) = Frozen::with_timer(tenant, customer, value)?;
        let slot = match known {
            Some(slot) => {
                self.slots[slot as usize] = Place::AtRest(frozen);
                slot
            }
            None => self.insert(full, Place::AtRest(frozen)),
        };
        Ok(Some(Restored { slot, old, new }))
    }

    /// Everything has been restored: nothing is dirty.
    pub(super) fn restored(&mut self) {
        self.dirty = Vec::new();
        self.all = false;
        self.gone = Vec::new();
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}
