//! Exact distinct customers: links between the slices that a customer visited, by series.
//!
//! A newly visited slice v between the neighbours u and w (either may be absent) sends +(u→v), and,
//! if w exists, −(u→w) and +(v→w). The neighbours are found among the customer's stored events,
//! which reach back to the lateness floor at least; below them, one slice per series is remembered.
//!
//! An event that comes after all others has no w, and its u is the slice visited last: that is kept
//! by series, too ([`Tips`]), so that nearly all events need no other event to be looked at.

use super::context::Context;
use super::customer::Stored;
use super::profile::SeriesId;
use crate::model::time::Slice;
use serde::{Deserialize, Serialize};

/// The greatest slice visited below the stored events, by series, in no order.
pub(super) type Marks = Vec<Mark>;

/// The slice visited last, by series, in no order: follows from marks and stored events, and is made
/// again from these whenever it is empty.
pub(super) type Tips = Vec<Mark>;

/// A series and a slice in 8 bytes: the names of 2^24 series would not fit into memory anyway, and
/// 2^39 slices of 10 ms are 174 years.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Mark(i64);

impl Mark {
    fn new(series: SeriesId, slice: Slice) -> Mark {
        Mark(slice.number() << 24 | i64::from(series & 0xFF_FFFF))
    }

    fn series(self) -> SeriesId {
        (self.0 & 0xFF_FFFF) as SeriesId
    }

    pub(super) fn slice(self) -> Slice {
        Slice::from_number(self.0 >> 24)
    }
}

/// A series that an event belongs to, and the slices visited before and after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbours {
    series: SeriesId,
    before: Option<Slice>,
    after: Option<Slice>,
}

/// Sends the links that follow from `events[at]`, which has just been stored.
pub(super) fn visit(events: &[Stored], at: usize, marks: &Marks, ctx: &mut Context<'_>) {
    let event = &events[at];
    let slice = ctx.grid.slice(event.time);
    let mut all = std::mem::take(ctx.neighbours);
    all.clear();
    let of_event = ctx.profiles.get(event.profile).series.iter();
    all.extend(of_event.map(|series| Neighbours { series: *series, before: None, after: None }));
    find(event, events[..at].iter().rev(), &mut all, |n| &mut n.before, ctx);
    find(event, events[at + 1..].iter(), &mut all, |n| &mut n.after, ctx);
    for Neighbours { series, before, after } in &all {
        let mark = || marks.iter().find(|m| m.series() == *series).map(|m| m.slice());
        let before = before.or_else(mark);
        if before == Some(slice) || *after == Some(slice) {
            continue;
        }
        send(ctx, *series, before, slice, 1);
        if let Some(after) = *after {
            send(ctx, *series, before, after, -1);
            send(ctx, *series, Some(slice), after, 1);
        }
    }
    *ctx.neighbours = all;
}

/// Sends the links that follow from an event that comes after all others. `tips` are of the time
/// before it, and move on.
pub(super) fn visit_last(event: &Stored, tips: &mut Tips, ctx: &mut Context<'_>) {
    let slice = ctx.grid.slice(event.time);
    let profiles = ctx.profiles;
    for series in &profiles.get(event.profile).series {
        match tips.iter_mut().find(|tip| tip.series() == *series) {
            Some(tip) if tip.slice() == slice => {}
            Some(tip) => {
                let before = std::mem::replace(tip, Mark::new(*series, slice));
                send(ctx, *series, Some(before.slice()), slice, 1);
            }
            None => {
                tips.reserve_exact(1);
                tips.push(Mark::new(*series, slice));
                send(ctx, *series, None, slice, 1);
            }
        }
    }
}

/// The slice visited last, by series.
pub(super) fn tips(marks: &Marks, events: &[Stored], ctx: &Context<'_>) -> Tips {
    let mut tips = marks.clone();
    for event in events {
        remember(event, &mut tips, ctx);
    }
    tips
}

/// Finds for each series the first of `others`, the nearest first, that belongs to it.
fn find<'e>(
    event: &Stored,
    others: impl Iterator<Item = &'e Stored>,
    all: &mut [Neighbours],
    side: impl Fn(&mut Neighbours) -> &mut Option<Slice>,
    ctx: &Context<'_>,
) {
    let mut missing = all.len();
    for other in others {
        if missing == 0 {
            return;
        }
        let same = other.profile == event.profile;
        let theirs = &ctx.profiles.get(other.profile).series;
        for neighbours in all.iter_mut() {
            let series = neighbours.series;
            let found = side(neighbours);
            if found.is_none() && (same || theirs.contains(&series)) {
                *found = Some(ctx.grid.slice(other.time));
                missing -= 1;
            }
        }
    }
}

/// Remembers the slice of an event that is about to be forgotten.
pub(super) fn remember(event: &Stored, marks: &mut Marks, ctx: &Context<'_>) {
    let slice = ctx.grid.slice(event.time);
    for series in &ctx.profiles.get(event.profile).series {
        match marks.iter_mut().find(|m| m.series() == *series) {
            Some(mark) => *mark = Mark::new(*series, slice.max(mark.slice())),
            None => {
                marks.reserve_exact(1);
                marks.push(Mark::new(*series, slice));
            }
        }
    }
}

/// Forgets slices that no event that is not too late can link to.
pub(super) fn forget(marks: &mut Marks, ctx: &Context<'_>) {
    let horizon = ctx.grid.slice(ctx.floor().minus(ctx.settings.longest_window));
    marks.retain(|m| m.slice() >= horizon);
    marks.shrink_to_fit();
}

fn send(ctx: &mut Context<'_>, series: SeriesId, from: Option<Slice>, to: Slice, n: i32) {
    let reach = ctx.grid.count(ctx.settings.longest_window);
    let back = from
        .map(|from| to.number() - from.number())
        .filter(|back| *back < reach)
        .and_then(|back| u32::try_from(back).ok())
        .unwrap_or(0);
    ctx.partials.link(ctx.slice, to, series, back, n);
}
