//! Avro's binary encoding without copies: cursor, compiled writer schemas, decoding plans, readers
//! and writers of our own records.
//!
//! `apache-avro` parses and checks schemas and is the oracle of the tests; it does not touch the
//! bytes of a record here (at end of input it can take a union for null, and it copies every text).

pub(crate) mod cursor;
mod known;
pub(crate) mod plan;
pub(crate) mod read;
mod resolve;
pub(crate) mod shape;
mod steps;
pub(crate) mod write;
