//! Local copies of changelogs: a process that restarts reads its state from its own disk, and of the
//! changelog only what came since.
//!
//! A copy is a cache and nothing else. It holds exactly what is committed of one partition of a
//! changelog below an offset, key by key, and is used only if the changelog is still the one that it was
//! made of (its identity record says so), still reaches that far, and cannot have lost a tombstone
//! since. Anything else, a damaged file among it, and the changelog is read from its beginning as if
//! there were no copy. So nothing rests on the disk: it may be lost, old, or that of another process.
//!
//! | when | what |
//! | --- | --- |
//! | a partition's changelog is read from its beginning | the copy is begun anew, and gets every record |
//! | a transaction with a checkpoint is acknowledged | the copy gets its entries, and is marked |
//! | a partition comes | the copy is read, then the changelog from its mark on |
//!
//! One thread per role writes. Whoever takes a partition's copy over gets a claim, and what comes of
//! earlier claims is dropped: workers of one process may hand partitions to each other without waiting.
//! What there is no room for in its queue is dropped, and that copy given up: a slow disk makes no
//! worker wait.

mod files;
#[cfg(test)]
mod tests;

use super::exactly::core::Settled;
use crate::clock;
use crate::codec::checkpoint::{Checkpoint, Unframer};
use crate::codec::local::{LocalError, LocalRecord, Manifest, Records};
use crate::kafka::error::Error;
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use files::{CopyError, Files};
use hashbrown::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A tombstone is kept for 24 h by default (`delete.retention.ms`), by a clock that is not ours: of an
/// older copy nobody knows which keys have gone.
const OLDEST: Millis = Millis::from_hours(12);
/// What may wait for the disk: a checkpoint of a worker that catches up is large.
const WAITING_BYTES: usize = 256 << 20;
const WAITING_JOBS: usize = 4_096;
/// How long whoever takes a copy over waits for the disk, once.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Records of a changelog that are handed over at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The right to write the copy of a partition, until somebody else takes it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    number: u64,
    /// The changelog, and its partition.
    of: (Arc<str>, PartitionId),
}

/// What is to be done for a claim, and how many bytes that holds in memory.
struct Job {
    claim: Claim,
    bytes: usize,
    what: What,
}

enum What {
    Take(SyncSender<Option<Found>>),
    Anew,
    Append(Vec<u8>),
    Mark(NextOffset, Vec<u8>),
    Settled(Settled, Option<NextOffset>),
}

/// The copies of a process.
pub struct LocalState {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    claims: AtomicU64,
    queue: Arc<Queue>,
}

/// What waits for the disk.
#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    /// Somebody waited in vain: nobody waits again.
    is_slow: AtomicBool,
    /// Claims that something was lost of, as there was no room.
    lost: Mutex<HashSet<u64>>,
}

impl std::fmt::Debug for LocalState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalState").finish_non_exhaustive()
    }
}

/// A copy that may be of use.
#[derive(Debug)]
pub(super) struct Found {
    dir: PathBuf,
    manifest: Manifest,
    /// What its checkpoint record says.
    pub(super) checkpoint: Checkpoint,
}

impl Found {
    fn read(dir: &Path) -> Option<Found> {
        let manifest = files::manifest(dir)?;
        let checkpoint = Unframer::default().checkpoint(&manifest.checkpoint).ok()?;
        let age = clock::now().as_ms() - manifest.written_at;
        (0..OLDEST.as_ms()).contains(&age).then(|| Found {
            dir: dir.to_owned(),
            manifest,
            checkpoint,
        })
    }

    /// The changelog is to be read from here on.
    pub(super) const fn next(&self) -> NextOffset {
        self.manifest.next
    }

    /// The framed value of its checkpoint record.
    pub(super) fn framed_checkpoint(&self) -> &[u8] {
        &self.manifest.checkpoint
    }

