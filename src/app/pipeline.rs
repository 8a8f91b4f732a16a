//! The roles at work on one cluster: started downstream first, finished upstream first.
//!
//! Exactly once, every role goes on where its group's committed offsets and its changelog say. At least
//! once nothing is kept, so a run of all roles is self-contained: it reads the sources from their
//! configured start, and its internal topics from the end that they had when it began.

use super::configurations;
use super::ingest_parts::sources;
use super::observer::{SourceExport, ToMetrics};
use super::parts::Parts;
use super::registry;
use super::relay::{From, Relay};
use super::state_dir;
use super::tasks::context::Context as Tasks;
use super::tasks::ingest::Ingests;
use super::tasks::journey::Journeys;
use super::tasks::rollup::Rollups;
use crate::config::{self, DeliveryMode, IngestMode, Settings};
use crate::http::Health;
use crate::journey;
use crate::kafka::client::{self, Connection, Ends};
use crate::kafka::exactly::core::Identity;
use crate::kafka::group::{self, Assignment, Delivery, ExactlyOnce, Handle, Resume};
use crate::kafka::memory::MemoryBudget;
use crate::kafka::task::TaskFactory;
use crate::kafka::{Source, Start};
use crate::model::topic::Topic;
use crate::relay::view::View;
use crate::rollup;
use crate::telemetry::Metrics;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A role of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the crate's documentation says what each does")]
pub enum Role {
    Ingest,
    Journey,
    Rollup,
    Relay,
}

impl Role {
    /// All roles, upstream first.
    pub const ALL: [Role; 4] = [Role::Ingest, Role::Journey, Role::Rollup, Role::Relay];

    /// The role's name.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Journey => "journey",
            Role::Rollup => "rollup",
            Role::Relay => "relay",
        }
    }
}

/// Generation of all state: a reset starts another.
const GENERATION: u64 = 1;

/// Topics that the relay reads.
const RELAYED: [Topic; 4] =
    [Topic::AlertEvents, Topic::AlertsActive, Topic::Live, Topic::ChannelStage];

/// How far a bounded run is with ending.
pub struct Finishing {
    /// Roles that are not over, downstream first.
    left: Vec<Role>,
    /// Where the input of the last of them ends, once that is known.
    ends: Option<Ends>,
}

/// The running roles.
pub struct Pipeline {
    /// What the tasks share; its totals are those of the run.
    pub tasks: Arc<Tasks>,
    /// What the relay has read.
    pub view: Arc<View>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    connection: Connection,
    settings: Settings,
    workers: BTreeMap<Role, Handle>,
    memory: Arc<MemoryBudget>,
    relay: Option<Relay>,
    source_ends: Ends,
    exported: SourceExport,
    /// Why something stopped, once that was looked into.
    explained: OnceLock<String>,
}

impl Pipeline {
    /// Starts `roles`.
    ///
    /// # Errors
    /// If topics are missing or the cluster cannot be reached; the message says what to do.
    pub fn start(
        settings: &Settings,
        connection: &Connection,
        roles: &[Role],
    ) -> anyhow::Result<Pipeline> {
        let metrics = Arc::new(Metrics::new());
        let view = Arc::new(View::default());
        let direct = settings.ingest == IngestMode::Direct;
        let has = |role: Role| roles.contains(&role) && !(direct && role == Role::Ingest);
        let whole = Role::ALL.iter().all(|role| roles.contains(role));
        let keeps = settings.delivery.mode == DeliveryMode::ExactlyOnce;
        let needed = [Role::Journey, Role::Rollup].into_iter().filter(|role| keeps && has(*role));
        let mut kept: Vec<String> = needed.flat_map(|r| kept_topics(settings, r)).collect();
        if !kept.is_empty() {
            kept.push(settings.config_topic());
        }
        let sources = settings.sources.values().map(|s| s.topic.as_str());
        let ours = own_topics(settings, direct).into_iter();
        let all = sources.clone().chain(ours).chain(kept.iter().map(String::as_str));
        // One question for all of them: a start should be quick.
        let ends = ends_of(connection, all)?;
        let source_ends = sources.filter_map(|s| Some((s.to_owned(), ends.get(s)?.clone())));
        let source_ends: Ends = source_ends.collect();
        let (tasks, encoding, schemas) = registry::prepare(settings, &metrics)?;
        if !kept.is_empty() {
            // Before the first checkpoint under it.
            configurations::publish(settings, connection)?;
        }
        let mut pipeline = Pipeline {
            tasks: Arc::new(tasks),
            view: view.clone(),
            metrics,
            connection: connection.clone(),
            settings: settings.clone(),
            workers: BTreeMap::new(),
            memory: match settings.limits.memory_budget {
                Some(bytes) => MemoryBudget::watched(bytes)?,
                None => MemoryBudget::unlimited(),
            },
            relay: None,
            source_ends,
            exported: SourceExport::default(),
            explained: OnceLock::new(),
        };
        let alone = whole && !keeps;
        let assignment = if alone { Assignment::Fixed } else { Assignment::Group };
        let internal = |topic: Topic| {
            let name = settings.topic(topic);
            let start = match (alone, ends.get(name)) {
                (true, Some(ends)) => Start::At(ends.clone()),
                _ => Start::Earliest,
            };
            vec![Source::new(name, start)]
        };
        if has(Role::Relay) {
            let from = if alone { From::Ends(ends.clone()) } else { From::Beginning };
            pipeline.relay = Some(Relay::start(settings, connection, &from, schemas, view)?);
        }
        if has(Role::Rollup) {
            let factory = pipeline.rollups(&ends)?;
            pipeline.work(Role::Rollup, internal(Topic::Rollup), factory, assignment)?;
        }
        if has(Role::Journey) {
            let from = if direct { source_starts(settings) } else { internal(Topic::Canonical) };
            let factory = pipeline.journeys(&ends)?;
            pipeline.work(Role::Journey, from, factory, assignment)?;
        }
        if has(Role::Ingest) {
            let factory = pipeline.ingests(encoding, &ends)?;
            pipeline.work(Role::Ingest, source_starts(settings), factory, assignment)?;
        }
        Ok(pipeline)
    }

