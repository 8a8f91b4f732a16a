//! Mapping files: from foreign JSON to touchpoints.

pub mod spec;