    /// Hands on the records of one of its files; false if there are no more.
    ///
    /// # Errors
    /// If a file is damaged, or gone: nothing of the copy is to be used.
    pub(super) fn file(
        &self,
        number: usize,
        mut each: impl FnMut(LocalRecord<'_>),
    ) -> Result<bool, Error> {
        let Some(blocks) = files::blocks(&self.dir, &self.manifest, number)? else {
            return Ok(false);
        };
        for record in Records::of_blocks(&blocks) {
            each(record.map_err(CopyError::Local)?);
        }
        Ok(true)
    }
}

impl LocalState {
    /// Copies in `dir`, which is made if it is not there. `None`, with a warning, if it cannot be used:
    /// by its rights, or as another process uses it.
    pub fn open(dir: &Path) -> Option<Arc<LocalState>> {
        let lock = match lock(dir) {
            Ok(lock) => lock,
            Err(error) => {
                let dir = dir.display();
                tracing::warn!(
                    %dir, %error,
                    "no local copy of the state is kept: a restart reads all of the changelog"
                );
                return None;
            }
        };
        let (jobs, taken) = sync_channel(WAITING_JOBS);
        let queue: Arc<Queue> = Arc::default();
        let writer = Writer { dir: dir.to_owned(), open: HashMap::new(), queue: queue.clone() };
        let run = move || {
            writer.run(&taken);
            drop(lock);
        };
        let thread = std::thread::Builder::new().name("local state".to_owned()).spawn(run).ok()?;
        Some(Arc::new(LocalState {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            claims: AtomicU64::new(0),
            queue,
        }))
    }

    /// Never waits: what there is no room for is lost, and with it what comes of that claim.
    fn send(&self, claim: &Claim, bytes: usize, what: What) {
        let Queue { bytes: waiting, lost, .. } = &*self.queue;
        let jobs = self.jobs.lock().expect("no panic while held");
        let job = Job { claim: claim.clone(), bytes, what };
        let fits = waiting.fetch_add(bytes, Ordering::SeqCst) + bytes <= WAITING_BYTES;
        if fits && jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok()) {
            return;
        }
        waiting.fetch_sub(bytes, Ordering::SeqCst);
        lost.lock().expect("no panic while held").insert(claim.number);
    }

    /// Takes over the copy of a partition; `Found` if there is one that may be of use.
    pub(super) fn take(&self, of: &Arc<str>, partition: PartitionId) -> (Claim, Option<Found>) {
        let number = self.claims.fetch_add(1, Ordering::SeqCst);
        let claim = Claim { number, of: (of.clone(), partition) };
        let (say, answer) = sync_channel(1);
        self.send(&claim, 0, What::Take(say));
        let is_slow = &self.queue.is_slow;
        let within = if is_slow.load(Ordering::SeqCst) { Duration::ZERO } else { TAKEN_WITHIN };
        match answer.recv_timeout(within) {
            Ok(found) => (claim, found),
            Err(_) => {
                is_slow.store(true, Ordering::SeqCst);
                (claim, None)
            }
        }
    }

    /// Begins a copy anew.
    pub(super) fn anew(&self, claim: &Claim) {
        self.send(claim, 0, What::Anew);
    }

    /// Records of the changelog, as they stand there one after the other.
    pub(super) fn append(&self, claim: &Claim, records: Vec<u8>) {
        let bytes = records.len();
        self.send(claim, bytes, What::Append(records));
    }

    /// What was appended is everything that is committed below `next`, and its last checkpoint record
    /// is this.
    pub(super) fn mark(&self, claim: &Claim, next: NextOffset, checkpoint: Vec<u8>) {
        self.send(claim, 0, What::Mark(next, checkpoint));
    }

    /// What an acknowledged transaction has added to a partition's changelog; `next` is the offset
    /// behind its checkpoint record, if the broker has said.
    pub(super) fn settled(&self, claim: &Claim, settled: Settled, next: Option<NextOffset>) {
        let bytes = settled.bytes();
        self.send(claim, bytes, What::Settled(settled, next));
    }
}

impl Drop for LocalState {
    /// Writes what waits.
    fn drop(&mut self) {
        *self.jobs.lock().expect("no panic while held") = None;
        if let Some(thread) = self.thread.lock().expect("no panic while held").take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread for local copies of the state panicked");
        }
    }
}