    fn work(
        &mut self,
        role: Role,
        from: Vec<Source>,
        factory: Arc<dyn TaskFactory>,
        assignment: Assignment,
    ) -> anyhow::Result<()> {
        let name = role.name();
        let group = self.settings.group(name);
        let mut settings = group::Settings::new(name, self.connection.clone(), group, from);
        let workers = self.settings.workers;
        settings.workers = match role {
            Role::Ingest => workers.ingest,
            Role::Journey => workers.journey,
            Role::Rollup | Role::Relay => workers.rollup,
        }
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        settings.assignment = assignment;
        settings.memory = self.memory.clone();
        if self.settings.delivery.mode == DeliveryMode::ExactlyOnce {
            settings.commit_interval = self.settings.delivery.commit_interval;
            settings.delivery = Delivery::ExactlyOnce(self.exactly_once(role)?);
        }
        settings.resume = match role {
            Role::Ingest => Resume::AtPosition,
            _ => Resume::AtStart,
        };
        let observer = Arc::new(ToMetrics::new(self.metrics.clone()));
        let handle = group::start(settings, factory, observer)
            .with_context(|| format!("starting the role {name}"))?;
        self.workers.insert(role, handle);
        Ok(())
    }

    fn exactly_once(&self, role: Role) -> anyhow::Result<ExactlyOnce> {
        let delivery = &self.settings.delivery;
        let input = match role {
            Role::Journey => Some(self.journey_input()?.to_owned()),
            Role::Rollup => Some(self.settings.topic(Topic::Rollup).to_owned()),
            Role::Ingest | Role::Relay => None,
        };
        let input_partitions = match &input {
            Some(topic) => client::partitions(&self.connection, topic)?,
            None => 0,
        };
        let named = self.settings.app.instance.as_deref().map(str::to_owned);
        let instance = named.unwrap_or_else(host_name);
        Ok(ExactlyOnce {
            local: input.as_ref().and_then(|_| state_dir::open(&self.settings, role, &instance)),
            instance,
            changelog: input.as_ref().map(|_| self.settings.changelog(role.name())),
            inputs: input.map(|_| self.settings.inputs(role.name())),
            identity: Identity {
                generation: GENERATION,
                fold_version: match role {
                    Role::Rollup => rollup::FOLD_VERSION,
                    _ => journey::FOLD_VERSION,
                },
                fingerprint: self.settings.fold_fingerprint(),
                input_partitions,
            },
            checkpoint_interval: delivery.checkpoint_interval,
            static_membership: delivery.static_membership,
            standby_replicas: delivery.standby_replicas,
        })
    }

    /// The topic that journey tasks read.
    fn journey_input(&self) -> anyhow::Result<&str> {
        match self.settings.ingest {
            IngestMode::Canonical => Ok(self.settings.topic(Topic::Canonical)),
            IngestMode::Direct => match self.settings.sources.values().next() {
                Some(source) => Ok(&source.topic),
                None => bail!("there is no source: name one under sources"),
            },
        }
    }

