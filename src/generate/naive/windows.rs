//! Figures per window: every count is noted with its moment and series, then sorted into the windows
//! of each length. Customers are a set.

use crate::generate::final_form::window_name;
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::{Abandonment, SCHEMA_VERSION, Value, WindowRecord};
use crate::model::time::{EventTime, Millis, aligned_start};
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that counts.
#[derive(Clone, Debug)]
pub(super) enum Count {
    Event,
    /// A customer, by number.
    Customer(u32),
    Session,
    Engaged,
    Order,
    Value(CompactString, i128),
    Started,
    Completed,
    Abandoned,
    Recovered,
    /// These four belong to the start of the checkout.
    CohortStarted,
    CohortAbandoned,
    CohortExpired,
    UniqueAbandoner,
}

/// All counts by tenant and series.
#[derive(Default)]
pub(super) struct Counts {
    series: BTreeMap<(CompactString, Dimensions), Vec<(EventTime, Count)>>,
}

/// The series that an event of this channel, stage and touchpoint belongs to.
fn series_of(
    channel: &CompactString,
    stage: &CompactString,
    touchpoint: &CompactString,
) -> [Dimensions; 5] {
    let channel = (Dimension::Channel, channel.clone());
    let stage = (Dimension::Stage, stage.clone());
    let touchpoint = (Dimension::Touchpoint, touchpoint.clone());
    [
        Dimensions::TOTAL,
        Dimensions::new([channel.clone()]),
        Dimensions::new([stage.clone()]),
        Dimensions::new([channel, stage]),
        Dimensions::new([touchpoint]),
    ]
}

impl Counts {
    /// Notes `counts` at `at` for all series of an event (its channel, stage and touchpoint).
    pub(super) fn note(
        &mut self,
        tenant: &CompactString,
        at: EventTime,
        (channel, stage, touchpoint): (&CompactString, &CompactString, &CompactString),
        counts: &[Count],
    ) {
        for dimensions in series_of(channel, stage, touchpoint) {
            let series = self.series.entry((tenant.clone(), dimensions)).or_default();
            series.extend(counts.iter().map(|c| (at, c.clone())));
        }
    }

    /// Gives every window of every length to `each`, final.
    pub(super) fn windows(&self, lengths: &[Millis], mut each: impl FnMut(WindowRecord)) {
        for ((tenant, dimensions), counts) in &self.series {
            for length in lengths {
                let mut windows: BTreeMap<EventTime, Vec<&Count>> = BTreeMap::new();
                for (at, count) in counts {
                    windows.entry(aligned_start(*at, *length)).or_default().push(count);
                }
                for (start, counts) in windows {
                    each(window(tenant, dimensions, (start, *length), &counts));
                }
            }
        }
    }
}

fn window(
    tenant: &CompactString,
    dimensions: &Dimensions,
    (start, length): (EventTime, Millis),
    counts: &[&Count],
) -> WindowRecord {
    let count = |is: fn(&Count) -> bool| counts.iter().filter(|c| is(c)).count() as i64;
    let customers: BTreeSet<u32> = counts
        .iter()
        .filter_map(|c| if let Count::Customer(customer) = c { Some(*customer) } else { None })
        .collect();
    let mut value = Value::new();
    for count in counts {
        if let Count::Value(currency, minor) = count {
            *value.entry(currency.clone()).or_default() += minor;
        }
    }
    value.retain(|_, minor| *minor != 0);
    WindowRecord {
        schema_version: SCHEMA_VERSION,
        id: "".into(),
        tenant: tenant.clone(),
        window: window_name(length),
        start,
        end: start.plus(length),
        dimensions: dimensions.to_map(),
        events: count(|c| matches!(c, Count::Event)),
        customers: customers.len() as i64,
        sessions: count(|c| matches!(c, Count::Session)),
        engaged_sessions: count(|c| matches!(c, Count::Engaged)),
        orders: count(|c| matches!(c, Count::Order)),
        value,
        checkouts_started: count(|c| matches!(c, Count::Started)),
        checkouts_completed: count(|c| matches!(c, Count::Completed)),
        checkouts_abandoned: count(|c| matches!(c, Count::Abandoned)),
        checkouts_recovered: count(|c| matches!(c, Count::Recovered)),
        abandonment: Abandonment {
            started: count(|c| matches!(c, Count::CohortStarted)),
            abandoned: count(|c| matches!(c, Count::CohortAbandoned)),
            expired: count(|c| matches!(c, Count::CohortExpired)),
            // Everything is decided in the end.
            undecided: 0,
            unique_abandoners: count(|c| matches!(c, Count::UniqueAbandoner)),
            mature: true,
        },
        revision: 0,
        is_final: true,
        completeness: 1.0,
    }
}
