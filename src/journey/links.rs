//! Exact distinct customers: links between the slices that a customer visited, by series.
//!
//! A newly visited slice v between the neighbours u and w (either may be absent) sends +(u→v), and,
//! if w exists, −(u→w) and +(v→w). The neighbours are found among the customer's stored events,
//! which reach back to the lateness floor at least; below them, one slice per series is remembered.

use super::context::Context;
use super::customer::Stored;
use super::profile::SeriesId;
use crate::model::time::Slice;
use serde::{Deserialize, Serialize};

/// The greatest slice visited below the stored events, by series, in no order.
pub(super) type Marks = Vec<Mark>;

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

/// Sends the links that follow from `events[at]`, which has just been stored.
pub(super) fn visit(events: &[Stored], at: usize, marks: &Marks, ctx: &mut Context<'_>) {
    let profiles = ctx.profiles;
    let event = &events[at];
    let slice = ctx.grid.slice(event.time);
    for series in &profiles.get(event.profile).series {
        let visits = |other: &&Stored| {
            other.profile == event.profile || profiles.get(other.profile).series.contains(series)
        };
        let slice_of = |other: &Stored| ctx.grid.slice(other.time);
        let mark = || marks.iter().find(|m| m.series() == *series).map(|m| m.slice());
        let before = events[..at].iter().rev().find(visits).map(slice_of).or_else(mark);
        let after = events[at + 1..].iter().find(visits).map(slice_of);
        if before == Some(slice) || after == Some(slice) {
            continue;
        }
        send(ctx, *series, before, slice, 1);
        if let Some(after) = after {
            send(ctx, *series, before, after, -1);
            send(ctx, *series, Some(slice), after, 1);
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
    ctx.partials.link(ctx.clock_slice(), to, series, back, n);
}
