//! The relay at work: a reader that fills the view, a pusher, and the HTTP side.

use crate::clock::{self, Moment};
use crate::codec::canonical::Schemas;
use crate::codec::derived::{decode_alert, decode_live, decode_window};
use crate::config::Settings;
use crate::http::{self, Health, Shared};
use crate::kafka::client::{Connection, Ends};
use crate::kafka::reader::{Go, Tail, Tailed};
use crate::kafka::task::Record;
use crate::kafka::{Source, Start};
use crate::model::ids::{NextOffset, PartitionId};
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::relay::alertmanager::{Alertmanagers, Delivery};
use crate::relay::push::{Pusher, Settings as PushSettings};
use crate::relay::view::{Update, View};
use crate::telemetry::{Metric, Metrics};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Topics that the relay reads.
const TOPICS: [Topic; 4] =
    [Topic::AlertEvents, Topic::AlertsActive, Topic::Live, Topic::ChannelStage];
/// A partition to which records keep coming counts as read to its end for this long after it was.
const CAUGHT_UP_FOR: Millis = Millis::from_secs(10);
/// How often it is looked whether something is to be pushed.
const PUSH_EVERY: Duration = Duration::from_millis(200);

struct Read {
    next: NextOffset,
    ended: Option<Moment>,
    behind: bool,
}

type Progress = Arc<Mutex<BTreeMap<(Topic, PartitionId), Read>>>;

/// Reads the derived topics into a view; ends when it is dropped.
pub struct Relay {
    tail: Tail,
    progress: Progress,
    names: BTreeMap<String, Topic>,
}

/// Where the relay begins to read.
pub enum From {
    /// With what a run of this process writes.
    Ends(Ends),
    /// With the oldest record.
    Beginning,
}

impl Relay {
    /// Starts to read.
    ///
    /// # Errors
    /// If the topics are not there.
    pub fn start(
        settings: &Settings,
        connection: &Connection,
        from: &From,
        schemas: Schemas,
        view: Arc<View>,
    ) -> anyhow::Result<Relay> {
        let names: BTreeMap<String, Topic> =
            TOPICS.iter().map(|t| (settings.topic(*t).to_owned(), *t)).collect();
        let sources: Vec<Source> = names
            .keys()
            .map(|name| match from {
                From::Beginning => Source::new(name, Start::Earliest),
                From::Ends(ends) => {
                    let ends = ends.get(name).cloned().unwrap_or_default();
                    Source::new(name, Start::At(ends))
                }
            })
            .collect();
        let progress: Progress = Arc::default();
        let reader = Reader { names: names.clone(), schemas, view, progress: progress.clone() };
        let partitions = reader.expect(connection)?;
        tracing::debug!(partitions, "the relay reads the derived topics");
        let name = settings.group("relay");
        let tail = Tail::start(&name, connection, &sources, move |tailed| reader.take(tailed))
            .context("reading the derived topics")?;
        Ok(Relay { tail, progress, names })
    }

    /// True if everything below `ends` has been read.
    pub fn has_read(&self, ends: &Ends) -> bool {
        let progress = self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.names.iter().all(|(name, topic)| {
            ends.get(name).into_iter().flatten().all(|(partition, end)| {
                let read = progress.get(&(*topic, *partition));
                end.get() == 0 || read.is_some_and(|r| r.next >= *end)
            })
        })
    }

    /// How far each partition has been read.
    pub fn positions(&self) -> BTreeMap<(Topic, PartitionId), NextOffset> {
        let progress = self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        progress.iter().map(|(at, read)| (*at, read.next)).collect()
    }

    /// How its reader is doing.
    pub fn health(&self) -> crate::kafka::health::Health {
        self.tail.health()
    }

    /// Why it stopped, if it failed.
    pub fn failure(&self) -> Option<String> {
        self.tail.failure().map(|e| e.to_string())
    }
}

struct Reader {
    names: BTreeMap<String, Topic>,
    schemas: Schemas,
    view: Arc<View>,
    progress: Progress,
}

impl Reader {
    /// Notes every partition as not read yet.
    fn expect(&self, connection: &Connection) -> anyhow::Result<usize> {
        let mut progress = self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (name, topic) in &self.names {
            for partition in 0..crate::kafka::client::partitions(connection, name)? {
                let read = Read { next: NextOffset::new(0), ended: None, behind: true };
                progress.insert((*topic, PartitionId::new(partition)), read);
            }
        }
        Ok(progress.len())
    }