    fn journey_partitions(&self, ends: &Ends) -> anyhow::Result<i32> {
        let name = self.journey_input()?;
        count(ends.get(name), name)
    }

    fn parts(&self, ends: &Ends) -> anyhow::Result<Parts> {
        let mut parts = Parts::new(&self.settings);
        parts.set_direct(self.settings.ingest == IngestMode::Direct);
        let name = self.settings.topic(Topic::Rollup);
        parts.rollup_partitions = count(ends.get(name), name)?;
        Ok(parts)
    }

    fn rollups(&self, ends: &Ends) -> anyhow::Result<Arc<dyn TaskFactory>> {
        Ok(Arc::new(Rollups {
            context: self.tasks.clone(),
            parts: self.parts(ends)?,
            journey_partitions: self.journey_partitions(ends)?,
        }))
    }

    fn journeys(&self, ends: &Ends) -> anyhow::Result<Arc<dyn TaskFactory>> {
        let direct = self.settings.ingest == IngestMode::Direct;
        let source = self.settings.sources.keys().next().map(ToString::to_string);
        Ok(Arc::new(Journeys {
            context: self.tasks.clone(),
            parts: self.parts(ends)?,
            partitions: self.journey_partitions(ends)?,
            direct: source.filter(|_| direct),
            idle_timeout: self.settings.time.idle_timeout,
            max_bytes: self.settings.limits.record_bytes,
        }))
    }

    fn ingests(
        &self,
        encoding: super::tasks::ingest::CanonicalEncoding,
        ends: &Ends,
    ) -> anyhow::Result<Arc<dyn TaskFactory>> {
        let name = self.settings.topic(Topic::Canonical);
        let of = self.source_ends.values().map(BTreeMap::len).sum::<usize>();
        Ok(Arc::new(Ingests {
            context: self.tasks.clone(),
            sources: sources(&self.settings).map_err(anyhow::Error::msg)?,
            canonical_partitions: count(ends.get(name), name)?,
            of: u32::try_from(of).context("too many source partitions")?,
            idle_timeout: self.settings.time.idle_timeout,
            max_drift: self.settings.time.max_drift,
            encoding,
            max_bytes: self.settings.limits.record_bytes,
            reports: Arc::default(),
        }))
    }

    /// The workers of a role, if it runs here.
    pub fn workers(&self, role: Role) -> Option<&Handle> {
        self.workers.get(&role)
    }

    /// The relay, if it runs here.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// True if a role went on from where an earlier process left it.
    pub fn has_resumed(&self) -> bool {
        self.workers.values().any(Handle::has_resumed)
    }

