//! What `generate` writes, that the folds make of it what the naive model says, and that the
//! consumer's view finds every kind of fault.

use crate::offline::{
    assert_same, generated, generated_under, lines, plan, replayed, replayed_under, settings_with,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use touchline::generate::{Plan, Scenario, Settings, Summary, write_files};

fn generate(dir: &Path, name: &str, scenario: Scenario, events: u64) -> (PathBuf, Summary) {
    let out = dir.join(name);
    // One a second, so that few events span the faults.
    let plan = Plan { events: Some(events), rate: 1.0, ..Plan::new(scenario, 11) };
    let summary = write_files(&plan, Settings::default(), &out, |_| {}).unwrap();
    (out, summary)
}

#[test]
fn files_are_the_same_twice_and_add_up() {
    let dir = TempDir::new().unwrap();
    let (a, summary) = generate(dir.path(), "a", Scenario::ShopLate, 30_000);
    let (b, again) = generate(dir.path(), "b", Scenario::ShopLate, 30_000);
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(summary.truth, again.truth);
    let mut files = Vec::new();
    for entry in fs::read_dir(&summary.truth_dir).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |s: &Summary| fs::read(s.truth_dir.join(&name)).unwrap();
        assert_eq!(read(&summary), read(&again), "{name:?}");
        files.push(name.into_string().unwrap());
    }
    files.sort();
    assert_eq!(
        files,
        [
            "checkout.lifecycle.jsonl",
            "engagement.channel_stage.jsonl",
            "journeys.sessions.jsonl",
            "summary.json",
            "touchpoints.late.jsonl"
        ]
    );
    let s = summary.truth;
    assert_eq!(lines(&a).len() as u64, s.events_in);
    assert_eq!(s.events_in, s.counted + s.duplicate + s.late + s.dead_letter + s.filtered);
    assert_eq!(s.events_in, summary.records);
    // A repeat of what is filtered is filtered.
    let known = s.counted + s.late + s.filtered;
    assert!((30_000..30_000 + s.filtered / 10).contains(&known), "{s:?}");
    assert!(s.late > 0 && s.duplicate > 0 && s.dead_letter > 0 && s.filtered > 0);
    assert_eq!(lines(&summary.truth_dir.join("touchpoints.late.jsonl")).len() as u64, s.late);
    assert_eq!(lines(&summary.truth_dir.join("journeys.sessions.jsonl")).len() as i64, s.sessions);
}

#[test]
fn labels_say_what_was_injected() {
    let dir = TempDir::new().unwrap();
    let (_, short) = generate(dir.path(), "short", Scenario::Spike, 1_000);
    assert_eq!(lines(&short.labels_file).len(), 0, "the fault comes after the end");
    let (_, summary) = generate(dir.path(), "long", Scenario::Spike, 35_000);
    let labels = lines(&summary.labels_file);
    let label: serde_json::Value = serde_json::from_str(&labels[0]).unwrap();
    assert_eq!(labels.len(), 1);
    assert_eq!(label["kind"], "payment_broken");
    assert_eq!(label["alert"], "CheckoutAbandonmentSpike");
    assert!(label["dimensions"]["channel"].is_string());
    let long = label["to"].as_i64().unwrap() - label["from"].as_i64().unwrap();
    assert!((45 * 60_000..=60 * 60_000).contains(&long));
}

#[test]
fn the_oracle_shares_nothing_with_the_folds() {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generate"), &mut files);
    assert!(files.len() > 10);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for module in ["journey", "rollup", "engine", "ingest"] {
            assert!(!text.contains(&format!("crate::{module}")), "{file:?} imports {module}");
        }
    }
}

#[test]
fn endless_traffic_is_refused() {
    let plan = Plan::new(Scenario::Shop, 1);
    assert!(write_files(&plan, Settings::default(), Path::new("never"), |_| {}).is_err());
}

/// Turns a truth into what a replay with all revisions might have said: one revision each.
fn outputs_of(truth: &Path, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for name in touchline::generate::final_form::FILES {
        let mut revisions = std::collections::BTreeMap::new();
        let mut text = String::new();
        for line in lines(&truth.join(name)) {
            let mut row: serde_json::Value = serde_json::from_str(&line).unwrap();
            let key = format!("{} {} {}", row["customer"], row["kind"], row["started_at"]);
            let revision: &mut i64 = revisions.entry(key.clone()).or_default();
            match name {
                "journeys.sessions.jsonl" => {
                    row["session_id"] = row["start"].clone();
                    row["status"] = "closed".into();
                    row["merged_into"] = serde_json::Value::Null;
                    row["revision"] = 0.into();
                }
                "checkout.lifecycle.jsonl" => {
                    row["instance"] = key.into();
                    row["merged_into"] = serde_json::Value::Null;
                    row["revision"] = (*revision).into();
                    *revision += 1;
                }
                _ => row["revision"] = 0.into(),
            }
            text += &(row.to_string() + "\n");
        }
        fs::write(dir.join(name), text).unwrap();
    }
}

