//! What a fold is: inputs, outputs, clock and watermark.
//!
//! A fold is a deterministic function over one partition's log. It reads no clock, draws no random
//! numbers, iterates no hash map, and neither logs nor counts by itself: what is worth counting is an
//! output, too. The same prefix and the same side inputs give the same outputs, byte for byte,
//! whatever the batch sizes and commit points.

pub mod mutation;
pub mod progress;
pub mod state;

use crate::model::figures::Flush;
use crate::model::ids::PartitionId;
use crate::model::observation::Observation;
use crate::model::record::{
    AlertRecord, CheckoutRecord, LateRecord, LiveRecord, SessionRecord, WindowRecord,
};
use crate::model::time::Millis;

/// What a fold says, in order, into a buffer that its caller owns.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// A record to produce.
    Fact(Fact),
    /// Something worth counting.
    Observation(Observation),
}

/// A record to produce, before it is encoded.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// To `journeys.sessions`.
    Session(Box<SessionRecord>),
    /// To `checkout.lifecycle`.
    Checkout(Box<CheckoutRecord>),
    /// To `touchpoints.late`.
    Late(Box<LateRecord>),
    /// To the repartition topic of `rollup`, to the given partition of it.
    Flush(PartitionId, Box<Flush>),
    /// To `engagement.live`.
    Live(Box<LiveRecord>),
    /// To `engagement.channel_stage`.
    Window(Box<WindowRecord>),
    /// To `alerts.events`; a `firing` or `amended` one also to `alerts.active`, and a `resolved` one
    /// there as a tombstone.
    Alert(Box<AlertRecord>),
}

/// A side input that lets time pass in a partition to which nothing comes (only under `direct`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// Number of this side input within its task, from 1.
    pub number: u64,
    /// How much time has passed since the last record or tick: monotonic time that this worker waited.
    pub advance: Millis,
}

/// Outputs after which a fold hands over what it has, although its input asks for more. Parts are
/// counted in committed offsets: another number takes new versions of the folds.
pub const PART: usize = 1_024;

/// Asserts an order that holds however inputs are batched: outputs of one input are appended.
pub trait Fold {
    /// What comes in: one record (decoded), one side input.
    type Input<'a>: Copy;

    /// Folds one input, or goes on with it; appends what follows from it to `out`. True if there is
    /// more: then the same input must be given again, before any other. So a jump of event time,
    /// which may ask for any number of outputs, needs no memory for all of them at once. What comes
    /// out does not depend on where it is cut.
    fn fold_part(&mut self, input: Self::Input<'_>, out: &mut Vec<Output>) -> bool;

    /// Folds one input as a whole.
    fn fold(&mut self, input: Self::Input<'_>, out: &mut Vec<Output>) {
        let done = out.len();
        while self.fold_part(input, out) {
            debug_assert!(out.len() > done, "a part is never empty");
        }
    }
}
