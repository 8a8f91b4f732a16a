//! The relay: reads the derived topics and nothing else, keeps a view of them, pushes alerts.
//!
//! Every instance reads all of `alerts.events`, `alerts.active`, `engagement.live` and
//! `engagement.channel_stage`, so each can serve the whole picture without asking its peers.
//!
//! Limits: [`view::RECENT_ALERTS_MAX`] past alert records, [`view::COHORTS_PER_SERIES_MAX`] windows per
//! series. It holds no state of its own that the topics could not rebuild, and never looks into a task.

pub mod alertmanager;
pub mod push;
pub mod view;