    /// Why something stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        let workers = self.workers.values().find_map(Handle::failure);
        let workers = workers.map(|error| {
            let explain = || configurations::explained(&self.settings, &self.connection, &error);
            self.explained.get_or_init(explain).clone()
        });
        workers.or_else(|| self.relay.as_ref().and_then(Relay::failure))
    }

    /// Brings counters up to date that are not counted where things happen.
    pub fn export(&mut self) {
        self.exported.export(&self.tasks.totals(), &self.metrics);
    }

    /// Takes the ends of the sources anew: what is there now is to be read before the run ends.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    pub fn expect_sources(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let topics = settings.sources.values().map(|s| s.topic.as_str());
        self.source_ends = ends_of(&self.connection, topics)?;
        Ok(())
    }

    /// A bounded run, before its first step.
    pub fn finishing(&self) -> Finishing {
        let all = [Role::Relay, Role::Rollup, Role::Journey, Role::Ingest];
        let here = |role: &Role| *role == Role::Relay || self.workers.contains_key(role);
        Finishing { left: all.into_iter().filter(here).collect(), ends: None }
    }

    /// Goes on with ending the run: each role in turn is told where its input ends, once the role
    /// before it is over. True once everything that was in the sources at the start has passed through
    /// all roles. Does not wait.
    ///
    /// # Errors
    /// If something failed.
    pub fn advance(&self, finishing: &mut Finishing) -> anyhow::Result<bool> {
        if let Some(reason) = self.failure() {
            bail!("{reason}");
        }
        let Some(role) = finishing.left.last().copied() else { return Ok(true) };
        let direct = self.settings.ingest == IngestMode::Direct;
        let ends = match &finishing.ends {
            Some(ends) => ends,
            None => {
                let names: Vec<&str> = match role {
                    Role::Ingest => Vec::new(),
                    Role::Journey if direct => Vec::new(),
                    Role::Journey => vec![self.settings.topic(Topic::Canonical)],
                    Role::Rollup => vec![self.settings.topic(Topic::Rollup)],
                    Role::Relay => RELAYED.iter().map(|t| self.settings.topic(*t)).collect(),
                };
                let ends = match names.is_empty() {
                    true => self.source_ends.clone(),
                    false => client::all_written_ends(&self.connection, names)?,
                };
                if let Some(handle) = self.workers.get(&role) {
                    handle.finish_at(&ends);
                }
                finishing.ends.insert(ends)
            }
        };
        let over = match role {
            Role::Relay => self.relay.as_ref().is_none_or(|relay| relay.has_read(ends)),
            _ => self.workers.get(&role).is_none_or(Handle::is_over),
        };
        if over {
            finishing.left.pop();
            finishing.ends = None;
        }
        Ok(finishing.left.is_empty())
    }

    /// Stops all workers and waits for them, upstream first.
    ///
    /// # Errors
    /// What failed first.
    pub fn stop(mut self) -> anyhow::Result<()> {
        for (_, handle) in std::mem::take(&mut self.workers) {
            handle.stop();
            handle.join()?;
        }
        Ok(())
    }

    /// What `/healthz` says: the workers run, are connected, and no transaction keeps readers waiting.
    pub fn is_live(&self) -> Health {
        if let Some(reason) = self.failure() {
            return Health::Not(reason);
        }
        let cut_off = self.workers.values().find(|w| w.health().is_cut_off());
        if let Some(handle) = cut_off {
            return Health::Not(format!("{}: no broker can be reached", handle.role()));
        }
        let relayed = self.relay.iter().map(|relay| ("relay", relay.health()));
        let all = self.workers.values().map(|w| (w.role(), w.health())).chain(relayed);
        for (role, health) in all {
            if let Some(standing) = health.standing() {
                return Health::Not(format!("{role}: {standing}"));
            }
        }
        Health::Ok
    }

    /// What `/readyz` says: partitions are assigned, their state is back, and the relay has read its
    /// topics to the end.
    pub fn is_ready(&self) -> Health {
        if let Health::Not(reason) = self.is_live() {
            return Health::Not(reason);
        }
        for handle in self.workers.values() {
            let (role, progress) = (handle.role(), handle.progress());
            let owned = progress.values().filter(|p| p.owned).count();
            if owned == 0 {
                let why = handle.health().complaint.map_or(String::new(), |c| format!(" ({c})"));
                return Health::Not(format!("{role}: no partition is assigned yet{why}"));
            }
            let restoring = progress.values().filter(|p| p.owned && p.restoring).count();
            if restoring > 0 {
                return Health::Not(format!(
                    "{role}: the state of {restoring} of {owned} partitions is not back yet"
                ));
            }
        }
        match self.relay.is_some() && !self.view.is_caught_up() {
            true => Health::Not("the relay has not read its topics to the end yet".to_owned()),
            false => Health::Ok,
        }
    }
}

/// Topics beside the log of a role: its state, and what it took besides.
pub(super) fn kept_topics(settings: &Settings, role: Role) -> [String; 2] {
    [settings.changelog(role.name()), settings.inputs(role.name())]
}

/// The name of this host, as the kernel has it.
fn host_name() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    match named.trim() {
        "" => "local".to_owned(),
        name => name.to_owned(),
    }
}

/// Ends of topics now.
///
/// # Errors
/// If one is missing: the message names the command that creates it.
pub fn ends_of<'t>(
    connection: &Connection,
    topics: impl IntoIterator<Item = &'t str>,
) -> anyhow::Result<Ends> {
    client::all_end_offsets(connection, topics)
        .context("a topic cannot be used; `touchline topics apply` creates our own topics")
}

fn own_topics(settings: &Settings, direct: bool) -> Vec<&str> {
    let needed = Topic::ALL.iter().filter(|t| !(direct && **t == Topic::Canonical));
    needed.map(|topic| settings.topic(*topic)).collect()
}

fn source_starts(settings: &Settings) -> Vec<Source> {
    let sources = settings.sources.values();
    sources
        .map(|source| {
            let start = match source.start {
                config::Start::Earliest => Start::Earliest,
                config::Start::Latest => Start::Latest,
                config::Start::Time(at) => Start::Time(at),
            };
            Source::new(&source.topic, start)
        })
        .collect()
}

fn count<K, V>(partitions: Option<&BTreeMap<K, V>>, topic: &str) -> anyhow::Result<i32> {
    match partitions {
        Some(partitions) if !partitions.is_empty() => Ok(i32::try_from(partitions.len())?),
        _ => bail!("topic {topic} has no partitions: `touchline topics apply` creates it"),
    }
}
