//! What is written for ourselves, in postcard: flushes, states, and what is kept packed.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Appends to a vector. The crate's own flavours for that either begin anew or take bytes one by one.
struct Onto<'a>(&'a mut Vec<u8>);

impl Flavor for Onto<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends `value`.
///
/// # Panics
/// If it holds a sequence of unknown length; nothing of ours does.
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    postcard::serialize_with_flavor(value, Onto(out))
        .expect("a vector takes all, and lengths are known");
}
