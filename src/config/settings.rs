//! The configuration as the program uses it: typed, complete, validated.

use super::mapping::MappingFile;
use super::units::Start;
use crate::model::dimension::Dimension;
use crate::model::record::{Severity, Transition};
use crate::model::taxonomy::Taxonomy;
use crate::model::time::Millis;
use crate::model::topic::Topic;
use crate::rollup::alerts::Bound;
use compact_str::CompactString;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Everything that a configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this application is on the cluster.
    pub app: AppSettings,
    /// Properties of librdkafka, by name.
    pub kafka: BTreeMap<String, String>,
    /// Schema registry.
    pub registry: RegistrySettings,
    /// Whether the role ingest runs.
    pub ingest: IngestMode,
    /// Sources by name.
    pub sources: BTreeMap<CompactString, SourceSettings>,
    /// Our own topics; every one is there.
    pub topics: BTreeMap<Topic, TopicSettings>,
    /// What is promised about restarts.
    pub delivery: DeliverySettings,
    /// Slices, lateness, bounds.
    pub time: TimeSettings,
    /// Sessions.
    pub sessions: SessionSettings,
    /// Checkouts and carts.
    pub checkout: CheckoutSettings,
    /// Repeats.
    pub deduplication: DeduplicationSettings,
    /// Customers.
    pub identity: IdentitySettings,
    /// Windows and series.
    pub figures: FigureSettings,
    /// Reports of journey tasks.
    pub flush: FlushSettings,
    /// Bounds against hostile input.
    pub limits: LimitSettings,
    /// The words of the business.
    pub taxonomy: Taxonomy,
    /// What the taxonomy's file says of each touchpoint besides.
    pub register: BTreeMap<CompactString, RegisterEntry>,
    /// Alerts that are enabled, by name.
    pub rules: BTreeMap<CompactString, RuleSettings>,
    /// Where alerts go.
    pub relay: RelaySettings,
    /// Metrics, API, page.
    pub http: HttpSettings,
    /// Threads.
    pub workers: WorkerSettings,
    pub(super) effective: String,
    pub(super) folded: String,
}

impl Settings {
    /// The effective configuration as YAML, with secrets masked.
    pub fn effective_yaml(&self) -> &str {
        &self.effective
    }

    /// Name of one of our topics.
    pub fn topic(&self, topic: Topic) -> &str {
        self.topics.get(&topic).map_or(topic.default_name(), |t| &t.name)
    }

    /// Topic that keeps the state of a role: `<app>.<role>.changelog`.
    pub fn changelog(&self, role: &str) -> String {
        format!("{}.{role}.changelog", self.app.name)
    }

    /// Topic that tells which side inputs a role took: `<app>.<role>.inputs`.
    pub fn inputs(&self, role: &str) -> String {
        format!("{}.{role}.inputs", self.app.name)
    }

    /// Topic that keeps what the folds have seen of configurations, by fingerprint: `<app>.config`.
    pub fn config_topic(&self) -> String {
        format!("{}.config", self.app.name)
    }

    /// What the folds see of the configuration, as YAML.
    pub fn fold_text(&self) -> &str {
        &self.folded
    }

    /// Fingerprint of everything that the folds see of the configuration.
    pub fn fold_fingerprint(&self) -> u128 {
        let Settings { ingest, time, sessions, checkout, deduplication, identity, .. } = self;
        let Settings { figures, flush, taxonomy, register, rules, .. } = self;
        let bounds: Vec<_> =
            self.sources.iter().map(|(name, s)| (name, s.max_out_of_orderness)).collect();
        let seen = (ingest, time, sessions, checkout, deduplication, identity, figures, flush);
        let text = format!("{seen:?} {taxonomy:?} {register:?} {rules:?} {bounds:?}");
        xxhash_rust::xxh3::xxh3_128(text.as_bytes())
    }

    /// Consumer group of a role: `<app>.<role>`.
    pub fn group(&self, role: &str) -> String {
        format!("{}.{role}", self.app.name)
    }
}

/// Section `app`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppSettings {
    /// Begins the names of consumer groups and internal topics.
    pub name: CompactString,
    /// This process among those of the application; `None`: the host's name.
    pub instance: Option<CompactString>,
}

