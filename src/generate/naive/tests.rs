//! The definitions, sentence by sentence, on cases made by hand.
//!
//! A case is a list of events, `TIME TOUCHPOINT:ACTION [field=value …]`, the time as `90m`, `90m+1`
//! (one millisecond more) or `2h`. Everything is one customer's, on the channel `web`.

use super::*;
use crate::model::record::{CheckoutKind, CheckoutRecord};
use crate::model::time::{EventTime, Millis};

fn time(text: &str) -> EventTime {
    let (whole, more) = text.split_once('+').unwrap_or((text, "0"));
    let (number, unit) = whole.split_at(whole.len() - 1);
    let ms = match unit {
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        _ => panic!("unit of {text}"),
    };
    EventTime::from_ms(number.parse::<i64>().unwrap() * ms + more.parse::<i64>().unwrap())
}

fn show(at: EventTime) -> String {
    let ms = at.as_ms();
    let (whole, more) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let more = if more == 0 { String::new() } else { format!("+{more}") };
    match whole {
        s if s % 3_600 == 0 && s != 0 => format!("{}h{more}", s / 3_600),
        s if s % 60 == 0 => format!("{}m{more}", s / 60),
        s => format!("{s}s{more}"),
    }
}

fn event(n: usize, text: &str) -> Touchpoint {
    let mut words = text.split_whitespace();
    let at = time(words.next().unwrap());
    let (touchpoint, action) = words.next().unwrap().split_once(':').unwrap();
    let mut t = Touchpoint::new(&format!("e{n}"), "web", at, "web", touchpoint, action);
    t.customer_id = Some("c".into());
    for word in words {
        let (field, value) = word.split_once('=').unwrap();
        let text = Some(CompactString::from(value));
        match field {
            "checkout" => t.checkout_id = text,
            "order" => t.order_id = text,
            "cart" => t.cart_id = text,
            "value" => t.value = value.parse().ok(),
            "currency" => t.currency = text,
            "channel" => t.channel = value.into(),
            "session" => t.session_id = text,
            "customer" => t.customer_id = text.filter(|v| !v.is_empty()),
            "anonymous" => t.anonymous_id = text,
            "step" => t.step = value.parse().ok(),
            "id" => t.id = value.into(),
            "bot" => t.is_bot = true,
            "test" => t.is_test = true,
            _ => panic!("field {field}"),
        }
    }
    t
}

fn naive(settings: Settings, events: &str) -> Naive {
    let mut naive = Naive::new(settings);
    for (n, line) in events.split(';').map(str::trim).filter(|l| !l.is_empty()).enumerate() {
        let (line, late) = line.strip_suffix(" LATE").map_or((line, false), |l| (l, true));
        naive.add(&event(n, line), late);
    }
    naive
}

/// Life cycles as `started_at: transition@at …`, checkouts or carts, by start.
fn cycles(kind: CheckoutKind, events: &str) -> String {
    let (form, _) = naive(Settings::default(), events).finish();
    let mut all: Vec<&CheckoutRecord> = form.checkout_records().collect();
    all.retain(|r| r.kind == kind);
    all.sort_by_key(|r| (r.started_at, &r.instance, r.at, r.transition));
    let cycle = |records: &[&CheckoutRecord]| {
        let told: Vec<String> = records
            .iter()
            .map(|r| format!("{}@{}", format!("{:?}", r.transition).to_lowercase(), show(r.at)))
            .collect();
        format!("{}: {}", show(records[0].started_at), told.join(" "))
    };
    let cycles: Vec<String> = all.chunk_by(|a, b| a.instance == b.instance).map(cycle).collect();
    cycles.join("; ")
}

#[track_caller]
fn check(events: &str, expected: &str) {
    assert_eq!(cycles(CheckoutKind::Checkout, events), expected, "{events}");
}

#[track_caller]
fn check_cart(events: &str, expected: &str) {
    assert_eq!(cycles(CheckoutKind::Cart, events), expected, "{events}");
}

