//! Exactly once: what a worker decides between its input, its changelog and its transactions.
//!
//! | file | what |
//! | --- | --- |
//! | [`core`](mod@core) | the decisions of one worker: no client, no clock, no thread |
//! | `slot` | one partition of it, from assignment to revocation |
//! | `pending` | outputs that no acknowledged transaction carries yet |
//! | [`metadata`] | what a committed offset says besides its number |
//! | `worker` | drives the core with a real client |
//! | `committer` | does the transactions, on a thread of its own |
//! | `restorer` | reads local copies and changelogs |
//! | [`heir`] | ends what dead workers left open |
//!
//! The rules, each of which closes a hole:
//!
//! - One transaction carries outputs, and the offsets of every partition that they or a checkpoint
//!   belong to, moved or not: the offsets are what fences a worker that lost its partitions.
//! - Outputs are kept until the transaction that carries them is acknowledged. An abort sends them
//!   again for partitions still owned; state never goes back.
//! - A checkpoint (changed entries of the state, and one record that names the position K) goes out in
//!   one transaction. Ticks and seals are applied directly before one, never elsewhere.
//! - Recovery: the committed offset C first, then the changelog until the checkpoint that C's metadata
//!   names is there, then fold from K. Outputs of records below C are dropped record by record.
//! - A local copy of a changelog (`kafka::local`) gets what is acknowledged, and nothing else; it stands
//!   for the changelog up to an offset, if that is still the same changelog.
//! - A record that says more than there is room for is published in parts, cut where its fold cuts
//!   them: C is its offset then, and C's metadata count the parts, which a restart drops, too. In the
//!   middle of a record there is neither checkpoint nor tick nor seal.
//! - What does not fit together stops the task with a sentence that names the command that helps;
//!   nothing is reset silently.
//!
//! The same decisions drive the worker on Kafka and the simulation of the tests.

pub(super) mod committer;
pub mod core;
pub mod heir;
pub mod metadata;
mod pending;
mod restorer;
mod slot;
pub(super) mod worker;
