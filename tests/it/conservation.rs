//! Nothing disappears: both sums, counted in what the topics hold rather than in what was noted down.

use crate::offline::{generated, lines, plan, replayed, replayed_as};
use std::path::Path;
use tempfile::TempDir;
use touchline::generate::Scenario;

/// Events of the last revisions of all windows of a minute, in total: each is in one of them.
fn counted(out: &Path) -> u64 {
    let mut events = std::collections::BTreeMap::new();
    for line in lines(&out.join("engagement.channel_stage.jsonl")) {
        let row: serde_json::Value = serde_json::from_str(&line).unwrap();
        if row["window"] == "1m" && row["dimensions"].as_object().unwrap().is_empty() {
            let key = (row["tenant"].as_str().unwrap().to_owned(), row["start"].as_i64().unwrap());
            events.insert(key, row["events"].as_u64().unwrap());
        }
    }
    events.values().sum()
}

/// `events_in = counted + duplicate + late + dead_letter + filtered`.
#[test]
fn every_touchpoint_ends_in_one_of_five_ways() {
    let dir = TempDir::new().unwrap();
    let (input, truth) = generated(dir.path(), &plan(Scenario::ShopLate, 5, 20_000, 1.0));
    for partitions in [1, 8] {
        let out = dir.path().join(format!("out-{partitions}"));
        let summary = replayed(&input, &out, partitions, false);
        assert_eq!(summary.events_in, lines(&input).len() as u64);
        assert_eq!(summary.counted, counted(&out));
        assert_eq!(summary.late, lines(&out.join("touchpoints.late.jsonl")).len() as u64);
        assert_eq!(
            summary.dead_letter,
            lines(&out.join("touchpoints.rejected.jsonl")).len() as u64
        );
        assert_eq!(
            (summary.duplicate, summary.filtered),
            (truth.truth.duplicate, truth.truth.filtered)
        );
        let rest = summary.duplicate + summary.filtered;
        assert_eq!(summary.events_in, summary.counted + summary.late + summary.dead_letter + rest);
        assert!(summary.late > 0 && summary.dead_letter > 0 && rest > 0, "{summary:?}");
    }
}

/// `records_in = mapped + dead_letter + filtered`, through the ingest of a source, with what a source
/// may send besides objects.
#[test]
fn every_record_of_a_source_is_mapped_rejected_or_filtered() {
    let dir = TempDir::new().unwrap();
    let (file, truth) = generated(dir.path(), &plan(Scenario::Shop, 6, 10_000, 1.0));
    let mut text = String::new();
    let (mut tombstones, mut offset) = (0, 0);
    let mut record = |value: serde_json::Value| {
        let line = serde_json::json!({
            "topic": "shop", "partition": 0, "offset": offset, "timestamp": 1_772_431_200_000_i64,
            "key": null, "headers": {}, "value": value,
        });
        offset += 1;
        text += &(line.to_string() + "\n");
    };
    for (number, line) in lines(&file).iter().enumerate() {
        record(line.as_str().into());
        if number % 500 == 0 {
            record(serde_json::Value::Null);
            tombstones += 1;
        }
    }
    let input = dir.path().join("recorded");
    std::fs::write(&input, text).unwrap();
    let out = dir.path().join("out");
    let summary = replayed_as(Some("shop"), &input, &out, 4, false);
    assert_eq!(summary.events_in, truth.records + tombstones);
    assert_eq!(summary.filtered, truth.truth.filtered + tombstones);
    assert_eq!(summary.dead_letter, lines(&out.join("touchpoints.rejected.jsonl")).len() as u64);
    assert_eq!(summary.dead_letter, truth.truth.dead_letter);
    // Each of the others is a touchpoint: counted, a repeat, or late.
    let mapped = summary.events_in - summary.dead_letter - summary.filtered;
    assert_eq!(mapped, counted(&out) + summary.duplicate + summary.late);
    assert_eq!(summary.duplicate, truth.truth.duplicate);
}
