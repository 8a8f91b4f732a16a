//! `generate`: traffic with known truth, to files or to Kafka.

use super::parts::Parts;
use crate::clock::{self, Moment};
use crate::config::{Format, Settings, ValueOf};
use crate::generate::{self, Generator, Payload, Plan, Scenario, encode};
use crate::kafka::client::Connection;
use crate::kafka::task::OutRecord;
use crate::kafka::writer::Writer;
use crate::model::time::{EventTime, Millis};
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;

/// Bytes of traffic that may be on their way to the broker.
const IN_FLIGHT_BYTES: usize = 8 << 20;

/// Makes a plan from what the command line says.
///
/// # Errors
/// If there is no such scenario, or a number makes no sense.
pub fn plan(
    scenario: &str,
    seed: u64,
    events: Option<u64>,
    rate: Option<f64>,
) -> Result<Plan, String> {
    let Some(scenario) = Scenario::by_name(scenario) else {
        let known: Vec<&str> = Scenario::ALL.iter().map(|s| s.name()).collect();
        return Err(format!("there is no scenario {scenario}; there are {}", known.join(", ")));
    };
    let mut plan = Plan::new(scenario, seed);
    plan.events = events;
    if let Some(rate) = rate {
        if !(rate > 0.0 && rate <= 1e6) {
            return Err(format!("--rate is touchpoints per second, above 0 up to 1e6, not {rate}"));
        }
        plan.rate = rate;
    }
    Ok(plan)
}

fn progress(events: Option<u64>) -> ProgressBar {
    let bar = events.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} records, {per_sec}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Writes the traffic to `out`, its truth and its labels beside it.
///
/// # Errors
/// If a file cannot be written.
pub fn to_files(plan: Plan, settings: &Settings, out: &Path) -> anyhow::Result<()> {
    if plan.events.is_none() {
        bail!("say how many touchpoints with --events: a file needs an end");
    }
    let bar = progress(plan.events);
    let written =
        generate::write_files(&plan, truth_settings(settings), out, |n| bar.set_position(n))
            .with_context(|| format!("writing {}", out.display()))?;
    bar.finish_and_clear();
    println!("{} records from {} to {}", written.records, written.from, written.to);
    println!("truth: {}", written.truth_dir.display());
    println!("labels: {}", written.labels_file.display());
    Ok(())
}

/// What the naive model must know, from the configuration.
pub fn truth_settings(settings: &Settings) -> generate::Settings {
    let parts = Parts::new(settings);
    let journey = parts.journey_settings(crate::model::ids::PartitionId::new(0), 1);
    generate::Settings {
        taxonomy: settings.taxonomy.clone(),
        windows: settings.figures.windows.iter().map(|w| w.length).collect(),
        session_gap: journey.session_gap,
        session_gaps: journey.channel_gaps,
        sessions_by_source: journey.sessions_by_source,
        path_max: journey.path_max,
        checkout_timeout: journey.t_checkout,
        checkout_timeouts: journey.channel_t_checkout,
        follow_carts: journey.follow_carts,
        cart_timeout: journey.t_cart,
        pending_timeout: journey.t_pending,
        max_checkout_age: journey.max_checkout_age,
        max_recovery: journey.max_recovery,
        merge: journey.t_merge,
        value_of_events: settings.figures.value_of == ValueOf::Events,
        degenerate_ids: journey.degenerate_ids.into_iter().collect(),
        follow_customers: journey.follow_customers,
        recognise_repeats: journey.dedup_ids > 0,
        distinct_customers: journey.distinct_customers,
        ..generate::Settings::default()
    }
}

/// Writes the traffic to the first source that takes canonical JSON; without a number of touchpoints
/// as it happens from now on, with one as if it had just happened.
///
/// # Errors
/// If there is no such source, or the broker refuses.
pub fn to_kafka(mut plan: Plan, settings: &Settings) -> anyhow::Result<()> {
    let canonical = |s: &&crate::config::SourceSettings| s.format == Format::CanonicalJson;
    let Some(source) = settings.sources.values().find(canonical) else {
        bail!("no source of the configuration has the format canonical_json");
    };
    let live = plan.events.is_none();
    let now = EventTime::from_ms(clock::now().as_ms());
    plan = plan.starting(now);
    if !live {
        // How long so many take depends on the time of day at which they begin.
        while let Some(ahead) = ahead_of(&plan, now) {
            let start = plan.start.minus(ahead);
            plan = plan.starting(start);
        }
    }
    let connection = Connection::new(settings.kafka.clone());
    let writer = Writer::new(&connection, IN_FLIGHT_BYTES)?;
    let topic: Arc<str> = source.topic.as_str().into();
    let bar = progress(plan.events);
    let (since, start) = (Moment::now(), plan.start);
    for emitted in Generator::new(plan) {
        if live {
            let due = emitted.arrival.since(start).as_ms() - since.elapsed().as_ms();
            if let Ok(due) = u64::try_from(due) {
                std::thread::sleep(std::time::Duration::from_millis(due));
            }
        }
        writer.send(&record(&topic, &emitted.payload))?;
        bar.inc(1);
    }
    writer.flush(Millis::from_mins(1))?;
    bar.finish();
    Ok(())
}

/// How far the last arrival is ahead of `now`, if it is.
fn ahead_of(plan: &Plan, now: EventTime) -> Option<Millis> {
    let last = Generator::new(plan.clone()).map(|emitted| emitted.arrival).max()?;
    (last > now).then(|| last.since(now))
}

/// A generated payload as a record of a source topic.
pub fn record(topic: &Arc<str>, payload: &Payload) -> OutRecord {
    let (key, value) = match payload {
        Payload::Poison(bytes) => (Vec::new(), bytes.clone()),
        Payload::Touchpoint(t) | Payload::Duplicate(t) | Payload::TooLate(t) => {
            let customer = t.customer_id.as_ref().or(t.anonymous_id.as_ref()).unwrap_or(&t.id);
            (customer.as_bytes().to_vec(), encode::line(t).into_bytes())
        }
    };
    OutRecord::new(topic, key, Some(value))
}
