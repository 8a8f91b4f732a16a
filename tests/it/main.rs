//! The one integration binary.
#![cfg(test)]

mod alerts;
mod checkpoint;
mod codec;
mod config;
mod conservation;
mod end_to_end;
mod http;
mod ingest;
mod journey;
mod kafka;
mod naive;
mod offline;
mod properties;
mod readme;
mod realsets;
mod recording;
mod rollup;
mod scenarios;
mod sim;
mod state;
mod tidy;