fn latest(out: &Path, truth: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumer/latest.py");
    let output = Command::new("python3").arg(script).arg(out).arg(truth).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_consumers_view_finds_every_kind_of_fault() {
    let dir = TempDir::new().unwrap();
    let (_, summary) = generate(dir.path(), "f", Scenario::ShopLate, 8_000);
    let truth = summary.truth_dir;
    let windows = "engagement.channel_stage.jsonl";
    let (sessions, checkouts) = ("journeys.sessions.jsonl", "checkout.lifecycle.jsonl");
    let out = dir.path().join("out");
    outputs_of(&truth, &out);
    assert_eq!(latest(&out, &truth), (true, String::new()));

    let check = |file: &str, change: &dyn Fn(&mut Vec<String>), expected: &str| {
        outputs_of(&truth, &out);
        let mut rows = lines(&out.join(file));
        change(&mut rows);
        fs::write(out.join(file), rows.join("\n") + "\n").unwrap();
        let (good, problems) = latest(&out, &truth);
        assert!(!good && problems.contains(expected), "{expected}: {problems}");
    };
    let swap = |rows: &mut Vec<String>, from: &str, to: &str| {
        let at = rows.iter().position(|r| r.contains(from)).unwrap();
        rows[at] = rows[at].replacen(from, to, 1);
    };
    check(windows, &|r| swap(r, "\"revision\":0", "\"revision\":1"), "has revision 1 where 0");
    check(windows, &|r| swap(r, "\"is_final\":true", "\"is_final\":false"), "never became final");
    check(windows, &|r| swap(r, "\"customers\":", "\"customers\":1"), "has customers");
    check(windows, &|r| swap(r, "\"unique_abandoners\":1", "\"unique_abandoners\":2"), "abandonm");
    check(windows, &|r| drop(r.remove(0)), "of the truth is missing");
    let again = |r: &mut Vec<String>| {
        r.push(r[0].replace("\"revision\":0", "\"revision\":1"));
    };
    check(windows, &again, "a record after its final one");
    check(sessions, &again, "a record after its final one");
    check(sessions, &|r| swap(r, "\"engaged\":true", "\"engaged\":false"), "has engaged false");
    check(sessions, &|r| swap(r, "\"status\":\"closed\"", "\"status\":\"merged\""), "merged");
    let retract = |rows: &mut Vec<String>| {
        let is = |r: &String| r.contains("\"checkout\"") && r.contains("\"abandoned\"");
        let at = rows.iter().position(is).unwrap();
        rows[at] = rows[at].replace("\"abandoned\"", "\"retracted\"");
    };
    check(checkouts, &retract, "less retracted");
    check(checkouts, &|r| swap(r, "\"revision\":1", "\"revision\":2"), "has revision 2 where 1");
    let late = r#"{"tenant":"default","id":"x","event_time":1}"#;
    check("touchpoints.late.jsonl", &|r| r.push(late.into()), "unlike the truth");
}

#[test]
fn the_folds_say_what_the_naive_model_says() {
    let dir = TempDir::new().unwrap();
    for (seed, rate) in [(1, 5.0), (2, 1.0), (3, 0.3), (4, 0.03)] {
        let (input, truth) = generated(dir.path(), &plan(Scenario::Shop, seed, 20_000, rate));
        assert!(truth.truth.checkouts.abandoned > 100, "seed {seed}: {:?}", truth.truth);
        for partitions in [1, 8] {
            let out = dir.path().join(format!("shop-{seed}-at-{partitions}"));
            replayed(&input, &out, partitions, true);
            assert_same(&truth.truth_dir, &out);
        }
    }
}

#[test]
fn what_is_switched_off_is_not_there_and_the_rest_as_the_naive_model_says() {
    let dir = TempDir::new().unwrap();
    let no_rule = "rules: {CheckoutAbandonmentSpike: {enabled: false}}\n";
    let nobody = format!("{no_rule}identity: {{follow_customers: false}}\n");
    let undistinct = "figures: {distinct_customers: false}\n".to_owned();
    let repeats = "deduplication: {ids: 0}\n".to_owned();
    let no_carts = "checkout: {carts: false}\n".to_owned();
    for (name, yaml) in [
        ("nobody", nobody),
        ("undistinct", undistinct),
        ("repeats", repeats),
        ("no carts", no_carts),
    ] {
        let settings = settings_with(&yaml);
        let dir = dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        let plan = plan(Scenario::ShopLate, 5, 20_000, 1.0);
        let (input, truth) = generated_under(&settings, &dir, &plan);
        let counted = truth.truth;
        let knows_repeats = ["undistinct", "no carts"].contains(&name);
        assert_eq!(knows_repeats, counted.duplicate > 0, "{name}: {counted:?}");
        assert_eq!(name == "nobody", counted.sessions == 0, "{name}: {counted:?}");
        assert_eq!(name == "nobody", counted.checkouts.started == 0, "{name}: {counted:?}");
        let windows = truth.truth_dir.join("engagement.channel_stage.jsonl");
        let customers = lines(&windows).iter().any(|l| !l.contains("\"customers\":0"));
        assert_eq!(customers, ["repeats", "no carts"].contains(&name), "{name}");
        let life_cycles = truth.truth_dir.join("checkout.lifecycle.jsonl");
        let carts = lines(&life_cycles).iter().any(|l| l.contains("\"kind\":\"cart\""));
        assert_eq!(carts, ["undistinct", "repeats"].contains(&name), "{name}");
        let out = dir.join("replayed");
        replayed_under(&settings, &input, &out);
        assert_same(&truth.truth_dir, &out);
    }
}

#[test]
fn the_folds_find_too_late_what_the_naive_model_does() {
    let dir = TempDir::new().unwrap();
    // In the last one somebody who is everybody (`guest`) is too late.
    for seed in [1, 2, 3, 99] {
        let (input, truth) = generated(dir.path(), &plan(Scenario::ShopLate, seed, 25_000, 1.0));
        assert!(truth.truth.late > 10, "seed {seed}: {:?}", truth.truth);
        let out = dir.path().join(format!("late-{seed}"));
        replayed(&input, &out, 8, true);
        assert_same(&truth.truth_dir, &out);
    }
}

#[test]
fn faults_and_pending_payments_are_as_the_naive_model_says() {
    let dir = TempDir::new().unwrap();
    for scenario in [Scenario::PendingSpike, Scenario::Silent, Scenario::Promotion] {
        let (input, truth) = generated(dir.path(), &plan(scenario, 7, 20_000, 0.7));
        let out = dir.path().join(scenario.name());
        replayed(&input, &out, 3, true);
        assert_same(&truth.truth_dir, &out);
    }
}

#[test]
fn two_replays_are_equal_to_the_byte() {
    let dir = TempDir::new().unwrap();
    let (input, _) = generated(dir.path(), &plan(Scenario::ShopLate, 9, 20_000, 1.0));
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    replayed(&input, &first, 8, false);
    replayed(&input, &second, 8, false);
    assert_same(&first, &second);
}

/// Place of a row that is the last of its key, and whose key has more than one.
fn last_of_several(rows: &[String]) -> usize {
    let key = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        format!("{}{}{}{}", row["tenant"], row["window"], row["start"], row["dimensions"])
    };
    let last =
        rows.iter().position(|r| r.contains("\"is_final\":true") && !r.contains("\"revision\":0"));
    let last = last.expect("something was said twice");
    assert!(rows[..last].iter().any(|r| key(r) == key(&rows[last])));
    last
}