/// Section `delivery`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliverySettings {
    /// Transactions and state, or neither.
    pub mode: DeliveryMode,
    /// Time between two commits.
    pub commit_interval: Millis,
    /// Time between two checkpoints of a partition's state.
    pub checkpoint_interval: Millis,
    /// Whether a restart within the session keeps its partitions.
    pub static_membership: bool,
    /// Other workers that keep a copy of a partition's state warm.
    pub standby_replicas: usize,
    /// Where a copy of the state is kept for a quick restart.
    pub state_dir: StateDir,
}

/// Where a process keeps a copy of its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateDir {
    /// Where the system has its caches.
    Auto,
    /// Nowhere.
    None,
    /// Below this directory.
    Path(PathBuf),
}

/// What is promised about restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// Inputs, outputs and state move on together: a restart changes nothing.
    ExactlyOnce,
    /// Nothing is kept across restarts; every run starts where the configuration says.
    AtLeastOnce,
}

/// Section `registry`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegistrySettings {
    /// Address; `None` if there is no registry.
    pub url: Option<String>,
    /// User for basic authentication.
    pub username: Option<String>,
    /// Password for basic authentication.
    pub password: Option<String>,
    /// Writer schemas from files, by id.
    pub schemas: BTreeMap<u32, SchemaFile>,
}

/// A writer schema from a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What `ingest` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IngestMode {
    /// The role runs and writes `touchpoints.canonical`.
    #[default]
    Canonical,
    /// The role is skipped: the one source is canonical and keyed by customer.
    Direct,
}

/// What a source's records are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// The canonical form as Avro in the Confluent wire format.
    CanonicalAvro,
    /// The canonical form as JSON.
    #[default]
    CanonicalJson,
    /// Foreign JSON, through a mapping file.
    MappedJson,
}

/// One entry of `sources`.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceSettings {
    /// Topic to read.
    pub topic: String,
    /// What its records are.
    pub format: Format,
    /// The mapping; there for [`Format::MappedJson`] and for nothing else.
    pub mapping: Option<MappingFile>,
    /// Where to begin.
    pub start: Start,
    /// Bound for disorder of one partition.
    pub max_out_of_orderness: Millis,
    /// Tenant of touchpoints that name none.
    pub tenant: CompactString,
}

/// One entry of `topics`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// Name of the topic.
    pub name: String,
    /// Partitions.
    pub partitions: i32,
    /// Copies of each partition (the same for all topics).
    pub replication_factor: i32,
    /// True for `cleanup: compact`.
    pub compact: bool,
    /// How long records are kept; `None`: for ever.
    pub retention: Option<Millis>,
}

/// Section `time`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct TimeSettings {
    pub slice: Millis,
    pub allowed_lateness: Millis,
    pub outage_tolerance: Millis,
    pub idle_timeout: Millis,
    pub max_future_skew: Millis,
    pub max_age: Millis,
    pub max_drift: Millis,
}

/// What decides sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionBy {
    /// The gap between events.
    #[default]
    Gap,
    /// The source's own session ids; the gap where there is none.
    Source,
}

/// Section `sessions`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSettings {
    /// Quiet after which a session has ended.
    pub gap: Millis,
    /// Other gaps by channel.
    pub channel_gaps: BTreeMap<CompactString, Millis>,
    /// What decides.
    pub by: SessionBy,
    /// Steps in a session's published path at most.
    pub path: usize,
}

/// Section `checkout`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct CheckoutSettings {
    pub t_checkout: Millis,
    pub carts: bool,
    pub t_cart: Millis,
    pub t_pending: Millis,
    pub t_merge: Millis,
    pub max_checkout_age: Millis,
    pub max_recovery: Millis,
    pub channels: BTreeMap<CompactString, ChannelCheckout>,
    pub transitions: BTreeSet<Transition>,
}

/// Other times of one channel; `None`: as everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct ChannelCheckout {
    pub t_checkout: Option<Millis>,
    pub t_cart: Option<Millis>,
}

/// Section `deduplication`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeduplicationSettings {
    /// Event time within which a repeated id is a repeat.
    pub window: Millis,
    /// Ids remembered per customer; 0: repeats are not looked for.
    pub ids: usize,
}

/// Section `identity`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentitySettings {
    /// Ids that name nobody, in lower case.
    pub degenerate_ids: Vec<CompactString>,
    /// Whether anything is kept per customer.
    pub follow_customers: bool,
}

/// A rolling window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowSettings {
    /// Its length.
    pub length: Millis,
    /// How often it is reported.
    pub slide: Millis,
}

/// Whose money `value` sums up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ValueOf {
    /// Orders, each once.
    #[default]
    Orders,
    /// Every event.
    Events,
}