/// Makes the directory, for its owner alone, and locks it.
fn lock(dir: &Path) -> io::Result<File> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    let file = File::create(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another process uses it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Records on their way to a copy.
#[derive(Default, Debug)]
pub(super) struct Chunk(Vec<u8>);

impl Chunk {
    /// Appends a record; hands out what there is once that is much.
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
        crate::codec::local::put_record(key, value, &mut self.0);
        (self.0.len() >= CHUNK_BYTES).then(|| self.take())
    }

    /// Hands out what there is.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// The thread that writes.
struct Writer {
    dir: PathBuf,
    open: HashMap<(Arc<str>, PartitionId), Open>,
    queue: Arc<Queue>,
}

/// The copy of one partition.
struct Open {
    claim: u64,
    /// `None` if it is not kept: nothing has been begun, or it has been given up.
    files: Option<Files>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(Job { claim, bytes, what }) = jobs.recv() {
            if let Err(error) = self.work(&claim, what) {
                self.give_up(&claim, &error);
            }
            self.queue.bytes.fetch_sub(bytes, Ordering::SeqCst);
        }
    }

    fn work(&mut self, claim: &Claim, what: What) -> Result<(), CopyError> {
        if let What::Take(say) = what {
            // Whoever asked may have ended.
            let _told = say.send(self.take(claim));
            return Ok(());
        }
        let has_lost = self.queue.lost.lock().expect("no panic while held").contains(&claim.number);
        let dir = self.dir_of(claim);
        // Somebody may have taken it over.
        let Some(open) = self.open.get_mut(&claim.of).filter(|o| o.claim == claim.number) else {
            return Ok(());
        };
        if has_lost {
            return match open.files {
                Some(_) => Err(io::Error::other("the disk cannot keep up").into()),
                None => Ok(()),
            };
        }
        if let What::Anew = what {
            open.files = Some(Files::anew(&dir)?);
        }
        let Some(files) = &mut open.files else { return Ok(()) };
        match what {
            What::Take(_) | What::Anew => Ok(()),
            What::Append(records) => append(files, Records::bare(&records)),
            What::Mark(next, checkpoint) => mark(files, next, checkpoint),
            What::Settled(settled, next) => {
                append(files, settled.entries().map(Ok))?;
                match next.zip(settled.checkpoint()) {
                    Some((next, checkpoint)) => mark(files, next, checkpoint.to_vec()),
                    None => Ok(()),
                }
            }
        }
    }

    fn dir_of(&self, claim: &Claim) -> PathBuf {
        let (changelog, partition) = &claim.of;
        self.dir.join(&**changelog).join(partition.to_string())
    }

    fn take(&mut self, claim: &Claim) -> Option<Found> {
        let dir = self.dir_of(claim);
        let found = Found::read(&dir);
        let files = found.as_ref().map(|found| Files::go_on(&dir, &found.manifest));
        let files = files.filter(|files| files.remove_strangers().is_ok());
        let found = found.filter(|_| files.is_some());
        self.open.insert(claim.of.clone(), Open { claim: claim.number, files });
        found
    }

    /// What the last mark said stays true; nothing more is added to it.
    fn give_up(&mut self, claim: &Claim, error: &CopyError) {
        let (changelog, partition) = &claim.of;
        tracing::warn!(
            %changelog, %partition, %error,
            "its local copy is kept no longer: a restart reads more of the changelog"
        );
        if let Some(open) = self.open.get_mut(&claim.of) {
            open.files = None;
        }
    }
}

fn append<'a>(
    files: &mut Files,
    mut records: impl Iterator<Item = Result<LocalRecord<'a>, LocalError>>,
) -> Result<(), CopyError> {
    records.try_for_each(|record| {
        let (key, value) = record?;
        files.append(key, value)
    })
}

fn mark(files: &mut Files, next: NextOffset, checkpoint: Vec<u8>) -> Result<(), CopyError> {
    let written_at = clock::now().as_ms();
    files.mark(Manifest { next, written_at, checkpoint, files: Vec::new() })
}
