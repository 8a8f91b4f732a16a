//! Partials: what has been counted since the last flush, as cells (slice p, due s).
//!
//! Figures and cohorts are kept by profile and spread over its series at the flush; links are kept
//! by series, since whether a customer visited a slice before depends on the series.

use super::profile::{ProfileId, Profiles, SeriesId, TenantId};
use crate::model::figures::{Cell, Cohort, Figures, Link, SliceEvidence, TenantCells};
use crate::model::time::Slice;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A count that an event, a session or a checkout stands for. Its sign is given when it is posted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Post {
    /// Where it belongs.
    pub(super) slice: Slice,
    /// Of whose series.
    pub(super) profile: ProfileId,
    pub(super) what: What,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum What {
    Event,
    Session,
    Engaged,
    Order,
    /// Minor units of an interned currency.
    Value {
        currency: u32,
        minor: i64,
    },
    Started,
    Completed,
    Abandoned,
    Recovered,
    /// In the cohort of the checkout's start.
    CohortStarted,
    /// The slice is that of the decision, here and below.
    CohortCompleted(Slice),
    CohortAbandoned(Slice),
    CohortExpired(Slice),
    CohortUnique(Slice),
}

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct Sum {
    figures: Figures,
    cohort: Cohort,
}

impl Sum {
    #[inline]
    fn post(&mut self, profiles: &Profiles, what: What, sign: i64) {
        let (figures, cohort) = (&mut self.figures, &mut self.cohort);
        match what {
            What::Event => figures.events += sign,
            What::Session => figures.sessions += sign,
            What::Engaged => figures.engaged_sessions += sign,
            What::Order => figures.orders += sign,
            What::Value { currency, minor } => {
                figures.value.add(profiles.currency(currency), i128::from(minor) * i128::from(sign))
            }
            What::Started => figures.checkouts_started += sign,
            What::Completed => figures.checkouts_completed += sign,
            What::Abandoned => figures.checkouts_abandoned += sign,
            What::Recovered => figures.checkouts_recovered += sign,
            What::CohortStarted => cohort.started += sign,
            What::CohortCompleted(_) => cohort.completed += sign,
            What::CohortAbandoned(_) => cohort.abandoned += sign,
            What::CohortExpired(_) => cohort.expired += sign,
            What::CohortUnique(_) => cohort.unique_abandoners += sign,
        }
        if let What::CohortCompleted(at)
        | What::CohortAbandoned(at)
        | What::CohortExpired(at)
        | What::CohortUnique(at) = what
        {
            cohort.latest_decision = cohort.latest_decision.max(Some(at));
        }
    }
}

type At = (Slice, Slice, u32);
/// First and last offset.
type Offsets = (i64, i64);

/// Sums since the last flush, sorted, as they are written down.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct SavedPartials {
    sums: Vec<(At, Sum)>,
    links: Vec<(At, BTreeMap<u32, i32>)>,
    evidence: Vec<(At, Offsets)>,
}

/// What was counted since the last flush.
pub(super) struct Drained {
    pub(super) tenants: BTreeMap<TenantId, TenantCells>,
    /// Figures whatever their slice.
    pub(super) by_profile: BTreeMap<ProfileId, Figures>,
}

/// When what is counted in `slice` is due: in its own slice or at `clock`, whichever is later.
fn due_of(slice: Slice, clock: Option<Slice>) -> Slice {
    clock.map_or(slice, |clock| clock.max(slice))
}

fn sorted_entries<'a, K: Ord + Copy + 'a, V: Clone + 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
) -> Vec<(K, V)> {
    let mut all: Vec<(K, V)> = entries.into_iter().map(|(k, v)| (*k, v.clone())).collect();
    all.sort_unstable_by_key(|(k, _)| *k);
    all
}