#[test]
fn a_deadline_is_inclusive_and_follows_activity() {
    check("0m checkout:start", "0m: started@0m abandoned@30m");
    check("0m checkout:start; 30m checkout:complete", "0m: started@0m completed@30m");
    check(
        "0m checkout:start; 30m+1 checkout:complete",
        "0m: started@0m abandoned@30m recovered@30m+1",
    );
    check("0m checkout:start; 20m checkout:step step=1", "0m: started@0m step@20m abandoned@50m");
    check("0m checkout:start; 20m payment:info", "0m: started@0m step@20m abandoned@50m");
    check("0m checkout:start; 20m payment:fail", "0m: started@0m paymentfailed@20m abandoned@50m");
    check("0m checkout:start; 20m product:view", "0m: started@0m abandoned@30m");
    // A source's own "abandoned" changes nothing.
    check("0m checkout:start; 5m checkout:abandon", "0m: started@0m abandoned@30m");
}

#[test]
fn order_of_arrival_does_not_matter() {
    check("10m checkout:complete; 0m checkout:start", "0m: started@0m completed@10m");
    // At one time the life cycle decides: start, step, completion.
    check(
        "0m checkout:complete; 0m checkout:step step=1; 0m checkout:start",
        "0m: started@0m step@0m completed@0m",
    );
}

#[test]
fn pending_waits_a_day_until_the_next_event() {
    check("0m checkout:start; 1m payment:pending", "0m: started@0m step@1m abandoned@1441m");
    check(
        "0m checkout:start checkout=a; 1m payment:pending checkout=a; 1441m checkout:complete checkout=a",
        "0m: started@0m step@1m completed@1441m",
    );
    check(
        "0m checkout:start; 1m payment:pending; 2m payment:fail",
        "0m: started@0m step@1m paymentfailed@2m abandoned@32m",
    );
}

#[test]
fn cancel_and_age_end_a_checkout_as_expired() {
    check("0m checkout:start; 5m checkout:cancel", "0m: started@0m expired@5m");
    check("0m checkout:start; 5m checkout:expire", "0m: started@0m expired@5m");
    check("5m checkout:cancel", "");
    // After abandonment a cancel changes nothing; after expiry a completion is a checkout of its own.
    check(
        "0m checkout:start checkout=a; 31m checkout:cancel checkout=a",
        "0m: started@0m abandoned@30m",
    );
    check(
        "0m checkout:start checkout=a; 5m checkout:cancel checkout=a; 6m checkout:complete checkout=a",
        "0m: started@0m expired@5m; 6m: completed@6m",
    );
    // The age counts from the start; abandonment wins a tie.
    check(
        "0m payment:pending checkout=a; 24h payment:pending checkout=a",
        "0m: started@0m step@24h abandoned@48h",
    );
    check(
        "0m payment:pending checkout=a; 23h payment:pending checkout=a; 46h payment:pending checkout=a",
        "0m: started@0m step@46h expired@48h",
    );
    check(
        "0m payment:pending checkout=a; 23h payment:pending checkout=a; 46h payment:pending checkout=a; \
           48h checkout:complete checkout=a",
        "0m: started@0m step@46h completed@48h",
    );
}

#[test]
fn value_0_is_not_abandonable_unknown_is() {
    check("0m checkout:start value=0", "0m: started@0m expired@48h");
    check(
        "0m checkout:start value=5; 1m checkout:step value=0 step=1",
        "0m: started@0m step@1m expired@48h",
    );
    check(
        "0m checkout:start value=0; 40m checkout:step value=7 step=1",
        "0m: started@0m step@40m abandoned@70m",
    );
    check("0m checkout:start value=5; 1m payment:info", "0m: started@0m step@1m abandoned@31m");
}

