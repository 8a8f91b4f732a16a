//! Touchline: a streaming engine for customer touchpoints on Kafka.
//!
//! # The path of one event
//!
//! ```text
//! source topics ─ ingest ─► touchpoints.canonical ─ journey ─► <app>.rollup.repartition ─ rollup ─► engagement.*
//!                   │                                  │                                    └─────► alerts.*
//!                   └► touchpoints.rejected            ├► journeys.sessions, checkout.lifecycle       │
//!                                                      └► touchpoints.late                          relay
//! ```
//!
//! | step | module |
//! | --- | --- |
//! | a record becomes touchpoints | [`ingest`] (mappings, time and id rules, source watermarks) |
//! | touchpoints become sessions, checkouts and cells | [`journey`], a fold per canonical partition |
//! | cells become windows, windows become alerts | [`rollup`], a fold per repartition partition |
//! | derived topics become a view, a page, metrics, pages | [`relay`], [`http`], [`telemetry`] |
//!
//! # The map
//!
//! | module | what it is for | pure |
//! | --- | --- | --- |
//! | [`model`] | words of the domain as plain data | yes |
//! | [`engine`] | what a fold is; clock and watermark | yes |
//! | [`codec`] | bytes to model and back: Avro, JSON, flushes, recorded lines | yes |
//! | [`ingest`], [`journey`], [`rollup`] | the three steps above | yes |
//! | [`generate`] | traffic with known truth, and the naive model that computes it | yes |
//! | [`config`] | files as written to validated settings | yes |
//! | [`clock`] | the one module that reads a clock | no |
//! | [`kafka`] | the shell: workers, consumers, producers, topics, registry, embedded broker | no |
//! | [`relay`], [`http`], [`telemetry`] | the view of the derived topics and those who read it | no |
//! | [`app`] | composition root: the only module that knows all others | no |
//! | [`cli`] | one file per command | no |
//!
//! # Architecture invariants
//!
//! - No fold reads a clock, draws a random number, logs, or sees another task's state.
//! - No type of the Kafka client appears in a signature outside of [`kafka`].
//! - No module but [`app`] and [`cli`] imports [`config`].
//! - The naive model of [`generate`] imports nothing of the folds: it judges them.
//! - The relay reads topics only; no page, API call or metric looks into a task.
//! - There is no home-made cluster: consumer groups assign, topics carry, and nothing else coordinates.

pub mod app;
pub mod cli;
pub mod clock;
pub mod codec;
pub mod config;
pub mod engine;
pub mod generate;
pub mod http;
pub mod ingest;
pub mod journey;
pub mod kafka;
pub mod model;
pub mod relay;
pub mod rollup;
pub mod telemetry;
