//! Mapping files: from foreign JSON to touchpoints.

mod condition;
mod path;
pub mod spec;
