//! Figures per window: every count is noted with its moment and series, then sorted into the windows
//! of each length. Customers are a set.

use super::event::Event;
use crate::generate::final_form::window_name;
use crate::model::dimension::{Dimension, Dimensions};
use crate::model::record::{Abandonment, SCHEMA_VERSION, Value, WindowRecord};
use crate::model::time::{EventTime, Millis, aligned_start};
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    /// An event, and the number of its customer where there is one.
    Event(Option<u32>),
    Session,
    Engaged,
    Order,
    /// Minor units, and the number of their currency.
    Value(u32, i64),
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
    /// Numbers of the five series of what counts for a tenant, channel, stage and touchpoint.
    places: BTreeMap<[CompactString; 4], [usize; 5]>,
    numbers: BTreeMap<(CompactString, Dimensions), usize>,
    series: Vec<Vec<(EventTime, Count)>>,
    currencies: Vec<CompactString>,
}

/// The series that an event belongs to: total, channel, stage, both, touchpoint.
fn series_of(event: &Event) -> [Dimensions; 5] {
    let channel = (Dimension::Channel, event.channel.clone());
    let stage = (Dimension::Stage, event.stage.clone());
    let touchpoint = (Dimension::Touchpoint, event.touchpoint.clone());
    [
        Dimensions::TOTAL,
        Dimensions::new([channel.clone()]),
        Dimensions::new([stage.clone()]),
        Dimensions::new([channel, stage]),
        Dimensions::new([touchpoint]),
    ]
}

impl Counts {
    /// Notes `counts` at `at` for all series of `event`.
    pub(super) fn note(
        &mut self,
        tenant: &CompactString,
        at: EventTime,
        event: &Event,
        counts: &[Count],
    ) {
        let place = [tenant, &event.channel, &event.stage, &event.touchpoint].map(Clone::clone);
        let numbers = match self.places.get(&place) {
            Some(numbers) => *numbers,
            None => {
                let numbers = series_of(event).map(|dimensions| self.number(tenant, dimensions));
                *self.places.entry(place).or_insert(numbers)
            }
        };
        for number in numbers {
            self.series[number].extend(counts.iter().map(|c| (at, *c)));
        }
    }

    fn number(&mut self, tenant: &CompactString, dimensions: Dimensions) -> usize {
        let number = *self.numbers.entry((tenant.clone(), dimensions)).or_insert(self.series.len());
        if number == self.series.len() {
            self.series.push(Vec::new());
        }
        number
    }

    /// Money as a count.
    pub(super) fn money(&mut self, (currency, minor): (CompactString, i64)) -> Count {
        let known = self.currencies.iter().position(|c| *c == currency);
        let number = known.unwrap_or(self.currencies.len());
        if known.is_none() {
            self.currencies.push(currency);
        }
        Count::Value(u32::try_from(number).unwrap_or(u32::MAX), minor)
    }

    /// Gives every window of every length to `each`, final.
    pub(super) fn windows(&self, lengths: &[Millis], mut each: impl FnMut(WindowRecord)) {
        for ((tenant, dimensions), number) in &self.numbers {
            let counts = &self.series[*number];
            for length in lengths {
                let mut windows: BTreeMap<EventTime, Vec<&Count>> = BTreeMap::new();
                for (at, count) in counts {
                    windows.entry(aligned_start(*at, *length)).or_default().push(count);
                }
                for (start, counts) in windows {
                    each(self.window(tenant, dimensions, (start, *length), &counts));
                }
            }
        }
    }

    fn window(
        &self,
        tenant: &CompactString,
        dimensions: &Dimensions,
        (start, length): (EventTime, Millis),
        counts: &[&Count],
    ) -> WindowRecord {
        let count = |is: fn(&Count) -> bool| counts.iter().filter(|c| is(c)).count() as i64;
        let customers: BTreeSet<u32> = counts
            .iter()
            .filter_map(|c| if let Count::Event(customer) = c { *customer } else { None })
            .collect();
        let mut value = Value::new();
        for count in counts {
            if let Count::Value(currency, minor) = count {
                let currency = self.currencies[*currency as usize].clone();
                *value.entry(currency).or_default() += i128::from(*minor);
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
            events: count(|c| matches!(c, Count::Event(_))),
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
}
