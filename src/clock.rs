//! The one module that reads a clock. Everything else takes time as an argument.
#![expect(clippy::disallowed_methods, reason = "this is the module that the ban points to")]

use crate::model::time::{Millis, ProcessingTime};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock now.
pub fn now() -> ProcessingTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ProcessingTime::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A point of monotonic time, for measuring how long something took or was waited for.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    /// The present moment.
    pub fn now() -> Moment {
        Moment(Instant::now())
    }

    /// Time from this moment until now.
    pub fn elapsed(self) -> Millis {
        Millis::from_ms(i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// Time from this moment until now, in seconds.
    pub fn elapsed_secs(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
