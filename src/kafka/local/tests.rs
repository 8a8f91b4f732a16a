//! Copies against a map, whatever happens to the process that writes them.

use super::files::{Files, manifest};
use super::*;
use crate::codec::checkpoint::Framer;
use crate::codec::local::Manifest;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PARTITION: PartitionId = PartitionId::new(3);

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn checkpoint(number: u64) -> Vec<u8> {
    let mut framed = Vec::new();
    Framer::default().checkpoint(
        &Checkpoint {
            next: NextOffset::new(0),
            clock: None,
            watermark: None,
            flush: 0,
            side_input: 0,
            number,
            generation: 1,
            changelog: "who".into(),
            fold_version: 1,
            fingerprint: 0,
            input_partitions: 4,
        },
        &mut framed,
    );
    framed
}

fn content(found: &Found) -> Result<Content, Error> {
    let (mut content, mut number) = (Content::new(), 0);
    while found.file(number, |(key, value)| {
        match value {
            Some(value) => content.insert(key.to_vec(), value.to_vec()),
            None => content.remove(key),
        };
    })? {
        number += 1;
    }
    Ok(content)
}

fn changelog() -> Arc<str> {
    "app.journey.changelog".into()
}

fn append(local: &LocalState, claim: &Claim, records: &[(&[u8], Option<&[u8]>)]) {
    let mut chunk = Chunk::default();
    for (key, value) in records {
        assert_eq!(chunk.put(key, *value), None, "few records");
    }
    local.append(claim, chunk.take());
}

#[test]
fn what_is_marked_is_there_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalState::open(dir.path()).unwrap();
    assert!(LocalState::open(dir.path()).is_none(), "it is in use");
    let (claim, found) = local.take(&changelog(), PARTITION);
    assert!(found.is_none());
    // Without a beginning there is no copy.
    append(&local, &claim, &[(b"k", Some(b"lost"))]);
    local.mark(&claim, NextOffset::new(1), checkpoint(1));
    assert!(local.take(&changelog(), PARTITION).1.is_none());

    let (claim, _) = local.take(&changelog(), PARTITION);
    local.anew(&claim);
    append(&local, &claim, &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", None)]);
    local.mark(&claim, NextOffset::new(7), checkpoint(2));
    append(&local, &claim, &[(b"b", Some(b"never marked"))]);
    let (other, found) = local.take(&changelog(), PARTITION);
    let found = found.unwrap();
    assert_eq!((found.next(), found.checkpoint.number), (NextOffset::new(7), 2));
    let b = |value: &[u8]| Content::from([(b"b".to_vec(), value.to_vec())]);
    assert_eq!(content(&found).unwrap(), b(b"2"));

    // Somebody else has taken it over.
    append(&local, &claim, &[(b"b", Some(b"of an earlier claim"))]);
    local.mark(&claim, NextOffset::new(8), checkpoint(3));
    append(&local, &other, &[(b"b", Some(b"3"))]);
    local.mark(&other, NextOffset::new(9), checkpoint(4));
    drop(local);
    let local = LocalState::open(dir.path()).unwrap();
    let found = local.take(&changelog(), PARTITION).1.unwrap();
    assert_eq!((found.next(), content(&found).unwrap()), (NextOffset::new(9), b(b"3")));
    assert!(local.take(&changelog(), PartitionId::new(4)).1.is_none());
}

#[test]
fn an_old_copy_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mark = |age: Millis| {
        let mut files = Files::anew(dir.path()).unwrap();
        files.append(b"k", Some(b"v")).unwrap();
        let written_at = clock::now().as_ms() - age.as_ms();
        let (next, checkpoint, files_) = (NextOffset::new(5), checkpoint(1), Vec::new());
        files.mark(Manifest { next, written_at, checkpoint, files: files_ }).unwrap();
    };
    mark(Millis::from_hours(11));
    assert!(Found::read(dir.path()).is_some());
    mark(Millis::from_hours(13));
    assert!(Found::read(dir.path()).is_none(), "a tombstone may be gone");
    mark(Millis::from_hours(-1));
    assert!(Found::read(dir.path()).is_none(), "nobody knows how old it is");
}