#[test]
fn recovery_ends_after_seven_days() {
    let after =
        |at: &str| format!("0m checkout:start checkout=a; {at} checkout:complete checkout=a");
    check(&after("10110m"), "0m: started@0m abandoned@30m recovered@10110m");
    check(&after("10110m+1"), "0m: started@0m abandoned@30m; 10110m+1: completed@10110m+1");
    // Activity after abandonment changes nothing.
    check(
        "0m checkout:start checkout=a; 40m checkout:step checkout=a; 41m checkout:complete checkout=a",
        "0m: started@0m abandoned@30m recovered@41m",
    );
    check(
        "0m checkout:start checkout=a; 40m checkout:start checkout=a",
        "0m: started@0m abandoned@30m",
    );
}

#[test]
fn starts_steps_and_completions_without_one_another() {
    check("5m checkout:complete", "5m: completed@5m");
    check("5m checkout:step step=2", "5m: started@5m step@5m abandoned@35m");
    // The first start event's time, else the first activity's.
    check("0m checkout:step step=1; 5m checkout:start", "5m: step@0m started@5m abandoned@35m");
    // A start later than its completion counts as started at its time.
    check(
        "0m checkout:complete checkout=a; 1m checkout:start checkout=a",
        "1m: completed@0m started@1m",
    );
}

#[test]
fn ids_correlate_across_sessions() {
    check(
        "0m checkout:start checkout=a; 25m checkout:step checkout=a cart=k; 50m checkout:complete cart=k order=o",
        "0m: started@0m step@25m completed@50m",
    );
    // Two checkouts at once, told apart by their ids.
    check(
        "0m checkout:start checkout=a; 1m checkout:start checkout=b; 2m checkout:complete checkout=a",
        "0m: started@0m completed@2m; 1m: started@1m abandoned@31m",
    );
    // A start after a completion that shares only the cart id begins a new one.
    check(
        "0m checkout:start checkout=a cart=k; 1m checkout:complete checkout=a cart=k; \
           2m checkout:start checkout=b cart=k; 3m checkout:complete checkout=b cart=k",
        "0m: started@0m completed@1m; 2m: started@2m completed@3m",
    );
}

#[test]
fn without_ids_the_session_then_the_customer_correlates() {
    // A start without keys while one is open in the session is activity of that one.
    check("0m checkout:start; 10m checkout:start", "0m: started@0m abandoned@40m");
    check("0m checkout:start checkout=a; 10m checkout:start", "0m: started@0m abandoned@40m");
    // After abandonment it opens a new one.
    check(
        "0m checkout:start; 20m page:view; 31m checkout:start",
        "0m: started@0m abandoned@30m; 31m: started@31m abandoned@61m",
    );
    // An order that names only itself joins what is open and has no order id.
    check(
        "0m checkout:start checkout=a; 1m checkout:complete order=o",
        "0m: started@0m completed@1m",
    );
    // Latest activity first.
    check(
        "0m checkout:start checkout=a; 1m checkout:start checkout=b; 2m checkout:complete order=o",
        "0m: started@0m abandoned@30m; 1m: started@1m completed@2m",
    );
    // What does not begin with a start looks among the customer's, also abandoned ones.
    check(
        "0m checkout:start checkout=a; 5h checkout:complete order=o",
        "0m: started@0m abandoned@30m recovered@5h",
    );
    check(
        "0m checkout:start checkout=a order=x; 5h checkout:complete order=o",
        "0m: started@0m abandoned@30m; 5h: completed@5h",
    );
    check(
        "0m checkout:start checkout=a; 1m payment:pending checkout=a; 5h checkout:complete",
        "0m: started@0m step@1m completed@5h",
    );
}

