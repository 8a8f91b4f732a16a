use super::*;
use crate::model::record::Abandonment;

fn window(start_min: i64, channel: &str, abandoned: i64, mature: bool) -> Update {
    let start = EventTime::from_ms(start_min * 60_000);
    Update::Window(Box::new(WindowRecord {
        schema_version: 1,
        id: "id".into(),
        tenant: "default".into(),
        window: "5m".into(),
        start,
        end: EventTime::from_ms((start_min + 5) * 60_000),
        dimensions: [("channel".into(), channel.into())].into(),
        events: 1,
        customers: 1,
        sessions: 1,
        engaged_sessions: 0,
        orders: 0,
        value: BTreeMap::new(),
        checkouts_started: 10,
        checkouts_completed: 0,
        checkouts_abandoned: 0,
        checkouts_recovered: 0,
        abandonment: Abandonment { started: 10, abandoned, mature, ..Abandonment::default() },
        revision: 0,
        is_final: false,
        completeness: 1.0,
    }))
}

#[test]
fn a_revision_takes_the_place_of_the_one_before() {
    let view = View::default();
    view.apply(window(5, "web", 1, false));
    view.apply(window(0, "web", 2, false));
    view.apply(window(5, "web", 3, true));
    let got: Vec<i64> = view.windows(|_| true).iter().map(|w| w.abandonment.abandoned).collect();
    assert_eq!(got, [2, 3]);
}

#[test]
fn the_ratio_is_of_the_latest_mature_cohort() {
    let (view, metrics) = (View::default(), Metrics::new());
    view.apply(window(0, "web", 3, true));
    view.apply(window(5, "web", 9, false));
    view.export(&metrics);
    let expected = "touchline_checkout_abandonment_ratio{channel=\"web\",window=\"5m\"} 0.3\n";
    assert!(metrics.text().contains(expected), "{}", metrics.text());
}
