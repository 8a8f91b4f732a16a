//! The one integration binary.

mod alerts;
mod codec;
mod config;
mod conservation;
mod http;
mod ingest;
mod journey;
mod kafka;
mod naive;
mod offline;
mod properties;
mod rollup;
mod scenarios;
mod tidy;