#[test]
fn carts_end_with_the_order_and_wait_for_checkouts() {
    check_cart("0m cart:add cart=k", "0m: started@0m abandoned@1h");
    check_cart("0m cart:add cart=k; 60m cart:view cart=k", "0m: started@0m abandoned@2h");
    check_cart("0m cart:add; 5m cart:add", "0m: started@0m abandoned@65m");
    check_cart("0m cart:add value=5; 1m cart:remove value=0", "0m: started@0m expired@48h");
    check_cart(
        "0m cart:add cart=k; 5m checkout:start cart=k; 6m checkout:complete cart=k",
        "0m: started@0m completed@6m",
    );
    // While a checkout of its ids or session is open it is not abandoned.
    check_cart(
        "0m cart:add cart=k; 5m checkout:start cart=k; 6m payment:pending cart=k; 20h checkout:complete cart=k",
        "0m: started@0m completed@20h",
    );
    check_cart(
        "0m cart:add; 10m page:view; 35m page:view; 50m checkout:start",
        "0m: started@0m abandoned@80m",
    );
    check_cart(
        "0m cart:add cart=k; 3h checkout:complete cart=k",
        "0m: started@0m abandoned@1h recovered@3h",
    );
    // By keys, else the open one of the session, else of the customer.
    check_cart(
        "0m cart:add cart=k; 1m cart:add; 2m cart:add cart=l; 3m checkout:complete cart=k",
        "0m: started@0m completed@3m; 2m: started@2m abandoned@62m",
    );
    check_cart("0m cart:add; 40m checkout:complete order=o", "0m: started@0m completed@40m");
    check_cart("0m cart:add cart=k; 1m checkout:complete cart=l", "0m: started@0m abandoned@1h");
    // What comes after the order is a new cart.
    check_cart(
        "0m cart:add cart=k; 1m checkout:complete cart=k; 2m cart:add cart=k",
        "0m: started@0m completed@1m; 2m: started@2m abandoned@62m",
    );
    // Cart activity does not prolong a checkout.
    check("0m checkout:start cart=k; 20m cart:add cart=k", "0m: started@0m abandoned@30m");
}

/// Sessions as `start..end events engaged converted value`.
#[track_caller]
fn check_sessions(settings: Settings, events: &str, expected: &str) {
    let (form, _) = naive(settings, events).finish();
    let mut all: Vec<_> = form.session_records().collect();
    all.sort_by_key(|s| s.start);
    let told: Vec<String> = all
        .iter()
        .map(|s| {
            let flag = |on, word| if on { word } else { "" };
            let value: Vec<String> = s.value.iter().map(|(c, v)| format!(" {v}{c}")).collect();
            format!(
                "{}..{} {}{}{}{}",
                show(s.start),
                show(s.end),
                s.events,
                flag(s.engaged, " engaged"),
                flag(s.converted, " converted"),
                value.concat(),
            )
        })
        .collect();
    assert_eq!(told.join("; "), expected, "{events}");
}

#[test]
fn sessions_are_cut_at_pauses_longer_than_the_gap() {
    let check = |events, expected| check_sessions(Settings::default(), events, expected);
    check("0m page:view; 30m page:click", "0m..30m 2 engaged");
    check("0m page:view; 30m+1 page:click", "0m..0m 1; 30m+1..30m+1 1");
    check("40m page:click; 0m page:view; 20m page:click", "0m..40m 3 engaged");
    check("0m page:click; 9s page:click", "0m..9s 2");
    check("0m page:click; 10s page:click", "0m..10s 2 engaged");
    check("0m page:view; 1s list:view", "0m..1s 2 engaged");
    check("0m store_purchase:complete value=5", "0m..0m 1 engaged converted 5XXX");
    check(
        "0m checkout:complete order=o value=5 currency=EUR; 1s checkout:complete order=o value=5 currency=EUR",
        "0m..1s 2 engaged converted 5EUR",
    );
    check(
        "0m checkout:complete value=5; 1s checkout:complete value=7; 2s store_purchase:complete",
        "0m..2s 3 engaged converted 12XXX",
    );
    check(
        "0m checkout:start checkout=a; 1s checkout:complete checkout=a; 2s checkout:complete checkout=a value=7",
        "0m..2s 3 engaged converted",
    );

    let by_channel = Settings {
        session_gaps: [("email".into(), Millis::from_mins(5))].into(),
        ..Settings::default()
    };
    // The earlier event's channel says the gap.
    check_sessions(
        by_channel.clone(),
        "0m page:view channel=email; 6m page:view",
        "0m..0m 1; 6m..6m 1",
    );
    check_sessions(by_channel, "0m page:view; 6m page:view channel=email", "0m..6m 2 engaged");
    let by_source = Settings { sessions_by_source: true, ..Settings::default() };
    check_sessions(
        by_source,
        "0m a:b session=x; 2h a:b session=x; 1h a:b; 61m a:b session=y",
        "0m..2h 2 engaged; 1h..1h 1; 61m..61m 1",
    );
}

