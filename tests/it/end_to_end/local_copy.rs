//! Restarts with a local copy of the state: whatever has become of it, what is published stays the same.

use super::support::{App, DEADLINE, Running, WIDE, touchline};
use super::{compare_with_replay, compare_with_truth, shop};
use std::fs;
use std::path::{Path, PathBuf};
use touchline::clock::Moment;

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Bytes of all files below a directory.
fn size(dir: &Path) -> u64 {
    // One may be rewritten, and be gone.
    let length = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
    files(dir).into_iter().map(length).sum()
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    for file in files(from) {
        let place = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&file, place).unwrap();
    }
}

/// Entries that came from local copies, once every state is back.
fn copied(running: &mut Running) -> u64 {
    running.wait("/readyz", |status, _| (status == 200).then_some(()));
    let said = running.said();
    let restored = said.lines().filter(|line| line.contains("state restored"));
    let numbers = restored.filter_map(|line| {
        let (_, rest) = line.split_once("copied=")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    numbers.max().unwrap_or_else(|| panic!("nothing was restored: {said}"))
}

#[test]
fn whatever_becomes_of_local_copies_what_is_published_stays_the_same() {
    let app = App::new("e2e-copies", &[("shop", super::PARTITIONS)]);
    let copies = app.path("copies");
    let config = app.configure(&format!(
        "delivery: {{checkpoint_interval: 200ms, state_dir: {}}}\ntime: {{{WIDE}}}\nsources:\n  \
         shop:\n    topic: {}\n    format: canonical_json\n    start: earliest\n    \
         max_out_of_orderness: 2m",
        copies.display(),
        app.topic("shop")
    ));
    shop(&app, &config, 17, 20_000);
    let changelog = "e2e-copies.journey.changelog";

    let running = Running::start(&config);
    let since = Moment::now();
    while size(&copies) < 100_000 {
        assert!(since.elapsed() < DEADLINE, "no copy is made");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // It may have been killed in between, and its copy be empty still.
    app.wait_for(changelog, 500);
    running.kill();
    let old = app.path("old");
    copy(&copies, &old);

    // As it was left.
    let mut running = Running::start(&config);
    assert!(copied(&mut running) > 0, "{}", running.said());
    app.wait_for(changelog, 1);
    running.kill();

    // What it was a while ago: the changelog has more.
    copy(&old, &copies);
    let mut running = Running::start(&config);
    assert!(copied(&mut running) > 0, "{}", running.said());
    app.wait_for(changelog, 1);
    running.kill();

    // Damaged: found out, and done without.
    let data = files(&copies).into_iter().filter(|path| path.extension().is_some());
    for path in data.filter(|path| path.file_stem().is_some_and(|stem| stem != "manifest")) {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let mut running = Running::start(&config);
    copied(&mut running);
    assert!(running.said().contains("all of the changelog is read instead"), "{}", running.said());
    running.kill();

    // Gone.
    fs::remove_dir_all(&copies).unwrap();
    let mut running = Running::start(&config);
    assert_eq!(copied(&mut running), 0);
    running.stop();

    app.run_to_end_again(&config);
    compare_with_truth(&app);
    compare_with_replay(&app, &config);

    // Started anew, with the copies of before. The processes' sessions have to be over.
    copy(&copies, &old);
    std::thread::sleep(std::time::Duration::from_secs(12));
    let reset = ["state", "reset", "--config"].map(Path::new);
    touchline(&[&reset, [config.as_path()].as_slice()].concat());
    let mut running = Running::start(&config);
    running.wait("/readyz", |status, _| (status == 200).then_some(()));
    app.wait_for(changelog, 400);
    running.kill();
    copy(&old, &copies);
    let mut running = Running::start(&config);
    assert_eq!(copied(&mut running), 0, "{}", running.said());
    running.stop();
}
