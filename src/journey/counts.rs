//! Observations of a journey task, added up between two flushes.
//!
//! `EventsIn` is the sum of what was folded into the figures and of duplicate, late and filtered,
//! exactly: every touchpoint is counted once on each side.

use super::profile::{ProfileId, Profiles};
use crate::engine::Output;
use crate::model::dimension::Dimension;
use crate::model::figures::{Figures, Money};
use crate::model::observation::Observation;
use crate::model::record::{CheckoutKind, Transition};
use crate::model::reject::FilterReason;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Plain counters.
#[derive(PartialEq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) events_in: u64,
    pub(super) duplicate: u64,
    pub(super) late: u64,
    pub(super) dedup_evicted: u64,
    filtered: BTreeMap<FilterReason, u64>,
    overflow: BTreeMap<Dimension, u64>,
    checkouts: BTreeMap<(CheckoutKind, CompactString, Transition), u64>,
}

impl Counts {
    /// True if nothing has been counted since they were taken out.
    pub(super) fn is_empty(&self) -> bool {
        *self == Counts::default()
    }

    pub(super) fn filtered(&mut self, reason: FilterReason) {
        *self.filtered.entry(reason).or_default() += 1;
    }

    pub(super) fn overflow(&mut self, dimension: Dimension) {
        *self.overflow.entry(dimension).or_default() += 1;
    }

    pub(super) fn checkout(&mut self, kind: CheckoutKind, channel: &str, transition: Transition) {
        *self.checkouts.entry((kind, channel.into(), transition)).or_default() += 1;
    }

    /// Appends what was counted, `figures` included, sorted, zeros left out, and starts anew.
    pub(super) fn drain(
        &mut self,
        profiles: &Profiles,
        figures: &BTreeMap<ProfileId, Figures>,
        out: &mut Vec<Output>,
    ) {
        let counts = std::mem::take(self);
        let mut say = |observation: Observation| out.push(Output::Observation(observation));
        let plain = [
            (counts.events_in, Observation::EventsIn as fn(u64) -> Observation),
            (counts.duplicate, Observation::Duplicate),
            (counts.late, Observation::Late),
            (counts.dedup_evicted, Observation::DedupEvicted),
        ];
        for (n, make) in plain.into_iter().filter(|(n, _)| *n != 0) {
            say(make(n));
        }
        for (reason, n) in counts.filtered {
            say(Observation::Filtered { reason, n });
        }
        let mut events: BTreeMap<(&CompactString, &CompactString), u64> = BTreeMap::new();
        let mut channels: BTreeMap<&CompactString, Figures> = BTreeMap::new();
        for (id, figures) in figures {
            let profile = profiles.get(*id);
            // An event is never taken back.
            *events.entry((&profile.channel, &profile.stage)).or_default() +=
                figures.events.unsigned_abs();
            channels.entry(&profile.channel).or_default().add(figures, 1);
        }
        for ((channel, stage), n) in events.into_iter().filter(|(_, n)| *n != 0) {
            say(Observation::Events { channel: channel.clone(), stage: stage.clone(), n });
        }
        let mut by_channel =
            |of: fn(&Figures) -> i64, make: fn(CompactString, i64) -> Observation| {
                for (channel, figures) in channels.iter().filter(|(_, figures)| of(figures) != 0) {
                    say(make((*channel).clone(), of(figures)));
                }
            };
        by_channel(|f| f.sessions, |channel, n| Observation::Sessions { channel, n });
        by_channel(
            |f| f.engaged_sessions,
            |channel, n| Observation::EngagedSessions { channel, n },
        );
        by_channel(|f| f.orders, |channel, n| Observation::Orders { channel, n });
        let mut revenue = Money::none();
        for figures in channels.values() {
            revenue.add_all(&figures.value, 1);
        }
        for (currency, minor) in revenue.sums() {
            say(Observation::Revenue { currency: currency.clone(), minor: *minor });
        }
        for ((kind, channel, transition), n) in counts.checkouts {
            say(Observation::Checkout { kind, channel, transition, n });
        }
        for (dimension, n) in counts.overflow {
            say(Observation::Overflow { dimension: dimension.name(), n });
        }
    }
}
