//! The one integration binary.

mod alerts;
mod codec;
mod config;
mod conservation;
mod end_to_end;
mod http;
mod ingest;
mod journey;
mod kafka;
mod naive;
mod properties;
mod realsets;
mod relay;
mod rollup;
mod scenarios;
mod tidy;
