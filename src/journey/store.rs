//! The customers of a task: found by (tenant, id), named by a slot that timers can hold.

use super::context::Who;
use super::customer::Customer;
use super::profile::TenantId;
use super::timers::Slot;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Customers in slots; a slot that becomes free is taken again.
#[derive(Default, Debug)]
pub(super) struct Store {
    slots: Vec<Option<Box<Customer>>>,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    /// Slots of the customers that are dirty; some may have been freed since, or taken again.
    dirty: Vec<Slot>,
    /// Customers that were written down and have been forgotten since.
    gone: Vec<Who>,
}

fn hash(tenant: TenantId, customer: &str) -> u64 {
    xxh3_64_with_seed(customer.as_bytes(), u64::from(tenant))
}

impl Store {
    /// The slot of a customer, if there is state of it.
    pub(super) fn find(&self, tenant: TenantId, customer: &str) -> Option<Slot> {
        let same = |slot: &Slot| {
            let who = &self.get(*slot).who;
            who.tenant == tenant && who.customer == customer
        };
        self.index.find(hash(tenant, customer), same).copied()
    }

    /// The slot of a customer, made if there is none.
    pub(super) fn slot(&mut self, tenant: TenantId, customer: &str) -> Slot {
        if let Some(slot) = self.find(tenant, customer) {
            return slot;
        }
        let made = Box::new(Customer::new(Who { tenant, customer: customer.into() }));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(made);
                slot
            }
            None => {
                self.slots.push(Some(made));
                (self.slots.len() - 1) as Slot
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash(tenant, customer), slot, |slot| {
            let who = &slots[*slot as usize].as_ref().expect("indexed slots are taken").who;
            hash(who.tenant, &who.customer)
        });
        self.touch(slot);
        slot
    }

    pub(super) fn get(&self, slot: Slot) -> &Customer {
        self.slots[slot as usize].as_ref().expect("whoever holds a slot has not freed it")
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Customer {
        self.touch(slot);
        self.slots[slot as usize].as_mut().expect("whoever holds a slot has not freed it")
    }

    /// Forgets a customer.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(customer) = self.slots[slot as usize].take() else { return };
        let hash = hash(customer.who.tenant, &customer.who.customer);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.free.push(slot);
        if customer.is_saved {
            self.gone.push(customer.who);
        }
    }

    /// The customer has changed, or is about to.
    fn touch(&mut self, slot: Slot) {
        let Some(customer) = &mut self.slots[slot as usize] else { return };
        if customer.is_dirty {
            return;
        }
        customer.is_dirty = true;
        // Where nobody writes anything down, customers come and go without end.
        if self.dirty.len() > 2 * self.slots.len() + 64 {
            self.dirty = self.taken().filter(|(_, c)| c.is_dirty).map(|(slot, _)| slot).collect();
        } else {
            self.dirty.push(slot);
        }
    }

    /// Every slot that is taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = (Slot, &Customer)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, customer)| Some((slot as Slot, customer.as_deref()?)))
    }

    /// Marks every customer as changed.
    pub(super) fn touch_all(&mut self) {
        for slot in 0..self.slots.len() {
            self.touch(slot as Slot);
        }
    }

    /// Hands every dirty customer to `write`, and who has been forgotten to `forget`.
    pub(super) fn take_dirty(
        &mut self,
        mut write: impl FnMut(&Customer),
        mut forget: impl FnMut(&Who),
    ) {
        for slot in std::mem::take(&mut self.dirty) {
            let customer = self.slots[slot as usize].as_mut().filter(|c| c.is_dirty);
            if let Some(customer) = customer {
                (customer.is_dirty, customer.is_saved) = (false, true);
                write(customer);
            }
        }
        for who in std::mem::take(&mut self.gone) {
            // One that is back has just been written.
            if self.find(who.tenant, &who.customer).is_none() {
                forget(&who);
            }
        }
    }

    /// Puts a customer in as it was written down, or takes it out.
    pub(super) fn restore(&mut self, who: Who, customer: Option<Customer>) {
        match customer {
            Some(mut customer) => {
                let slot = self.slot(who.tenant, &who.customer);
                (customer.is_dirty, customer.is_saved) = (true, true);
                self.slots[slot as usize] = Some(Box::new(customer));
            }
            None => {
                if let Some(slot) = self.find(who.tenant, &who.customer) {
                    self.remove(slot);
                }
            }
        }
    }

    /// Everything has been restored: nothing is dirty.
    pub(super) fn restored(&mut self) {
        for customer in self.slots.iter_mut().flatten() {
            customer.is_dirty = false;
        }
        self.dirty = Vec::new();
        self.gone = Vec::new();
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}
