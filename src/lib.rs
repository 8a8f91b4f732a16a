//! Touchline: a streaming engine for customer touchpoints.

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
