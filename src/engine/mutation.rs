//! Faults that are put into the program on purpose, one at a time, to see whether tests notice.
//!
//! They exist only with the feature `mutations`, which the binary refuses; without it
//! [`Mutation::is_on`] is `false` for the compiler, too.

/// A fault. Each breaks one rule that exactly-once delivery rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mutation {
    /// Offsets are committed on their own, before the outputs.
    OffsetsOutsideTransaction,
    /// No offset is sent for a partition whose position did not move.
    IdleOffsetsLeftOut,
    /// An abort loses the outputs.
    AbortDropsOutputs,
    /// What is folded again after a restart is published again.
    RefoldPublishes,
    /// After a restart outputs are dropped until the end of the partition, not up to an offset.
    DropsByMode,
    /// A tick is published without the checkpoint that remembers it.
    TickWithoutCheckpoint,
    /// A tick is in force, and nothing tells of it.
    TickUnrecorded,
    /// A restore does not wait for the checkpoint that the committed offset names.
    RestoreTooEarly,
    /// A refused offset does not stop the transaction.
    FenceIgnored,
    /// A checkpoint names an older position than its entries have.
    TwoPositions,
    /// Another configuration is taken although records have to be folded again.
    SwitchInRefold,
    /// An unknown outcome is taken for a commit.
    UnknownIsCommitted,
    /// An unknown outcome is taken for an abort.
    UnknownIsAborted,
    /// The state starts anew although its changelog is not decided.
    OpenChangelogIgnored,
    /// A new configuration is in force before a checkpoint says so.
    SwitchWithoutCheckpoint,
    /// A missing committed offset beside a state starts from the beginning.
    SilentReset,
    /// Input that is gone is skipped.
    GapIgnored,
    /// The aborted transaction's outputs go behind those that came later.
    AbortReorders,
    /// Timers that are due together fire in the order of a hash.
    TimersInHashOrder,
    /// Cells are applied when they arrive, not when their step is due.
    CellsAtArrival,
    /// A repeated flush is applied again.
    FlushNumberIgnored,
    /// A flush of another generation is applied.
    GenerationIgnored,
    /// Records are folded although the client has not been set to the position yet.
    FoldsBeforeSeek,
    /// A state is taken although its changelog was deleted and created anew.
    AnotherChangelog,
    /// A restart forgets how much of a record in the middle was published.
    PartForgotten,
    /// A checkpoint is taken in the middle of a record.
    CheckpointInPart,
    /// Who has joined its group anew goes on with the partitions that it had before.
    MemberIgnored,
    /// A local copy of a changelog gets what was aborted.
    CopyOfAborted,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 28] = [
        Mutation::OffsetsOutsideTransaction,
        Mutation::IdleOffsetsLeftOut,
        Mutation::AbortDropsOutputs,
        Mutation::RefoldPublishes,
        Mutation::DropsByMode,
        Mutation::TickWithoutCheckpoint,
        Mutation::TickUnrecorded,
        Mutation::RestoreTooEarly,
        Mutation::FenceIgnored,
        Mutation::TwoPositions,
        Mutation::SwitchInRefold,
        Mutation::UnknownIsCommitted,
        Mutation::UnknownIsAborted,
        Mutation::OpenChangelogIgnored,
        Mutation::SwitchWithoutCheckpoint,
        Mutation::SilentReset,
        Mutation::GapIgnored,
        Mutation::AbortReorders,
        Mutation::TimersInHashOrder,
        Mutation::CellsAtArrival,
        Mutation::FlushNumberIgnored,
        Mutation::GenerationIgnored,
        Mutation::FoldsBeforeSeek,
        Mutation::AnotherChangelog,
        Mutation::PartForgotten,
        Mutation::CheckpointInPart,
        Mutation::MemberIgnored,
        Mutation::CopyOfAborted,
    ];

    /// True if this thread runs with it.
    #[cfg(feature = "mutations")]
    pub fn is_on(self) -> bool {
        ACTIVE.get() == Some(self)
    }

    /// Never: mutations are not built in.
    #[cfg(not(feature = "mutations"))]
    pub const fn is_on(self) -> bool {
        false
    }
}

#[cfg(feature = "mutations")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Switches to a mutation, or to none, on this thread.
#[cfg(feature = "mutations")]
pub fn activate(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}
