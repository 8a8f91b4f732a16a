//! What the fold asks of the allocator.

use super::*;

const CUSTOMERS: usize = 2_000;

/// Views of customers in turn, one every 10 ms: all of them are in the middle of a session.
fn views(n: usize) -> Vec<Touchpoint> {
    let line = |i: usize| {
        let seconds = i as f64 / 100.0;
        let at = format!("{}:{:.3}", (seconds / 60.0) as i64, seconds % 60.0);
        format!("{at} page.view c=c{}", i % CUSTOMERS)
    };
    (0..n).map(|i| parse(i, &line(i))).collect()
}

/// Once customers, series and windows are there, an event takes the room that it is kept in, and that
/// grows by many at once; a flush takes some, however many events it tells of.
#[test]
fn hardly_any_event_allocates_once_customers_are_known() {
    let all = views(40_000);
    let views: Vec<_> = all.iter().map(Touchpoint::view).collect();
    let mut journey = Journey::new(Settings { flush_records: u64::MAX, ..disordered(1_000) });
    let mut out = Vec::with_capacity(1 << 16);
    let mut feed = |range: std::ops::Range<usize>| {
        for (place, touchpoint) in views[range.clone()].iter().enumerate() {
            let offset = Offset::new((range.start + place) as i64);
            let (key, value) = (&b"key"[..], &b"value"[..]);
            let input = Input::Touchpoint { offset, origin: None, touchpoint, key, value };
            journey.fold(input, &mut out);
        }
    };
    feed(0..20_000);
    let told = allocation_counter::measure(|| feed(20_000..40_000));
    assert!(told.count_total < 20_000 / 3, "{told:?}");
}
