//! Traffic with known truth: a deterministic generator of a shop's touchpoints, and the naive model
//! that says what the pipeline must make of them.
//!
//! | file | what |
//! | --- | --- |
//! | `plan` | what is to be generated: scenario, seed, length, faults and their labels |
//! | `traffic` | the stream of arrivals: daily pattern, out of order, late, repeated, spoilt |
//! | `visit`, `checkout` | the script of one visit |
//! | `naive` | the truth, from sorts and sets; imports nothing of `journey`, `rollup` or `engine` |
//! | `final_form` | the shape in which truth and `replay --final` are compared |
//! | `files` | writes traffic, truth and labels |
//!
//! The same plan gives the same bytes. What it deliberately does not do: log-ins in the middle of a
//! checkout, ids shared between customers, several tenants.

mod checkout;
pub mod encode;
pub mod files;
pub mod final_form;
pub mod naive;
pub mod plan;
mod rng;
pub mod traffic;
mod visit;

pub use files::{Summary, Truth, write_files};
pub use naive::{Naive, Settings};
pub use plan::{Fault, FaultKind, Label, Plan, Scenario};
pub use traffic::{Emitted, Generator, Payload};
