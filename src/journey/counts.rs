//! Observations of a journey task, added up between two flushes.
//!
//! `EventsIn` is the sum of what was folded into the figures and of duplicate, late and filtered,
//! exactly: every touchpoint is counted once on each side.

use super::cells::{Post, What};
use super::profile::{ProfileId, Profiles};
use crate::engine::Output;
use crate::model::dimension::Dimension;
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
    events: BTreeMap<ProfileId, u64>,
    sessions: BTreeMap<ProfileId, i64>,
    engaged: BTreeMap<ProfileId, i64>,
    orders: BTreeMap<ProfileId, i64>,
    revenue: BTreeMap<u32, i128>,
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

    /// Counts along with a posted count.
    pub(super) fn post(&mut self, post: &Post, sign: i64) {
        match post.what {
            What::Event => *self.events.entry(post.profile).or_default() += 1,
            What::Session => *self.sessions.entry(post.profile).or_default() += sign,
            What::Engaged => *self.engaged.entry(post.profile).or_default() += sign,
            What::Order => *self.orders.entry(post.profile).or_default() += sign,
            What::Value { currency, minor } => {
                *self.revenue.entry(currency).or_default() += i128::from(minor) * i128::from(sign);
            }
            _ => {}
        }
    }

    /// Appends what was counted, sorted, zeros left out, and starts anew.
    pub(super) fn drain(&mut self, profiles: &Profiles, out: &mut Vec<Output>) {
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
        for (id, n) in &counts.events {
            let profile = profiles.get(*id);
            *events.entry((&profile.channel, &profile.stage)).or_default() += n;
        }
        for ((channel, stage), n) in events {
            say(Observation::Events { channel: channel.clone(), stage: stage.clone(), n });
        }
        for (channel, n) in by_channel(profiles, &counts.sessions) {
            say(Observation::Sessions { channel, n });
        }
        for (channel, n) in by_channel(profiles, &counts.engaged) {
            say(Observation::EngagedSessions { channel, n });
        }
        for (channel, n) in by_channel(profiles, &counts.orders) {
            say(Observation::Orders { channel, n });
        }
        let revenue: BTreeMap<&str, i128> =
            counts.revenue.iter().map(|(id, minor)| (profiles.currency(*id), *minor)).collect();
        for (currency, minor) in revenue.into_iter().filter(|(_, minor)| *minor != 0) {
            say(Observation::Revenue { currency: currency.into(), minor });
        }
        for ((kind, channel, transition), n) in counts.checkouts {
            say(Observation::Checkout { kind, channel, transition, n });
        }
        for (dimension, n) in counts.overflow {
            say(Observation::Overflow { dimension: dimension.name(), n });
        }
    }
}

fn by_channel(
    profiles: &Profiles,
    counts: &BTreeMap<ProfileId, i64>,
) -> impl Iterator<Item = (CompactString, i64)> {
    let mut sums: BTreeMap<CompactString, i64> = BTreeMap::new();
    for (id, n) in counts {
        *sums.entry(profiles.get(*id).channel.clone()).or_default() += n;
    }
    sums.into_iter().filter(|(_, n)| *n != 0)
}
