//! What is worth counting: the core emits these, `telemetry` turns them into metrics.

use super::record::{AlertTransition, CheckoutKind, Transition};
use super::reject::FilterReason;
use compact_str::CompactString;

/// One thing worth counting, with how many. Label values come from the taxonomy or closed enums.
#[derive(Clone, PartialEq, Debug)]
pub enum Observation {
    /// Touchpoints that a journey task read (control records are not among them).
    EventsIn(u64),
    /// Repeats, dropped.
    Duplicate(u64),
    /// Too late, published to `touchpoints.late` (journey), or past finality (rollup).
    Late(u64),
    /// Left out of the figures.
    Filtered {
        /// Why.
        reason: FilterReason,
        /// How many.
        n: u64,
    },
    /// Touchpoints that `rollup` applied.
    Counted(i64),
    /// Touchpoints folded into the figures, by channel and stage.
    Events {
        /// Channel.
        channel: CompactString,
        /// Stage.
        stage: CompactString,
        /// How many.
        n: u64,
    },
    /// Sessions (signed: a merge takes one back).
    Sessions {
        /// Channel of the first event.
        channel: CompactString,
        /// How many.
        n: i64,
    },
    /// Engaged sessions (signed).
    EngagedSessions {
        /// Channel of the deciding event.
        channel: CompactString,
        /// How many.
        n: i64,
    },
    /// Orders (signed).
    Orders {
        /// Channel of the order.
        channel: CompactString,
        /// How many.
        n: i64,
    },
    /// Money of orders (signed, minor units).
    Revenue {
        /// Currency.
        currency: CompactString,
        /// How much.
        minor: i128,
    },
    /// Transitions of checkouts and carts, as published.
    Checkout {
        /// Checkout or cart.
        kind: CheckoutKind,
        /// Channel that it counts for.
        channel: CompactString,
        /// Which transition.
        transition: Transition,
        /// How many.
        n: u64,
    },
    /// Fingerprints that the bound of the deduplication window pushed out before their time.
    DedupEvicted(u64),
    /// Values of a dimension folded into `other` because of its cap.
    Overflow {
        /// Name of the dimension.
        dimension: &'static str,
        /// How many touchpoints.
        n: u64,
    },
    /// Words of touchpoints that the taxonomy does not know (`ingest`).
    UnknownWord {
        /// `channel`, `stage`, or `touchpoint` for the pair with its action.
        dimension: &'static str,
        /// How many touchpoints.
        n: u64,
    },
    /// Records of `engagement.live` or revisions of `engagement.channel_stage`.
    WindowRevisions {
        /// `live` or `channel_stage`.
        view: &'static str,
        /// How many.
        n: u64,
    },
    /// An alert changed its state.
    Alert {
        /// Name of the alert.
        alert: CompactString,
        /// New state.
        to: AlertTransition,
        /// For `firing`: event time from the start of what is wrong to the decision, ms.
        delay_ms: i64,
    },
    /// Tests that a detector made at one step.
    Tests {
        /// Name of the detector.
        detector: &'static str,
        /// How many.
        n: u64,
    },
    /// Size of a store now.
    State {
        /// Name of the store.
        store: &'static str,
        /// Entries.
        entries: u64,
    },
    /// Timers pending now.
    Timers(u64),
    /// A flush with a number at or below the last, ignored.
    RepeatedFlush,
}
