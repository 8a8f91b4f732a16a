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
        slot
    }

    pub(super) fn get(&self, slot: Slot) -> &Customer {
        self.slots[slot as usize].as_ref().expect("whoever holds a slot has not freed it")
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Customer {
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
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}
