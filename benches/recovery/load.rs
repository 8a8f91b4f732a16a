//! Traffic that goes on whatever happens to the program.

use super::process::{SOURCE, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use touchline::clock::{self, Moment};
use touchline::kafka::OutRecord;
use touchline::kafka::writer::Writer;
use touchline::model::time::Millis;

const IN_FLIGHT: usize = 16 << 20;
const DONE_WITHIN: Millis = Millis::from_mins(5);

/// What customers do, and where; every so often a checkout begins.
const TOUCHES: [(&str, &str, &str); 8] = [
    ("web", "page", "view"),
    ("web", "product", "view"),
    ("mobile_app", "product", "view"),
    ("web", "list", "view"),
    ("mobile_app", "page", "view"),
    ("web", "search", "submit"),
    ("web", "cart", "add"),
    ("mobile_app", "cart", "add"),
];
const CHECKOUT_EVERY: u64 = 50;

/// Spreads numbers evenly, the same in every run.
fn mixed(n: u64) -> u64 {
    let z = (n.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn record(topic: &Arc<str>, number: u64, customer: u64) -> OutRecord {
    let at = clock::now().as_ms();
    let place = usize::try_from(mixed(number) % 8).unwrap_or(0);
    let (channel, touchpoint, action) = match number % CHECKOUT_EVERY {
        0 => ("web", "checkout", "start"),
        _ => TOUCHES[place],
    };
    let value = format!(
        "{{\"id\":\"e{number}\",\"source\":\"web\",\"tenant\":\"default\",\"event_time\":{at},\
         \"customer_id\":\"k{customer:08}\",\"channel\":\"{channel}\",\
         \"touchpoint\":\"{touchpoint}\",\"action\":\"{action}\"}}"
    );
    let mut out = OutRecord::new(topic, format!("k{customer:08}").into_bytes(), None);
    out.value = Some(value.into_bytes());
    out.timestamp = Some(at);
    out
}

/// One event of every customer, as fast as the broker takes them.
pub(crate) fn preload(work: &Work, customers: u64) {
    let writer = Writer::new(&work.connection(), IN_FLIGHT).expect("a writer");
    let topic: Arc<str> = SOURCE.into();
    for customer in 0..customers {
        writer.send(&record(&topic, customer, customer)).expect("the broker takes it");
    }
    writer.flush(DONE_WITHIN).expect("the broker takes everything");
}

/// Traffic at a rate.
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(work: &Work, rate: u64, customers: u64) -> Load {
        let writer = Writer::new(&work.connection(), IN_FLIGHT).expect("a writer");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        let run = move || {
            let topic: Arc<str> = SOURCE.into();
            let since = Moment::now();
            let mut number = customers;
            while !stop.load(Ordering::SeqCst) {
                let due = customers + (since.elapsed_secs() * rate as f64) as u64;
                while number < due {
                    let customer = mixed(number) % customers;
                    let sent = writer.send(&record(&topic, number, customer));
                    sent.expect("the broker takes it");
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        Load { stopped, thread: Some(std::thread::spawn(run)) }
    }

    pub(crate) fn stop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load ran to its end");
        }
    }
}