    fn take(&self, tailed: Tailed<'_>) -> Go {
        match tailed {
            Tailed::Record(record) => {
                if let Some(topic) = self.names.get(record.topic) {
                    self.apply(*topic, &record);
                    self.note(*topic, record.partition, record.offset.next(), false);
                }
            }
            Tailed::End { topic, partition, next } => {
                if let Some(topic) = self.names.get(topic) {
                    self.note(*topic, partition, next, true);
                }
            }
        }
        Go::On
    }

    fn note(&self, topic: Topic, partition: PartitionId, next: NextOffset, end: bool) {
        let mut progress = self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(read) = progress.get_mut(&(topic, partition)) {
            read.next = read.next.max(next);
            read.behind = !end;
            if end {
                read.ended = Some(Moment::now());
            }
        }
        if end {
            let up = progress.values().all(|read| {
                read.ended.is_some_and(|at| !read.behind || at.elapsed() <= CAUGHT_UP_FOR)
            });
            self.view.set_caught_up(up);
        }
    }

    fn apply(&self, topic: Topic, record: &Record<'_>) {
        let decoded = match (topic, record.value) {
            (Topic::AlertsActive, None) => {
                let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
                Ok(Update::Active(key.into(), None))
            }
            (_, None) => return,
            (Topic::AlertsActive, Some(value)) => decode_alert(&self.schemas, value)
                .map(|a| Update::Active(a.fingerprint.clone(), Some(Box::new(a)))),
            (Topic::AlertEvents, Some(value)) => {
                decode_alert(&self.schemas, value).map(|a| Update::Alert(Box::new(a)))
            }
            (Topic::Live, Some(value)) => {
                decode_live(&self.schemas, value).map(|r| Update::Live(Box::new(r)))
            }
            (_, Some(value)) => {
                decode_window(&self.schemas, value).map(|r| Update::Window(Box::new(r)))
            }
        };
        match decoded {
            Ok(update) => self.view.apply(update),
            Err(error) => {
                let (topic, offset) = (record.topic, record.offset.get());
                tracing::warn!(topic, offset, ?error, "a derived record cannot be read");
            }
        }
    }
}

/// Pushes alerts until `stop` says so.
pub async fn push(
    settings: Settings,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let relay = &settings.relay;
    let targets = match Alertmanagers::new(relay.alertmanagers.clone()) {
        Ok(targets) => targets,
        Err(error) => {
            tracing::error!(%error, "alerts cannot be pushed: no HTTP client");
            return;
        }
    };
    if targets.is_empty() {
        return;
    }
    let external = format!("http://{}", settings.http.listen);
    let mut pusher = Pusher::new(PushSettings {
        resend_interval: relay.resend_interval,
        max_alert_age: relay.max_alert_age,
        external_url: relay.external_url.clone().unwrap_or(external),
    });
    let mut tick = tokio::time::interval(PUSH_EVERY);
    while !*stop.borrow() {
        tokio::select! {
            _ = tick.tick() => {}
            changed = stop.changed() => if changed.is_err() { return },
        }
        let now = clock::now();
        let planned = pusher.plan(&view, now);
        if planned.is_empty() {
            continue;
        }
        for (url, delivery) in targets.send(&planned).await {
            let result = match &delivery {
                Delivery::Ok => "ok",
                Delivery::Failed(reason) => {
                    tracing::warn!(url, reason, "an Alertmanager did not take alerts");
                    pusher.again(now);
                    "failed"
                }
            };
            let n = planned.len() as f64;
            metrics.add(Metric::AlertDeliveries, &["alertmanager", result], n);
        }
    }
}

/// Serves HTTP on `listen` until `stop` says so; answers the address that it listens on.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
    listen: &str,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    health: [Arc<dyn Fn() -> Health + Send + Sync>; 2],
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("{listen} cannot be listened on: set http.listen to another address")
    })?;
    let address = listener.local_addr()?;
    let [live, ready] = health;
    let shared = Shared { view, metrics, live, ready };
    let done = async move {
        while !*stop.borrow_and_update() {
            if stop.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, shared, done).await {
            tracing::error!(%error, "the HTTP side stopped");
        }
    });
    Ok(address)
}
