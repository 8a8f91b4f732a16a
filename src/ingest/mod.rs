//! The role `ingest`, without its IO: what becomes of one source record.

pub mod mapping;
