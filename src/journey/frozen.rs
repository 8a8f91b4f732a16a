//! A customer at rest: its entry as it was written down, and who it is, in one piece of memory.
//!
//! Nearly all of a task's customers are between two visits. Nothing of them is needed but their name,
//! when their timer is due, and what a checkpoint says of them anyway; so that is all that is kept,
//! and a restored customer is not decoded before something happens to it.

use super::customer::Customer;
use super::profile::TenantId;
use super::{context::Who, customer};
use crate::engine::state::StateError;
use crate::model::time::EventTime;

/// Bytes of the tenant's number, and of the length of the name.
const NUMBER: usize = 4;

/// Tenant, length of the name, name, value of the entry.
#[derive(Debug)]
pub(super) struct Frozen(Box<[u8]>);

impl Frozen {
    /// Takes over a value that was written down, after a look at its beginning.
    ///
    /// # Errors
    /// If it is of another version, or no customer's.
    pub(super) fn new(
        tenant: TenantId,
        customer: &str,
        value: &[u8],
    ) -> Result<Frozen, StateError> {
        Ok(Frozen::with_timer(tenant, customer, value)?.0)
    }

    /// The same, and when its timer is due.
    ///
    /// # Errors
    /// As above.
    pub(super) fn with_timer(
        tenant: TenantId,
        customer: &str,
        value: &[u8],
    ) -> Result<(Frozen, Option<EventTime>), StateError> {
        let timer = customer::saved_timer(value)?;
        let name = customer.as_bytes();
        let len = u32::try_from(name.len()).map_err(|_| StateError::Malformed("customer"))?;
        let mut bytes = Vec::with_capacity(2 * NUMBER + name.len() + value.len());
        bytes.extend_from_slice(&tenant.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        Ok((Frozen(bytes.into_boxed_slice()), timer))
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.0[at..at + NUMBER].try_into().expect("four bytes are four bytes");
        u32::from_le_bytes(bytes)
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let len = self.number(NUMBER) as usize;
        self.0[2 * NUMBER..].split_at(len)
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.number(0)
    }

    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(self.split().0).expect("it was made of a name")
    }

    /// The value of its entry.
    pub(super) fn value(&self) -> &[u8] {
        self.split().1
    }

    pub(super) fn timer(&self) -> Option<EventTime> {
        customer::saved_timer(self.value()).expect("looked at when it was taken over")
    }

    /// The customer as it was.
    ///
    /// # Panics
    /// If the value is none that this program has written: entries of another version are refused
    /// when they are taken over, and damaged ones by the checksum of their record.
    pub(super) fn thaw(&self) -> Customer {
        let who = Who { tenant: self.tenant(), customer: self.name().into() };
        Customer::restore(who, self.value()).expect("what was written down can be read")
    }
}
