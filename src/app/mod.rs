//! Composition root: the only module that knows every other.
//!
//! | file | does |
//! | --- | --- |
//! | [`parts`], [`rules`], [`ingest_parts`] | from the configuration to the settings of each part |
//! | [`tasks`] | what workers run: decode, fold, encode |
//! | [`pipeline`] | the roles at work on one cluster |
//! | [`relay`] | the relay at work: reader, pusher, HTTP |
//! | [`run`], [`demo`], [`replay`], [`generate`], [`topics`], [`check`] | the commands |
//! | [`offline`], `recording` | the folds without Kafka, and what files of records hold |
//! | `configurations` | what the folds have seen of configurations, in a topic of its own |
//! | [`summary`], [`observer`] | what was counted, as a summary and as metrics |

pub mod check;
mod configurations;
pub mod demo;
pub mod generate;
mod ingest_offline;
pub mod ingest_parts;
pub mod observer;
pub mod offline;
pub mod parts;
pub mod pipeline;
mod recording;
pub mod registry;
pub mod relay;
pub mod replay;
pub mod rules;
pub mod run;
pub mod state;
mod state_dir;
pub mod summary;
pub mod tasks;
pub mod topics;