/// Sums since the last flush.
#[derive(Default, Debug)]
pub(super) struct Partials {
    /// By (due, slice, profile).
    sums: HashMap<At, Sum>,
    /// By (due, slice, series) and `back`.
    links: HashMap<(At, u32), i32>,
    /// Offsets by (due, slice, tenant).
    evidence: HashMap<At, Offsets>,
    /// The evidence that grew last, which mostly is the one that grows next: not among the others.
    growing: Option<(At, Offsets)>,
}

impl Partials {
    fn sum(&mut self, clock: Option<Slice>, slice: Slice, profile: ProfileId) -> &mut Sum {
        self.sums.entry((due_of(slice, clock), slice, profile)).or_default()
    }

    /// Counts `sign` times `post`, due at `clock` or in its own slice, whichever is later.
    pub(super) fn post(
        &mut self,
        profiles: &Profiles,
        clock: Option<Slice>,
        post: &Post,
        sign: i64,
    ) {
        self.sum(clock, post.slice, post.profile).post(profiles, post.what, sign);
    }

    /// Counts an event, and what it is worth.
    pub(super) fn event(
        &mut self,
        profiles: &Profiles,
        clock: Option<Slice>,
        (slice, profile): (Slice, ProfileId),
        value: Option<(u32, i64)>,
    ) {
        let sum = self.sum(clock, slice, profile);
        sum.post(profiles, What::Event, 1);
        if let Some((currency, minor)) = value.filter(|(_, minor)| *minor != 0) {
            sum.post(profiles, What::Value { currency, minor }, 1);
        }
    }

    /// Counts `n` links of a series, from `back` slices before to `slice`.
    pub(super) fn link(
        &mut self,
        clock: Option<Slice>,
        slice: Slice,
        series: SeriesId,
        back: u32,
        n: i32,
    ) {
        *self.links.entry(((due_of(slice, clock), slice, series), back)).or_default() += n;
    }

    /// Remembers that the record at `offset` counts in `slice`.
    pub(super) fn evidence(
        &mut self,
        clock: Option<Slice>,
        slice: Slice,
        tenant: TenantId,
        offset: i64,
    ) {
        let at = (due_of(slice, clock), slice, tenant);
        let Some((_, (from, to))) = self.growing.as_mut().filter(|(growing, _)| *growing == at)
        else {
            self.grown();
            let range = self.evidence.remove(&at).unwrap_or((offset, offset));
            self.growing = Some((at, (range.0.min(offset), range.1.max(offset))));
            return;
        };
        *from = offset.min(*from);
        *to = offset.max(*to);
    }

    /// Puts the evidence that grew last among the others.
    fn grown(&mut self) {
        self.evidence.extend(self.growing.take());
    }

    /// What there is, to be written down; `None` if there is nothing.
    pub(super) fn saved(&self) -> Option<SavedPartials> {
        let growing = self.growing.iter().map(|(at, range)| (at, range));
        (!self.is_empty()).then(|| SavedPartials {
            sums: sorted_entries(&self.sums),
            links: self.saved_links(),
            evidence: sorted_entries(self.evidence.iter().chain(growing)),
        })
    }

    fn saved_links(&self) -> Vec<(At, BTreeMap<u32, i32>)> {
        let mut all: Vec<(At, BTreeMap<u32, i32>)> = Vec::new();
        for ((at, back), n) in sorted_entries(&self.links) {
            match all.last_mut() {
                Some((last, links)) if *last == at => {
                    links.insert(back, n);
                }
                _ => all.push((at, BTreeMap::from([(back, n)]))),
            }
        }
        all
    }

    /// Makes it again.
    pub(super) fn restore(saved: SavedPartials) -> Partials {
        let links = |(at, links): (At, BTreeMap<u32, i32>)| {
            links.into_iter().map(move |(back, n)| ((at, back), n))
        };
        Partials {
            sums: saved.sums.into_iter().collect(),
            links: saved.links.into_iter().flat_map(links).collect(),
            evidence: saved.evidence.into_iter().collect(),
            growing: None,
        }
    }

