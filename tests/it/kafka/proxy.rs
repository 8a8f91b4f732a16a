//! Stands before one broker, and loses an acknowledgement as a broken connection does.
//!
//! Everything passes unchanged until [`Proxy::lose_an_acknowledgement`]. Of the first transaction
//! behind it the records are written, but the broker's answer is dropped with its connection; the
//! client's attempts to send them again are cut off, and after the first it is told that its offsets
//! are refused, so that it has to abort. From the abort on everything passes again.
//!
//! It knows as much of the protocol as that takes. Every frame begins with its length (4 bytes); then a
//! request has its kind and version (2 bytes each) and a number, its answer has the same number.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PRODUCE: i16 = 0;
const ADD_OFFSETS_TO_TXN: i16 = 25;
const END_TXN: i16 = 26;
/// The client answers it with an abort.
const GROUP_AUTHORIZATION_FAILED: i16 = 30;

/// Where the fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Passing,
    /// The next acknowledgement of a transaction's records will be lost.
    Waiting,
    /// It is lost, and nothing is written before the abort.
    Lost,
}

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    stage: Stage,
    /// Acknowledgements that were dropped.
    pub(super) acks_lost: u32,
    /// How often records that came again were cut off.
    pub(super) cut_off: u32,
    /// How often offsets were refused.
    pub(super) refused: u32,
    /// Transactions that were aborted after that.
    pub(super) aborts: u32,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// Refusals that wait until records were cut off: until then the client waits for them.
    held: Vec<(Arc<Connection>, Vec<u8>)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

/// The proxy; connections last as long as both of their ends.
pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes connections on to a port of this machine.
    pub(super) fn before(broker: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared: Arc<Shared> = Arc::default();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if serving.over.load(Ordering::SeqCst) {
                    return;
                }
                // Who finds the broker gone is hung up on.
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", broker)))
                else {
                    continue;
                };
                Connection::start(client, broker, &serving);
            }
        });
        Proxy { port, shared }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From now on the next acknowledgement of records in a transaction gets lost.
    pub(super) fn lose_an_acknowledgement(&self) {
        self.shared.state().seen.stage = Stage::Waiting;
    }

    /// What has happened so far.
    pub(super) fn seen(&self) -> Seen {
        self.shared.state().seen
    }

    /// Waits up to `most` until a transaction with a lost acknowledgement is aborted; tells what has
    /// happened.
    pub(super) fn wait_for_abort(&self, most: Duration) -> Seen {
        let none = |state: &mut State| state.seen.aborts == 0;
        let state = self.shared.changed.wait_timeout_while(self.shared.state(), most, none);
        state.unwrap_or_else(PoisonError::into_inner).0.seen
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes who listens.
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A request that the broker has not answered.
#[derive(Clone, Copy)]
struct Asked {
    kind: i16,
    version: i16,
    in_transaction: bool,
}

/// A client's connection, and ours for it.
struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// By their numbers.
    asked: Mutex<BTreeMap<i32, Asked>>,
    /// Answers that were held come from other threads.
    answering: Mutex<()>,
}

impl Connection {
    fn start(client: TcpStream, broker: TcpStream, shared: &Arc<Shared>) {
        for end in [&client, &broker] {
            end.set_nodelay(true).expect("a property of every connection");
        }
        let (asked, answering) = (Mutex::default(), Mutex::default());
        let this = Arc::new(Connection { client, broker, asked, answering });
        let (requests, answers) = (this.clone(), this);
        let (on_request, on_answer) = (shared.clone(), shared.clone());
        std::thread::spawn(move || {
            while let Some(frame) = frame(&requests.client)
                && on_request.request(&requests, &frame)
                && (&requests.broker).write_all(&frame).is_ok()
            {}
            requests.hang_up();
        });
        std::thread::spawn(move || {
            while let Some(frame) = frame(&answers.broker)
                && on_answer.answer(&answers, frame)
            {}
            answers.hang_up();
        });
    }

    fn say(&self, frame: &[u8]) -> bool {
        let _others_wait = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.client).write_all(frame).is_ok()
    }

    fn hang_up(&self) {
        for end in [&self.client, &self.broker] {
            // The other thread, or the other side, may have done it.
            let _hung_up = end.shutdown(Shutdown::Both);
        }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<i32, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request passes; if not, its connection breaks.
    fn request(&self, from: &Connection, frame: &[u8]) -> bool {
        let (kind, version) = (i16_at(frame, 4), i16_at(frame, 6));
        let in_transaction = kind == PRODUCE && is_in_transaction(frame, version);
        let mut state = self.state();
        let lost = state.seen.stage == Stage::Lost;
        if lost && in_transaction {
            state.seen.cut_off += 1;
            for (connection, frame) in state.held.drain(..) {
                connection.say(&frame);
            }
            return false;
        }
        if lost && kind == END_TXN && !is_commit(frame, version) {
            // What the client had to send is dropped by now.
            state.seen.stage = Stage::Passing;
            state.seen.aborts += 1;
            self.changed.notify_all();
        }
        from.asked().insert(i32_at(frame, 8), Asked { kind, version, in_transaction });
        true
    }

    /// Passes an answer on, holds it, or drops it; false if its connection breaks.
    fn answer(&self, to: &Arc<Connection>, mut frame: Vec<u8>) -> bool {
        let Some(asked) = to.asked().remove(&i32_at(&frame, 4)) else { return false };
        let mut state = self.state();
        match (state.seen.stage, asked.kind) {
            (Stage::Waiting, PRODUCE) if asked.in_transaction => {
                state.seen.stage = Stage::Lost;
                state.seen.acks_lost += 1;
                return false;
            }
            (Stage::Waiting | Stage::Lost, ADD_OFFSETS_TO_TXN) => {
                refuse(&mut frame, asked.version);
                state.seen.refused += 1;
                if state.seen.cut_off == 0 {
                    state.held.push((to.clone(), frame));
                    return true;
                }
            }
            _ => {}
        }
        drop(state);
        to.say(&frame)
    }
}

/// The next frame with its length; `None` if the connection is over.
fn frame(mut from: &TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = usize::try_from(i32_at(&frame, 0)).ok()?;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn i16_at(frame: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(frame[at..at + 2].try_into().expect("two bytes"))
}

fn i32_at(frame: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

/// Whether a `Produce` names a transactional id: it comes first, behind the name of the client.
fn is_in_transaction(frame: &[u8], version: i16) -> bool {
    // A name that is missing has length −1.
    let body = 14 + usize::try_from(i16_at(frame, 12)).unwrap_or(0);
    // From version 9 on lengths are one more than they are, and tags (there are none) come before.
    if version >= 9 { frame[body + 1] > 0 } else { i16_at(frame, body) >= 0 }
}

/// Whether an `EndTxn` commits: it says so last; from version 3 on tags (there are none) follow.
fn is_commit(frame: &[u8], version: i16) -> bool {
    frame[frame.len() - if version >= 3 { 2 } else { 1 }] != 0
}

/// Makes the answer to an `AddOffsetsToTxn` an error: it comes behind the length, the number (from
/// version 3 on with tags, of which there are none) and a delay, 4 bytes each.
fn refuse(frame: &mut [u8], version: i16) {
    let at = if version >= 3 { 13 } else { 12 };
    frame[at..at + 2].copy_from_slice(&GROUP_AUTHORIZATION_FAILED.to_be_bytes());
}
