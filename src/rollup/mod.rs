//! (to come)

pub mod alerts;
pub mod step;
