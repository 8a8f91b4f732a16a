//! Which revisions stay, and which rows.

use super::*;
use crate::model::record::{SCHEMA_VERSION, SessionStatus};

fn checkout(instance: &str, revision: i64, transition: Transition, at: i64) -> CheckoutRecord {
    CheckoutRecord {
        schema_version: SCHEMA_VERSION,
        id: "".into(),
        tenant: "t".into(),
        customer: "c".into(),
        instance: instance.into(),
        kind: CheckoutKind::Checkout,
        transition,
        revision,
        at: EventTime::from_ms(at),
        decided_at: EventTime::from_ms(at + revision),
        started_at: EventTime::from_ms(revision),
        last_activity: EventTime::from_ms(at),
        step: None,
        step_name: None,
        channel: "web".into(),
        value: None,
        currency: None,
        payment_method: None,
        shipping_method: None,
        coupon: None,
        account_type: None,
        error_code: None,
        correlated_by: "session".into(),
        merged_into: None,
    }
}

/// Rows of one instance's records, given as (transition, at) in order, as `transition@at` and the
/// `started_at` that all have.
#[track_caller]
fn check(records: &[(Transition, i64)], expected: &str) {
    let mut form = FinalForm::new();
    for (revision, (transition, at)) in (0..).zip(records) {
        form.add_checkout(&checkout("i", revision, *transition, *at));
    }
    let rows: Vec<serde_json::Value> =
        form.checkout_rows().iter().map(|r| serde_json::from_str(r).unwrap()).collect();
    let told: Vec<String> = rows
        .iter()
        .map(|r| format!("{}@{}/{}", r["transition"].as_str().unwrap(), r["at"], r["started_at"]))
        .collect();
    assert_eq!(told.join(" "), expected);
}

#[test]
fn the_last_record_of_a_transition_stays() {
    use Transition::{Abandoned, Completed, Recovered, Retracted, Started, Step};
    check(&[(Started, 0), (Step, 2), (Completed, 9)], "started@0/2 step@2/2 completed@9/2");
    // A step that came late does not replace a later one; a start that came late does.
    check(&[(Started, 1), (Step, 5), (Step, 3), (Started, 0)], "started@0/3 step@5/3");
    // What was taken back is gone, what came after it stays.
    check(&[(Started, 0), (Abandoned, 30), (Retracted, 20)], "started@0/2");
    check(
        &[(Started, 0), (Abandoned, 30), (Retracted, 20), (Completed, 20)],
        "started@0/3 completed@20/3",
    );
    check(
        &[(Started, 0), (Abandoned, 30), (Retracted, 35), (Abandoned, 35), (Recovered, 40)],
        "started@0/4 abandoned@35/4 recovered@40/4",
    );
    // The last outcome stands, whatever was said before it.
    check(&[(Started, 0), (Completed, 20), (Abandoned, 30)], "started@0/2 abandoned@30/2");
    check(&[(Abandoned, 30), (Recovered, 40), (Retracted, 30), (Abandoned, 30)], "abandoned@30/3");
}

#[test]
fn merged_instances_and_sessions_are_gone() {
    let mut form = FinalForm::new();
    form.add_checkout(&checkout("i", 0, Transition::Started, 0));
    let merged = CheckoutRecord {
        merged_into: Some("j".into()),
        ..checkout("i", 1, Transition::Expired, 0)
    };
    form.add_checkout(&merged);
    assert_eq!(form.checkout_rows(), Vec::<String>::new());

    let session = SessionRecord {
        schema_version: SCHEMA_VERSION,
        id: "".into(),
        tenant: "t".into(),
        customer: "c".into(),
        session_id: "s".into(),
        status: SessionStatus::Closed,
        merged_into: None,
        start: EventTime::from_ms(0),
        end: EventTime::from_ms(0),
        events: 1,
        channels: vec!["web".into(), "email".into()],
        entry_channel: "web".into(),
        stage_reached: "other".into(),
        path: Vec::new(),
        path_truncated: false,
        engaged: false,
        converted: false,
        value: [("EUR".into(), i128::from(i64::MAX) * 4)].into(),
        revision: 1,
        is_final: true,
    };
    form.add_session(&session);
    // An older revision that comes later changes nothing.
    form.add_session(&SessionRecord { events: 7, revision: 0, ..session.clone() });
    let rows = form.session_rows();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains(r#""events":1,"channels":["email","web"]"#), "{}", rows[0]);
    assert!(rows[0].contains(r#""EUR":36893488147419103228"#), "{}", rows[0]);
    let merged = Some("r".into());
    form.add_session(&SessionRecord { merged_into: merged, revision: 2, ..session });
    assert_eq!(form.session_rows(), Vec::<String>::new());
}

#[test]
fn windows_of_zeros_are_left_out_and_the_rest_is_sorted() {
    let window = |start: i64, length: i64, events, revision| WindowRecord {
        schema_version: SCHEMA_VERSION,
        id: "".into(),
        tenant: "t".into(),
        window: window_name(Millis::from_mins(length)),
        start: EventTime::from_ms(start),
        end: EventTime::from_ms(start + 60_000 * length),
        dimensions: BTreeMap::new(),
        events,
        customers: 0,
        sessions: 0,
        engaged_sessions: 0,
        orders: 0,
        value: Value::new(),
        checkouts_started: 0,
        checkouts_completed: 0,
        checkouts_abandoned: 0,
        checkouts_recovered: 0,
        abandonment: Abandonment::default(),
        revision,
        is_final: true,
        completeness: 0.5,
    };
    let mut form = FinalForm::new();
    for record in [
        window(0, 5, 3, 0),
        window(60_000, 1, 1, 0),
        window(0, 1, 1, 0),
        window(0, 1, 2, 1),
        window(120_000, 1, 0, 0),
        window(180_000, 1, 4, 0),
        window(180_000, 1, 0, 1),
    ] {
        form.add_window(&record);
    }
    let dir = tempfile::tempdir().unwrap();
    form.add_late("t", None, "1", EventTime::from_ms(5));
    form.write(dir.path(), &FinalSummary::default()).unwrap();
    let text = fs::read_to_string(dir.path().join(FILES[2])).unwrap();
    let told: Vec<String> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .map(|r| format!("{} {} {}", r["window"].as_str().unwrap(), r["start"], r["events"]))
        .collect();
    assert_eq!(told, ["1m 0 2", "1m 60000 1", "5m 0 3"]);
    let late = fs::read_to_string(dir.path().join(FILES[3])).unwrap();
    assert_eq!(late, "{\"tenant\":\"t\",\"customer\":null,\"id\":\"1\",\"event_time\":5}\n");
}
