//! The tasks that workers run: decode, fold, encode. One file per role.

pub mod context;
pub mod decode;
pub mod ingest;
pub mod journey;
pub mod rollup;
