//! Customers with very many events: bots, kiosks, an id that everybody uses.

use super::*;
use touchline::engine::state::{Checkpointed, Entry};
use touchline::model::record::Transition;

/// Less than a broker takes as one record (`message.max.bytes`, 1 MiB less the frame).
const RECORD_MAX: usize = 1_000_000;
/// Events that are kept of one customer.
const KEPT_MAX: usize = 32_768;

/// 40 events a second of one customer: views, a cart that is filled, a checkout now and then.
fn events(n: usize) -> Vec<Touchpoint> {
    let line = |i: usize| {
        let seconds = i as f64 / 40.0;
        let at = format!("{}:{:.3}", (seconds / 60.0) as i64, seconds % 60.0);
        match i % 1_000 {
            1 => format!("{at} checkout.start checkout=k{i} value=500"),
            2 => format!("{at} checkout.step"),
            3 => format!("{at} checkout.complete order=o{i} value=500"),
            m if m % 12 == 5 => format!("{at} cart.add value=5"),
            _ => format!("{at} page.view"),
        }
    };
    (0..n).map(|i| parse(i, &line(i))).collect()
}

fn taken(journey: &mut Journey) -> Vec<Entry> {
    let mut entries = Vec::new();
    journey.take_dirty(&mut entries);
    entries
}

#[test]
fn one_with_very_many_events_fits_into_a_record() {
    let all = events(100_000);
    let (first, rest) = all.split_at(90_000);
    let mut journey = Journey::new(disordered(30_000));
    let mut said = feed(&mut journey, 0, first);
    let entries = taken(&mut journey);
    let largest = entries.iter().filter_map(|e| e.value.as_ref()).map(Vec::len).max().unwrap();
    assert!((200_000..RECORD_MAX).contains(&largest), "{largest} bytes");
    // What was written down goes on as what has stayed.
    let mut again = Journey::new(disordered(30_000));
    for Entry { key, value } in &entries {
        again.restore(key, value.as_deref()).unwrap();
    }
    again.restored().unwrap();
    let more = feed(&mut journey, first.len(), rest);
    assert_eq!(feed(&mut again, first.len(), rest), more);
    assert_eq!(taken(&mut again), taken(&mut journey));
    said.extend(more);
    // Nobody else's events would be too late yet; its own of before those that are kept are.
    let of_second =
        |i: usize| time(&format!("{}:{:.3}", i / 40 / 60, (i / 40 % 60) as f64 + 0.011));
    let [old, recent] = [10_000, all.len() - KEPT_MAX / 2].map(|i| {
        let mut event = parse(all.len() + i, "0 page.view");
        event.event_time = of_second(i);
        event
    });
    let mut other = old.clone();
    (other.id, other.customer_id) = ("other".into(), Some("d".into()));
    said.extend(feed(&mut journey, all.len(), &[old, recent, other]));
    journey.fold(Input::Close, &mut said);
    let expected = Tally { all: 100_003, duplicate: 0, late: 1, filtered: 0, counted: 100_002 };
    assert_eq!(tally(&said), expected);
    let sessions: Vec<i64> = sessions(&said).iter().map(|s| s.events).collect();
    assert_eq!(sessions.iter().max(), Some(&100_001), "{sessions:?}");
}

#[test]
fn one_with_very_many_events_is_known_again() {
    let mut all = events(40_000);
    let again: Vec<Touchpoint> = all[39_950..].to_vec();
    all.extend(again);
    let out = fold_all(disordered(30_000), &all, true);
    let expected = Tally { all: 40_050, duplicate: 50, late: 0, filtered: 0, counted: 40_000 };
    assert_eq!(tally(&out), expected);
}

/// However many carts it fills meanwhile: all its checkouts are said and counted, each once.
#[test]
fn checkouts_of_one_with_very_many_events_are_all_said() {
    let out = fold_all(disordered(30_000), &events(60_000), true);
    let of = |transition| {
        let all = checkouts(&out);
        let is =
            |c: &&&CheckoutRecord| c.kind == CheckoutKind::Checkout && c.transition == transition;
        all.iter().filter(is).count()
    };
    use Transition::{Abandoned, Completed, Expired, Retracted, Started, Step};
    assert_eq!([Started, Step, Completed].map(of), [60, 60, 60]);
    assert_eq!([Abandoned, Expired, Retracted].map(of), [0, 0, 0]);
    assert_eq!(totals(&out).0.orders, 60);
}
