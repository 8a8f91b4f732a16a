//! The role `ingest`, without its IO: what becomes of one source record.
//!
//! Pure functions of the record, the mapping and the time of arrival that the shell gives; no clock
//! is read and nothing is counted but by returning it. Stateless but for each source partition's
//! highest event time, from which its watermark follows.

pub mod decimal;
pub mod json;
pub mod mapping;
pub mod marks;
pub mod record;
pub mod rules;
pub mod task;

pub use marks::MarkSchedule;
pub use record::{Outcome, SourceRecord};
pub use rules::{Rules, Settings as RulesSettings};
pub use task::{CanonicalOut, SourceTask, is_ahead};
