//! The naive model against the files it writes, and `latest.py` against them.

use std::fs;
use std::path::Path;
use std::time::Duration;
use touchline::generate::{Plan, Scenario, Settings, write_files};

#[test]
fn stats() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.jsonl");
    let plan = Plan { events: Some(300_000), ..Plan::new(Scenario::Shop, 1) };
    let t = touchline::clock::Moment::now();
    let s = write_files(&plan, Settings::default(), &out, |_| {}).unwrap();
    println!("{s:?} {}s", t.elapsed_secs());
    println!(
        "{}",
        fs::read_dir(&s.truth_dir)
            .unwrap()
            .map(|f| {
                let f = f.unwrap();
                format!("{:?} {}\n", f.file_name(), f.metadata().unwrap().len())
            })
            .collect::<String>()
    );
    fs::create_dir_all("/tmp/naive_out").unwrap();
    fs::copy(&out, "/tmp/naive_out/f.jsonl").unwrap();
    for f in fs::read_dir(&s.truth_dir).unwrap() {
        let f = f.unwrap();
        fs::copy(f.path(), Path::new("/tmp/naive_out").join(f.file_name())).unwrap();
    }
    let _ = Duration::ZERO;
}
