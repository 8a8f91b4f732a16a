//! Bytes to records and back: the one module that knows formats. Pure, no IO.
//!
//! | module | does |
//! | --- | --- |
//! | [`canonical`] | touchpoints and control records, Avro and JSON |
//! | [`flush`] | what `journey` sends to `rollup` |
//! | [`checkpoint`] | state entries and checkpoint records on changelog topics |
//! | [`local`] | files of a local copy of a changelog |
//! | [`inputs`] | side inputs of tasks |
//! | [`derived`] | facts to records of the derived topics, and back |
//! | [`recorded`] | lines and containers of recordings |
//! | [`schemas`] | the schema files of our topics |
//! | [`packed`] | what is written for ourselves |
//! | [`wire`] | Confluent framing |
//! | [`murmur2`] | Kafka's default partitioner |
//! | [`tree`] | a value of any shape, for mappings |
//! | [`validate`] | the bounds of a touchpoint |
//!
//! All input is hostile: every length, depth and count is bounded, and no input panics.
//! Deliberately absent: mappings of foreign formats (`ingest`), fetching schemas (`kafka`),
//! Protobuf.

mod avro;
pub mod canonical;
pub mod checkpoint;
pub mod derived;
mod encode;
mod fields;
pub mod flush;
pub mod inputs;
mod json;
mod leaves;
pub mod local;
pub mod murmur2;
pub mod packed;
pub mod recorded;
pub mod schemas;
mod slots;
pub mod tree;
pub mod validate;
pub mod wire;
