//! The `rollup` fold: merges the cells of all journey partitions into windows, and calls the alert
//! engine.
//!
//! | file | holds |
//! | --- | --- |
//! | `fold` | [`Rollup`]: takes flushes, makes steps |
//! | `inbox` | flush numbers, boundary reports, cells by due step; the times of a step |
//! | `tenant` | what one step does to one tenant |
//! | `live` | rolling windows: running sums over panes, distinct customers by links |
//! | `aligned` | windows aligned to their own length: revisions, maturity, finality |
//! | `effects` | what a step did, for the alert engine and for counting |
//! | `evidence` | offsets that slices rest on |
//! | `agenda` | when a window wants to be looked at again |
//! | `records` | from windows to records |
//! | `settings` | [`Settings`], and windows counted in slices |
//! | `step` | what the alert engine sees of a step |
//! | [`alerts`] | the alert engine |
//!
//! A step is the end of one slice of the clock. At a step, in this order: the cells due are applied;
//! rolling windows whose slide ends are emitted; aligned windows are decided; alerts are evaluated.
//! Steps at which nothing can happen are not made.
//!
//! Decisions:
//! - Everything that is emitted depends on steps, never on when flushes came: cells are merged before
//!   they are applied, and series, tenants and windows are visited in the order of their names.
//! - A cell whose step has passed is due at the present one. If the watermark of the last step made
//!   was `allowed_lateness` past its slice, its events are late; what it says about checkouts that started
//!   in it still reaches the windows that wait for that.
//! - A step's watermark is never ahead of the step, however far the journey partitions are: what is
//!   due later (timers that fired in a jump) is still to come.
//! - Closed journey partitions hold nothing back; when all are closed the clock is the largest.
//!
//! Limits: a slice's evidence is kept for the longest window, the allowed lateness and twice
//! `t_checkout`. Series are never forgotten (their number is capped upstream); a silent one costs
//! its name.

pub mod alerts;

mod agenda;
mod aligned;
mod effects;
mod evidence;
mod fold;
mod inbox;
mod live;
mod records;
mod settings;
pub mod step;
mod tenant;

pub use fold::{FOLD_VERSION, Input, Rollup};
pub use settings::{Settings, WindowSpec};