#[test]
fn the_consumers_view_takes_a_replay_and_nothing_less() {
    let dir = TempDir::new().unwrap();
    let (input, truth) = generated(dir.path(), &plan(Scenario::ShopLate, 10, 20_000, 1.0));
    let out = dir.path().join("out");
    replayed(&input, &out, 8, false);
    assert_eq!(latest(&out, &truth.truth_dir), (true, String::new()));

    let windows = out.join("engagement.channel_stage.jsonl");
    let rows = lines(&windows);
    let last = last_of_several(&rows);
    let check = |change: &dyn Fn(&mut Vec<String>), expected: &str| {
        let mut changed = rows.clone();
        change(&mut changed);
        fs::write(&windows, changed.join("\n") + "\n").unwrap();
        let (good, problems) = latest(&out, &truth.truth_dir);
        assert!(!good && problems.contains(expected), "{expected}: {problems}");
    };
    // The first revision of that key is missing, then the final one, then one comes after it.
    let value: serde_json::Value = serde_json::from_str(&rows[last]).unwrap();
    let first = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let same = |field: &str| row[field] == value[field];
        row["revision"] == 0 && ["tenant", "window", "start", "dimensions"].into_iter().all(same)
    };
    let at = rows.iter().position(first).expect("revision 0");
    check(&|rows| drop(rows.remove(at)), "has revision");
    check(&|rows| drop(rows.remove(last)), "never became final");
    let after = |rows: &mut Vec<String>| {
        let mut more = value.clone();
        more["revision"] = (value["revision"].as_i64().unwrap() + 1).into();
        rows.push(more.to_string());
    };
    check(&after, "a record after its final one");
}
