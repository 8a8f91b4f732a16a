//! A bound on the memory of this process: above it workers read no more.
//!
//! What is read ahead, and what is written and not acknowledged, is bounded anyway. What grows with the
//! keys is state: with ten times the customers it takes ten times the memory, and no queue is too long.
//! So the process is looked at as a whole, as the system sees it, and pauses below its budget; nothing
//! is lost, records wait in Kafka. It goes on when memory comes back: customers are forgotten, or
//! partitions go to another process.
//!
//! A state that is brought back is not stopped: without it nothing would go on at all.

use crate::clock::Moment;
use crate::kafka::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often memory is looked at: what comes meanwhile has to fit into what is left.
const EVERY: Duration = Duration::from_millis(25);
/// What is kept free, in parts of the budget and in bytes at least: the next checkpoint has what changed
/// once more, and what is read ahead and not acknowledged takes its bounds.
const FREE_PART: u64 = 4;
const FREE_LEAST: u64 = 96 << 20;
/// Reading goes on when so much more is free.
const ROOM_PART: u64 = 32;
const SAY_EVERY: f64 = 60.0;

/// The memory that this process may take.
#[derive(Debug, Default)]
pub struct MemoryBudget {
    /// Bytes.
    limit: Option<u64>,
    resident: AtomicU64,
    is_full: AtomicBool,
}

impl MemoryBudget {
    /// As much as there is.
    pub fn unlimited() -> Arc<MemoryBudget> {
        Arc::default()
    }

    /// Looks at the memory of this process from now on, until nobody needs it any more.
    ///
    /// # Errors
    /// If the system does not tell, or no thread can be started.
    pub fn watched(limit: u64) -> Result<Arc<MemoryBudget>, Error> {
        let told = resident().ok_or_else(|| {
            Error::System(
                "/proc does not tell how much memory is taken: no budget can be kept".into(),
            )
        })?;
        let budget = Arc::new(MemoryBudget { limit: Some(limit), ..MemoryBudget::default() });
        budget.see(told);
        let watched = Arc::downgrade(&budget);
        let run = move || {
            let mut said: Option<Moment> = None;
            while let Some(budget) = watched.upgrade() {
                if let Some(bytes) = resident() {
                    budget.see(bytes);
                }
                if budget.is_full() && said.is_none_or(|at| at.elapsed_secs() > SAY_EVERY) {
                    said = Some(Moment::now());
                    let mib = budget.resident() >> 20;
                    tracing::warn!(
                        resident_mib = mib,
                        limit_mib = limit >> 20,
                        "limits.memory_budget is full, and nothing more is read: raise it, or start \
                         another process, which takes partitions over"
                    );
                }
                drop(budget);
                std::thread::sleep(EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("memory budget".to_owned()).spawn(run);
        thread.map_err(|e| Error::System(format!("a thread for memory: {e}")))?;
        Ok(budget)
    }

    fn see(&self, bytes: u64) {
        self.resident.store(bytes, Ordering::Relaxed);
        let Some(limit) = self.limit else { return };
        let full = limit.saturating_sub((limit / FREE_PART).max(FREE_LEAST));
        if bytes > full {
            self.is_full.store(true, Ordering::Relaxed);
        } else if bytes < full - full / ROOM_PART {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// True if nothing more should be read.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Bytes resident when it was looked last; 0 without a budget.
    pub fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }
}

/// Resident bytes of this process.
fn resident() -> Option<u64> {
    told("self", "VmRSS")
}

/// Bytes that the system tells of a process (`self`, or its number) under a name of
/// `/proc/<process>/status`, such as `VmRSS` or `VmHWM`.
pub fn told(process: &str, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_below_its_limit_and_has_room_a_little_later() {
        let check = |limit_mib: u64, seen: &[(u64, bool)]| {
            let budget = MemoryBudget { limit: Some(limit_mib << 20), ..MemoryBudget::default() };
            for (mib, full) in seen {
                budget.see(mib << 20);
                assert_eq!(budget.is_full(), *full, "{mib} of {limit_mib} MiB");
            }
        };
        check(1_000, &[(750, false), (751, true), (730, true), (726, false), (750, false)]);
        check(256, &[(160, false), (161, true), (156, true), (154, false)]);
        let unlimited = MemoryBudget::unlimited();
        unlimited.see(u64::MAX);
        assert!(!unlimited.is_full());
    }

    #[test]
    fn this_process_is_looked_at() {
        let budget = MemoryBudget::watched(1 << 20).unwrap();
        assert!(budget.is_full() && budget.resident() > 1 << 20);
        assert!(!MemoryBudget::watched(1 << 60).unwrap().is_full());
    }
}