    /// True if there is nothing to flush.
    pub(super) fn is_empty(&self) -> bool {
        let no_evidence = self.evidence.is_empty() && self.growing.is_none();
        self.sums.is_empty() && self.links.is_empty() && no_evidence
    }

    /// Takes everything out, sorted, whatever the order of the maps.
    pub(super) fn drain(&mut self, profiles: &Profiles) -> Drained {
        self.grown();
        let mut by_profile: BTreeMap<ProfileId, Figures> = BTreeMap::new();
        let mut cells: HashMap<At, Cell> = HashMap::new();
        for ((due, slice, profile), sum) in self.sums.drain() {
            by_profile.entry(profile).or_default().add(&sum.figures, 1);
            for series in &profiles.get(profile).series {
                let cell = cells.entry((due, slice, *series)).or_insert_with(|| empty(due, slice));
                cell.figures.add(&sum.figures, 1);
                cell.cohort.add(&sum.cohort);
            }
        }
        let mut links: Vec<((At, u32), i32)> =
            self.links.drain().filter(|(_, n)| *n != 0).collect();
        links.sort_unstable_by_key(|(at, _)| *at);
        for of_cell in links.chunk_by(|a, b| a.0.0 == b.0.0) {
            let at @ (due, slice, _) = of_cell[0].0.0;
            let cell = cells.entry(at).or_insert_with(|| empty(due, slice));
            cell.links.extend(of_cell.iter().map(|((_, back), n)| Link { back: *back, n: *n }));
        }
        cells.retain(|_, cell| {
            let decided = cell.cohort.latest_decision.is_some();
            decided || !(cell.figures.is_zero() && cell.cohort.is_zero() && cell.links.is_empty())
        });
        let mut by_tenant: BTreeMap<TenantId, Vec<(SeriesId, Cell)>> = BTreeMap::new();
        for ((_, _, series), cell) in cells {
            by_tenant.entry(profiles.series(series).tenant).or_default().push((series, cell));
        }
        let mut tenants: BTreeMap<TenantId, TenantCells> = by_tenant
            .into_iter()
            .map(|(tenant, cells)| (tenant, sorted(profiles, tenant, cells)))
            .collect();
        for ((due, slice, tenant), (from, to)) in self.evidence.drain() {
            let cells = tenants.entry(tenant).or_insert_with(|| TenantCells {
                tenant: profiles.tenant(tenant).clone(),
                series: Vec::new(),
                cells: Vec::new(),
                evidence: Vec::new(),
            });
            cells.evidence.push(SliceEvidence { slice, due, from, to });
        }
        for cells in tenants.values_mut() {
            cells.evidence.sort_unstable_by_key(|e| (e.due, e.slice));
        }
        Drained { tenants, by_profile }
    }
}

fn empty(due: Slice, slice: Slice) -> Cell {
    Cell {
        slice,
        due,
        series: 0,
        figures: Figures::default(),
        cohort: Cohort::default(),
        links: Vec::new(),
    }
}

/// Gives the series their places in the dictionary and sorts the cells.
fn sorted(profiles: &Profiles, tenant: TenantId, cells: Vec<(SeriesId, Cell)>) -> TenantCells {
    let mut ids: Vec<SeriesId> = cells.iter().map(|(series, _)| *series).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.sort_unstable_by(|a, b| {
        profiles.series(*a).dimensions.cmp(&profiles.series(*b).dimensions)
    });
    let places: HashMap<SeriesId, u32> =
        ids.iter().enumerate().map(|(place, id)| (*id, place as u32)).collect();
    let mut cells: Vec<Cell> =
        cells.into_iter().map(|(series, cell)| Cell { series: places[&series], ..cell }).collect();
    cells.sort_unstable_by_key(|cell| (cell.due, cell.slice, cell.series));
    TenantCells {
        tenant: profiles.tenant(tenant).clone(),
        series: ids.iter().map(|id| profiles.series(*id).dimensions.clone()).collect(),
        cells,
        evidence: Vec::new(),
    }
}
