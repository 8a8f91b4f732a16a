//! The words of the domain as plain data. Imports nothing of ours.

pub mod control;
pub mod dimension;
pub mod figures;
pub mod ids;
pub mod observation;
pub mod record;
pub mod reject;
pub mod taxonomy;
pub mod time;
pub mod topic;
pub mod touchpoint;