/// Section `figures`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FigureSettings {
    /// Rolling windows, shortest first.
    pub windows: Vec<WindowSettings>,
    /// Sets of dimensions besides the total, each sorted, none twice.
    pub dimensions: Vec<Vec<Dimension>>,
    /// Values per dimension.
    pub dimension_cap: usize,
    /// Whose money.
    pub value_of: ValueOf,
    /// Whether distinct customers are counted.
    pub distinct_customers: bool,
}

/// Section `flush`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushSettings {
    /// Event time between two flushes within a slice.
    pub interval: Millis,
    /// Records between two flushes within a slice.
    pub records: u64,
}

/// Section `limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitSettings {
    /// Largest record that is decoded.
    pub record_bytes: usize,
    /// Deepest nesting that is decoded.
    pub json_depth: usize,
    /// Resident bytes that the process is to stay below.
    pub memory_budget: Option<u64>,
}

/// What the taxonomy's file says of a touchpoint besides owner and runbook.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegisterEntry {
    /// What people call it.
    pub title: CompactString,
    /// Department that answers for it.
    pub owner: CompactString,
    /// Address of what to do when it fails; empty if none.
    pub runbook: CompactString,
    /// What customers expect of it.
    pub expectations: Vec<CompactString>,
}

/// One entry of `rules`.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleSettings {
    /// Name of the alert.
    pub name: CompactString,
    /// How it is noticed.
    pub detector: DetectorSettings,
    /// How bad it is.
    pub severity: Severity,
    /// Team that gets it.
    pub owner: CompactString,
    /// Address of what to do about it; empty if none.
    pub runbook: CompactString,
    /// One line for people; names in braces are filled in.
    pub summary: String,
    /// Sets of dimensions, each sorted, as they were written; the empty one is the total.
    pub scopes: Vec<Vec<Dimension>>,
    /// Suspicious evaluations that make it fire: so many …
    pub enter_k: u32,
    /// … of the last so many.
    pub enter_of: u32,
    /// Evaluations in a row that end it.
    pub leave: u32,
    /// What returns within it belongs to the same episode.
    pub merge_gap: Millis,
    /// Time after the end in which no new episode opens.
    pub cool_down: Millis,
    /// Below this share of complete partitions nothing is judged.
    pub min_completeness: f64,
}

/// A detector with its parameters.
#[derive(Clone, PartialEq, Debug)]
pub enum DetectorSettings {
    /// A ratio over mature cohorts against its trailing baseline.
    RatioSpike(RatioSpike),
    /// A gap that the trailing rate makes unlikely.
    Silence(Silence),
    /// More or fewer events than a bound.
    Threshold(Threshold),
}

/// The ratios that a rule can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ratio {
    /// Abandoned checkouts among those started and decided.
    #[default]
    CheckoutAbandonment,
}

/// Parameters of `ratio_spike`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct RatioSpike {
    pub ratio: Ratio,
    pub window: Millis,
    pub over: u32,
    pub min_sample: i64,
    pub min_effect: f64,
    pub min_relative: f64,
    pub alpha: f64,
    pub alpha_suspicious: f64,
    pub learning: Learning,
}

/// How a baseline learns.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct Learning {
    pub half_life: Millis,
    pub min_windows: i64,
    pub min_decided: i64,
    pub relearn_after: Millis,
}

/// Parameters of `silence`.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "config/default.yaml says what each key means")]
pub struct Silence {
    pub min_gap: Millis,
    pub max_gap: Millis,
    pub chance: f64,
    pub horizon: Millis,
    pub min_history: Millis,
}

/// Parameters of `threshold`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Threshold {
    /// `above` or `below`.
    pub bound: Bound,
    /// Length of the window.
    pub window: Millis,
}

/// Section `relay`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelaySettings {
    /// Every Alertmanager instance; none: nothing is pushed.
    pub alertmanagers: Vec<String>,
    /// How often a firing alert is pushed again.
    pub resend_interval: Millis,
    /// An older alert is recorded, not pushed.
    pub max_alert_age: Millis,
    /// Address under which people reach the page.
    pub external_url: Option<String>,
}

/// Section `http`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpSettings {
    /// Address and port.
    pub listen: String,
}

/// Section `workers`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "threads of the role of that name; `None`: one per core")]
pub struct WorkerSettings {
    pub ingest: Option<usize>,
    pub journey: Option<usize>,
    pub rollup: Option<usize>,
}
