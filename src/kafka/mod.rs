//! The imperative shell around the pure folds, and the only module that knows Kafka's client.
//!
//! It moves records between Kafka and *tasks*, one per partition, which `app` gives as trait objects
//! ([`task`]); it knows neither sessions nor windows. Read in this order:
//!
//! | file | does |
//! | --- | --- |
//! | [`client`] | connection properties and their check; metadata, end offsets, start positions |
//! | [`task`] | what a worker runs, and the records that go in and out |
//! | [`group`] | starts the workers of one role; the handle to watch, finish and stop them |
//! | `worker`, `slot`, `waits`, `commit`, `batch` | one worker: its loop, its partitions, their retries, its commit step, its consumer |
//! | [`exactly`] | the worker that delivers exactly once |
//! | [`local`] | copies of changelogs on this process's disk |
//! | [`memory`] | a bound on the memory of the process |
//! | [`observer`], [`health`] | what a worker tells about itself |
//! | [`reader`], [`writer`] | a plain tailing reader and a plain writer, for the relay, the generator and tests |
//! | [`topics`] | topics and access rights that are needed, against those that exist |
//! | [`state`] | the state of a role as it stands on the cluster |
//! | [`registry`] | schemas by id, and registration of ours |
//! | [`embedded`] | a broker inside this process |
//!
//! # Delivery
//!
//! Exactly once ([`exactly`]): inputs, outputs and state move on together, in transactions; a restart
//! goes on where the last one left off.
//!
//! At least once, for brokers without transactions: a position is committed only when every output that
//! rests on it or on an earlier record has been acknowledged by all in-sync replicas. Nothing is kept
//! across restarts: every run begins at the configured start.
//!
//! # Limits
//!
//! Records per poll, bytes prefetched per worker and bytes of outputs in flight are bounded
//! ([`group::Settings`]); no queue grows with the load. State grows with the keys: a budget for the
//! whole process ([`memory`]) stops reading before it is exceeded. A worker is an OS thread with a blocking loop,
//! never a tokio task; workers share nothing but a snapshot of positions.

mod batch;
pub mod client;
mod commit;
pub mod embedded;
mod error;
pub mod exactly;
pub mod group;
pub mod health;
pub mod local;
pub mod memory;
pub mod observer;
pub mod reader;
pub mod registry;
mod slot;
mod start;
pub mod state;
pub mod task;
pub mod topics;
mod waits;
mod worker;
pub mod writer;

pub use client::Connection;
pub use error::Error;
pub use group::{Handle, Settings};
pub use start::{Source, Start};
pub use task::{
    Headers, OutRecord, Produced, Record, Task, TaskError, TaskFactory, TaskProgress,
    TopicPartition,
};
