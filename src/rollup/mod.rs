//! (to come)

pub mod alerts;