#[test]
fn a_damaged_file_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Files::anew(dir.path()).unwrap();
    for n in 0..1_000_u32 {
        files.append(&n.to_le_bytes(), Some(&[7; 50])).unwrap();
    }
    let marked = Manifest {
        next: NextOffset::new(5),
        written_at: clock::now().as_ms(),
        checkpoint: checkpoint(1),
        files: Vec::new(),
    };
    files.mark(marked).unwrap();
    let found = Found::read(dir.path()).unwrap();
    assert_eq!(content(&found).unwrap().len(), 1_000);
    let path = dir.path().join("09.0");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    for bytes in [&bad[..], &good[..good.len() - 1], &[]] {
        fs::write(&path, bytes).unwrap();
        assert!(content(&found).is_err());
    }
    fs::remove_file(&path).unwrap();
    assert!(content(&found).is_err());
    fs::write(&path, [&good[..], b"never marked"].concat()).unwrap();
    assert_eq!(content(&found).unwrap().len(), 1_000);
    fs::write(dir.path().join("manifest"), b"damaged").unwrap();
    assert!(Found::read(dir.path()).is_none());
}

#[test]
fn files_stay_in_proportion_to_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Files::anew(dir.path()).unwrap();
    let value = [9_u8; 200];
    let (mut most, keys) = (0, 100_000_u32);
    for round in 0..40_u32 {
        for n in 0..keys / 4 {
            let key = (round * 7_919 + n * 31) % keys;
            files.append(&key.to_le_bytes(), Some(&value)).unwrap();
        }
        let (next, written_at) = (NextOffset::new(i64::from(round)), clock::now().as_ms());
        let marked = Manifest { next, written_at, checkpoint: checkpoint(1), files: Vec::new() };
        files.mark(marked).unwrap();
        let sizes = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len());
        most = most.max(sizes.sum::<u64>());
    }
    let live = u64::from(keys) * 212;
    assert!(most < live * 5 / 2, "{most} bytes for {live}");
    let found = Found::read(dir.path()).unwrap();
    assert_eq!(content(&found).unwrap().len(), keys as usize);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Option<u8>),
    Mark,
    /// The process dies, and another goes on.
    Die,
    Anew,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0_u8..30, prop::option::of(any::<u8>())).prop_map(|(k, v)| Step::Put(k, v)),
        4 => Just(Step::Mark),
        2 => Just(Step::Die),
        1 => Just(Step::Anew),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Values are large, so that files are rewritten all the time.
    #[test]
    fn a_copy_is_what_was_marked_last(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::anew(dir.path()).unwrap();
        let (mut now, mut marked) = (Content::new(), None);
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key, value) => {
                    let value = value.map(|v| vec![v; 40_000]);
                    files.append(&[key], value.as_deref()).unwrap();
                    match value {
                        Some(value) => now.insert(vec![key], value),
                        None => now.remove(&[key][..]),
                    };
                }
                Step::Mark => {
                    let next = NextOffset::new(n as i64);
                    let manifest = Manifest {
                        next,
                        written_at: clock::now().as_ms(),
                        checkpoint: checkpoint(1),
                        files: Vec::new(),
                    };
                    files.mark(manifest).unwrap();
                    marked = Some((next, now.clone()));
                }
                Step::Die => {
                    let found = Found::read(dir.path());
                    let read = found.map(|found| (found.next(), content(&found).unwrap()));
                    prop_assert_eq!(&read, &marked);
                    now = read.map(|(_, content)| content).unwrap_or_default();
                    files = match manifest(dir.path()) {
                        Some(manifest) => Files::go_on(dir.path(), &manifest),
                        None => Files::anew(dir.path()).unwrap(),
                    };
                    files.remove_strangers().unwrap();
                }
                Step::Anew => {
                    files = Files::anew(dir.path()).unwrap();
                    (now, marked) = (Content::new(), None);
                }
            }
        }
    }
}