/// One window of the total, as `events customers sessions engaged orders | started completed abandoned
/// recovered | cohort started abandoned expired unique`.
#[track_caller]
fn check_window(length: Millis, start: &str, events: &str, expected: &str) {
    let settings = Settings { windows: vec![length], ..Settings::default() };
    let (form, _) = naive(settings, events).finish();
    let window = form.window_records().find(|w| w.dimensions.is_empty() && w.start == time(start));
    let told = window.map_or("none".into(), |w| {
        let a = &w.abandonment;
        format!(
            "{} {} {} {} {} | {} {} {} {} | {} {} {} {}",
            w.events,
            w.customers,
            w.sessions,
            w.engaged_sessions,
            w.orders,
            w.checkouts_started,
            w.checkouts_completed,
            w.checkouts_abandoned,
            w.checkouts_recovered,
            a.started,
            a.abandoned,
            a.expired,
            a.unique_abandoners,
        )
    });
    assert_eq!(told, expected, "{events}");
}

#[test]
fn counts_belong_to_the_window_of_what_made_them_true() {
    let hour = Millis::from_hours(1);
    let two =
        "0m page:view; 1m page:view customer=d; 2m page:view customer=d; 3m page:view customer=";
    check_window(hour, "0h", two, "4 2 2 1 0 | 0 0 0 0 | 0 0 0 0");
    check_window(hour, "1h", two, "none");
    let left = "50m checkout:start checkout=a; 3h checkout:complete checkout=a";
    check_window(hour, "0h", left, "1 1 1 0 0 | 1 0 0 0 | 1 1 0 1");
    check_window(hour, "1h", left, "0 0 0 0 0 | 0 0 1 0 | 0 0 0 0");
    check_window(hour, "3h", left, "1 1 1 1 1 | 0 0 0 1 | 0 0 0 0");
    check_window(hour, "0h", "0m checkout:complete", "1 1 1 1 1 | 0 1 0 0 | 0 0 0 0");
    check_window(
        hour,
        "0h",
        "0m checkout:start; 59m+59999 page:view; 60m page:view",
        "2 1 2 0 0 | 1 0 1 0 | 1 1 0 1",
    );
}

#[test]
fn one_customers_abandonments_within_a_day_are_one() {
    let day = Millis::from_hours(24 * 30);
    let unique = |times: &[&str], n: u32| {
        let events: Vec<String> =
            times.iter().map(|t| format!("{t} checkout:start checkout=x{t}")).collect();
        let (all, events) = (times.len(), events.join(";"));
        check_window(
            day,
            "0h",
            &events,
            &format!("{all} 1 {all} 0 0 | {all} 0 {all} 0 | {all} {all} 0 {n}"),
        );
    };
    unique(&["0m", "24h"], 1);
    unique(&["0m", "24h+1"], 2);
    // From the first of the run, not from the last.
    unique(&["0m", "20h", "40h"], 2);
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let events = "0m page:view id=1; 1m page:view id=1; 2m page:view bot=1; 3m page:view test=1; \
        4m identity:identify; 5m page:view LATE; 6m page:view customer=guest; \
        7m page:view customer= id=9; 7m page:view customer= id=9; 8m a:b customer=null anonymous=x";
    let mut model = naive(Settings::default(), events);
    model.add_poison();
    let (form, s) = model.finish();
    let told = [s.events_in, s.counted, s.duplicate, s.late, s.dead_letter, s.filtered];
    assert_eq!(told, [11, 5, 1, 1, 1, 3]);
    assert_eq!((s.sessions, form.session_records().count()), (1, 1));
}
