//! One world from a seed: workers, brokers and groups, interleaved step by step, and what goes wrong.

use super::broker::{self, Broker, Entry, Log, Offsets, State, Txn};
use super::env::{Env, Odds};
use super::folds::{ALERTS, Event, FACTS, Flush, REPARTITION, WINDOWS};
use super::group::Group;
use super::oracle::Oracle;
use super::real::{self, Real};
use super::rng::Rng;
use super::worker::{Exit, INPUTS, Kind, NO_LAST_COMMIT, Plan, ROLLUPS, Worker, changelog, inputs};
use std::collections::BTreeMap;
use std::sync::Arc;
use touchline::codec::checkpoint::{CHECKPOINT_KEY, IDENTITY_KEY};
use touchline::codec::flush;
use touchline::engine::mutation::Mutation;
use touchline::engine::state::{decode, encode};
use touchline::kafka::TopicPartition;
use touchline::model::ids::PartitionId;
use touchline::model::topic::Topic;

pub(crate) const INPUT: &str = "touchpoints";
const WORKERS: usize = 3;
const SESSION: i64 = 1_200;
const REBALANCE_WITHIN: i64 = 900;
const TXN_TIMEOUT: i64 = 2_000;
const CHAOS_UNTIL: i64 = 16_000;
/// Damage that has found nothing to destroy before comes late, and chaos goes on until then.
const DAMAGE_UNTIL: i64 = 40_000;
/// Nothing may take longer than this once faults are over.
const PATIENCE: i64 = 40_000;
/// How often all may have to come back to leave as they should.
const LEAVES_MOST: usize = 5;
const KEYS: usize = 14;
/// Seeds from here on run the tasks of the product itself.
pub(crate) const REAL_FROM: u64 = 1_000_000;

/// Faults that must happen in enough worlds; what else happens is counted, too.
#[cfg(feature = "mutations")]
pub(crate) const FAULTS: &[&str] = &[
    "crash between commits",
    "crash before a commit",
    "crash while producing",
    "crash before the offsets",
    "crash between offsets and commit",
    "crash after a commit, before its report",
    "crash with an unknown outcome",
    "lost request",
    "lost response to produce, repeated",
    "lost response to offsets, repeated",
    "lost response to end, repeated",
    "unknown outcome, committed",
    "unknown outcome, not committed",
    "output not delivered in time",
    "fenced producer",
    "offsets of a stale member refused",
    "zombie woke after its partitions had moved",
    "idle zombie woke after its partitions had moved",
    "idle zombie ticks",
    "joined anew without a word",
    "joined under another name",
    "rebalance in the middle of a batch",
    "rebalance in the middle of a restore",
    "rebalance in the middle of a checkpoint",
    "a record in part",
    "the rest of a record is folded before a revocation",
    "restart in the middle of a record",
    "slow broker",
    "transaction timed out",
    "clock jumped",
    "standby promoted",
    "restored from a local copy",
    "a local copy was behind",
    "local copy lost",
    "changelog compacted",
    "changelog not stable at a restore",
    "committed offset not stable",
    "coordinator knows no offset for a moment",
    "task waits",
    "configuration switched",
    "flush repeated",
    "flush of another generation, or a gap",
    "input truncated",
    "input created anew",
    "changelog truncated",
    "committed offsets expired",
    "partitions added",
    "stopped with a clear message",
];

/// What is special about a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scenario {
    Plain,
    ConfigSwitch,
    RepeatedFlush,
    InputTruncated,
    InputRecreated,
    ChangelogTruncated,
    ChangelogRecreated,
    OffsetsExpired,
    PartitionsAdded,
    ForeignFlush,
}

impl Scenario {
    fn of(seed: u64) -> Scenario {
        match seed % 16 {
            0..=4 => Scenario::Plain,
            5 => Scenario::ChangelogRecreated,
            6..=8 => Scenario::ConfigSwitch,
            9 => Scenario::RepeatedFlush,
            10 => Scenario::InputTruncated,
            11 => Scenario::InputRecreated,
            12 => Scenario::ChangelogTruncated,
            13 => Scenario::OffsetsExpired,
            14 => Scenario::PartitionsAdded,
            _ => Scenario::ForeignFlush,
        }
    }

    /// What a worker must say when it stops, if one must stop.
    fn ends_with(self) -> &'static [&'static str] {
        match self {
            Scenario::Plain | Scenario::ConfigSwitch | Scenario::RepeatedFlush => &[],
            Scenario::InputTruncated => &["its oldest record is"],
            Scenario::InputRecreated => &["or the input was created anew"],
            Scenario::ChangelogTruncated | Scenario::ChangelogRecreated => &[
                "its changelog lacks the checkpoint",
                "its changelog begins at",
                "its changelog was deleted",
            ],
            Scenario::OffsetsExpired => &["there is state, but no committed offset"],
            Scenario::PartitionsAdded => &["keys are in other partitions"],
            Scenario::ForeignFlush => {
                &["foreign generation", "gap: ", "misses flushes", "and expects 1: reset the roles"]
            }
        }
    }
}

/// What a world was like.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cover: BTreeMap<&'static str, u64>,
    pub(crate) checked: usize,
    pub(crate) commits: usize,
    pub(crate) alerts: usize,
}

struct Seat {
    plan: Plan,
    worker: Option<Worker>,
    back_at: i64,
}

struct World {
    kind: Kind,
    env: Env,
    oracle: Oracle,
    seats: Vec<Seat>,
    /// Stopped processes whose name somebody else has.
    zombies: Vec<Worker>,
    scenario: Scenario,
    /// How eager markers are, per thousand.
    markers: u64,
    /// No input comes to a partition before.
    quiet_until: [i64; INPUTS as usize],
    damage_at: i64,
    damaged: bool,
    mutation: Option<Mutation>,
}

fn with_mutation(mutation: Option<Mutation>) {
    #[cfg(feature = "mutations")]
    touchline::engine::mutation::activate(mutation);
    #[cfg(not(feature = "mutations"))]
    assert!(mutation.is_none(), "mutations are not built in");
}

/// Runs the world of a seed. The error says what is wrong with it.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, trace: bool) -> Result<Report, String> {
    let mut world = World::new(seed, mutation, trace);
    with_mutation(mutation);
    let result = world.run();
    with_mutation(None);
    result.map(|checked| Report {
        checked,
        commits: world.env.facts.len(),
        alerts: world.alerts(),
        cover: world.env.cover,
    })
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>, trace: bool) -> World {
        let (seed, is_real) = (seed % REAL_FROM, seed >= REAL_FROM);
        let mut rng = Rng::new(seed);
        let mut broker = Broker::default();
        let topics = [
            (INPUT, INPUTS),
            (FACTS, 2),
            (REPARTITION, ROLLUPS),
            (WINDOWS, 2),
            (ALERTS, 1),
            (&changelog(0), INPUTS),
            (&changelog(1), ROLLUPS),
            (&inputs(0), INPUTS),
            (&inputs(1), ROLLUPS),
        ];
        let real = real::WRITES.iter().flat_map(|topics| topics.iter());
        let real = real.map(|topic| (topic.default_name(), 2));
        for (name, count) in topics.into_iter().chain(real) {
            let logs = (0..count).map(|_| Log::default()).collect();
            broker.topics.insert(name.into(), broker::Topic { id: 1, logs });
        }
        broker.offsets = vec![Offsets::default(), Offsets::default()];
        let all = |topic: &str, count: i32| {
            (0..count).map(|p| TopicPartition::new(topic, PartitionId::new(p))).collect()
        };
        let groups = vec![Group::new(all(INPUT, INPUTS)), Group::new(all(REPARTITION, ROLLUPS))];
        let kind = if is_real { Kind::Real(Arc::new(Real::new())) } else { Kind::Small };
        let mut seats = Vec::new();
        for stage in 0..2 {
            for number in 0..WORKERS {
                let plan = Plan {
                    kind: kind.clone(),
                    stage,
                    txn_id: format!("{}-{number}-0", ["visits", "totals"][stage]),
                    // Copies are kept in every third world.
                    standbys: usize::from(seed % 3 == 1),
                    forgetful: seed % 4 == 2,
                    config: 1,
                    generation: 1,
                    input_partitions: [INPUTS, ROLLUPS][stage],
                };
                seats.push(Seat { plan, worker: None, back_at: rng.range(0, 600) });
            }
        }
        // Some worlds have few faults, so that they get far between them.
        let level = [0, 1, 2, 4][rng.below(4)];
        let odds = Odds {
            lost: 15 * level,
            abort: level,
            unknown: 12 * level,
            refuse: 30 * level,
            forget: 40 * level,
        };
        broker.offsets_first = rng.permille(500);
        let markers = [50, 150, 500, 900][rng.below(4)];
        let damage_at = rng.range(8_000, 13_000);
        let env = Env {
            broker,
            groups,
            rng,
            time: 0,
            odds,
            slow_until: 0,
            waits_until: 0,
            cover: BTreeMap::new(),
            disks: BTreeMap::new(),
            facts: BTreeMap::new(),
            trace,
        };
        World {
            env,
            oracle: Oracle::new(&kind),
            kind,
            seats,
            zombies: Vec::new(),
            scenario: Scenario::of(seed),
            markers,
            quiet_until: [0; INPUTS as usize],
            damage_at,
            damaged: false,
            mutation,
        }
    }

    fn run(&mut self) -> Result<usize, String> {
        let until = |world: &World| if world.damaged { CHAOS_UNTIL } else { DAMAGE_UNTIL };
        while self.env.time < until(self) {
            self.step(true)?;
            if self.env.time > self.damage_at && !self.damaged {
                if !self.is_worth_damage() {
                    self.damage_at = self.env.time + 500;
                    continue;
                }
                self.damaged = true;
                if self.damage()? {
                    return self.wait_for_failure();
                }
            }
        }
        self.calm_down();
        self.wait("everything is folded", |world| world.is_settled(0))?;
        self.leave(0)?;
        self.wait("everything is rolled up", |world| world.is_settled(1))?;
        self.leave(1)?;
        self.wait("all markers are there", |world| {
            world.env.broker.txns.iter().all(|t| t.state == State::Complete)
        })?;
        with_mutation(None);
        let checked = self.oracle.check_topics(&self.env.broker)?;
        self.oracle.check_states(&self.env.broker)?;
        self.oracle.check_conservation(&self.env)?;
        self.oracle.check_whole(&self.env.broker)?;
        Ok(checked)
    }

    /// Alerts that were said.
    fn alerts(&self) -> usize {
        let count = |(topic, partition): (&str, i32)| {
            let at = TopicPartition::new(topic, PartitionId::new(partition));
            self.env.broker.committed(&at).count()
        };
        let events = Topic::AlertEvents.default_name();
        [(ALERTS, 0), (events, 0), (events, 1)].into_iter().map(count).sum()
    }

    /// All stop as they should; who had to go without a last commit comes back and stops again.
    fn leave(&mut self, stage: usize) -> Result<(), String> {
        for _ in 0..LEAVES_MOST {
            let before = self.env.cover.get(NO_LAST_COMMIT).copied();
            for seat in self.seats.iter_mut().filter(|seat| seat.plan.stage == stage) {
                seat.back_at = i64::MAX;
                if let Some(worker) = &mut seat.worker {
                    worker.stop();
                }
            }
            self.wait("all have left", |world| {
                world.seats.iter().all(|seat| seat.plan.stage != stage || seat.worker.is_none())
            })?;
            if self.env.cover.get(NO_LAST_COMMIT).copied() == before {
                return Ok(());
            }
            self.wake(stage);
            self.wait("those who are back stand as before", |world| world.is_settled(stage))?;
        }
        Err(format!("blocked: {LEAVES_MOST} times somebody had to leave without a last commit"))
    }

    fn wait(&mut self, what: &str, is_done: impl Fn(&World) -> bool) -> Result<(), String> {
        let since = self.env.time;
        while !is_done(self) {
            self.step(false)?;
            if self.env.time > since + PATIENCE {
                let workers: Vec<String> = self
                    .seats
                    .iter()
                    .filter_map(|seat| seat.worker.as_ref().map(Worker::describe))
                    .collect();
                return Err(format!("blocked: waited until {what}\n{}", workers.join("\n")));
            }
        }
        Ok(())
    }

    /// Committed up to what is stable, by a group in order.
    fn is_settled(&self, stage: usize) -> bool {
        let (topic, count) = [(INPUT, INPUTS), (REPARTITION, ROLLUPS)][stage];
        let seats = self.seats.iter().filter(|seat| seat.plan.stage == stage);
        let workers: Vec<Option<&Worker>> = seats.map(|seat| seat.worker.as_ref()).collect();
        let calm = workers.iter().all(|w| w.is_some_and(|w| w.exit.is_none()));
        // A partition that nobody has restored gets no checkpoint when all leave.
        let restored: usize = workers.iter().flatten().map(|w| w.restored()).sum();
        calm && restored == count as usize
            && self.env.groups[stage].is_settled()
            && (0..count).all(|partition| {
                let at = TopicPartition::new(topic, PartitionId::new(partition));
                let log = self.env.broker.log(&at);
                let committed = self.env.broker.offsets[stage].committed.get(&at);
                let reached = committed.map_or(0, |(next, _)| *next);
                log.stable() == log.high() && reached == log.high()
            })
    }

    fn calm_down(&mut self) {
        self.env.odds = Odds::default();
        self.env.slow_until = 0;
        self.env.waits_until = 0;
        self.markers = 900;
        // A zombie that still has the name of another would fence it again and again.
        self.zombies.clear();
        for seat in &mut self.seats {
            seat.back_at = seat.back_at.min(self.env.time + 200);
            if let Some(worker) = &mut seat.worker {
                worker.asleep_until = 0;
            }
        }
        for partition in 0..INPUTS {
            let (at, amount) = (self.env.time + 12_000, 1);
            self.put(partition, Event { at, amount }, 0);
        }
    }

    fn step(&mut self, chaos: bool) -> Result<(), String> {
        let env = &mut self.env;
        env.time += env.rng.below(4) as i64;
        let place = env.rng.below(self.seats.len() + self.zombies.len().min(1));
        match env.rng.below(100) {
            0..=44 => {
                for _ in 0..1 + self.env.rng.below(8) {
                    self.with(place, Worker::main_step);
                }
            }
            45..=61 => self.with(place, |worker, env| {
                if worker.exit.is_none() {
                    worker.committer.step(env);
                }
            }),
            62..=71 => self.with(place, Worker::client_step),
            72..=81 => self.with(place, Worker::fetch_step),
            82..=93 => self.broker_step(chaos),
            _ if chaos => self.input_step(),
            _ => {}
        }
        if chaos && self.env.rng.permille(4) {
            self.fault();
        }
        self.follow()?;
        self.bury()
    }

    /// Lets a worker act that is not asleep.
    fn with(&mut self, place: usize, act: impl Fn(&mut Worker, &mut Env)) {
        let env = &mut self.env;
        if let Some(seat) = self.seats.get_mut(place) {
            match &mut seat.worker {
                Some(worker) if worker.asleep_until <= env.time => act(worker, env),
                Some(_) => {}
                None if seat.back_at <= env.time => {
                    seat.worker = Some(Worker::new(seat.plan.clone(), env));
                }
                None => {}
            }
            return;
        }
        let place = env.rng.below(self.zombies.len());
        let worker = &mut self.zombies[place];
        if worker.asleep_until <= env.time {
            act(worker, env);
        }
    }

    fn broker_step(&mut self, chaos: bool) {
        let env = &mut self.env;
        if env.rng.permille(self.markers) {
            env.broker.write_marker(&mut env.rng);
        }
        let late = env.broker.time_out(env.time - TXN_TIMEOUT);
        if late > 0 {
            env.hit("transaction timed out");
        }
        for group in &mut env.groups {
            let dropped = group.step(env.time, SESSION, REBALANCE_WITHIN, &mut env.rng);
            if dropped > 0 {
                *env.cover.entry("member dropped").or_default() += 1;
            }
        }
        if chaos && env.rng.permille(8) {
            let stage = env.rng.below(2);
            let count = [INPUTS, ROLLUPS][stage] as usize;
            let partition = PartitionId::new(env.rng.below(count) as i32);
            let at = TopicPartition { topic: changelog(stage), partition };
            let upto = env.broker.log(&at).stable();
            let upto = upto - env.rng.below(20) as i64;
            if upto > 0 && env.broker.compact(&at, upto) > 0 {
                env.hit("changelog compacted");
            }
        }
    }

    fn input_step(&mut self) {
        let partition = self.env.rng.below(INPUTS as usize);
        if self.quiet_until[partition] > self.env.time {
            return;
        }
        if self.env.rng.permille(12) {
            self.quiet_until[partition] = self.env.time + self.env.rng.range(500, 5_000);
        }
        let late = if self.env.rng.permille(60) { 5_000 } else { 900 };
        let at = 1 + self.env.time + 10_000 - self.env.rng.range(0, late);
        let amount = 1 + self.env.rng.below(4) as u64;
        let key = self.env.rng.below(KEYS);
        self.put(partition as i32, Event { at, amount }, key);
    }

    /// A record of the input, sometimes with a marker behind it or an aborted one before it.
    fn put(&mut self, partition: i32, event: Event, key: usize) {
        let at = TopicPartition::new(INPUT, PartitionId::new(partition));
        let env = &mut self.env;
        let value = match &self.kind {
            Kind::Small => encode(1, &event),
            Kind::Real(_) => real::event(env, event.at, partition, key),
        };
        let entry = Entry {
            key: Some(format!("k{partition}.{key}").into_bytes()),
            value: Some(value),
            timestamp: env.time,
            txn: None,
            is_marker: false,
            injected: false,
        };
        if env.rng.permille(80) {
            env.broker.txns.push(Txn::aborted(env.time));
            let txn = Some(env.broker.txns.len() - 1);
            env.broker.append(&at, Entry { txn, ..entry.clone() });
        }
        env.broker.append(&at, entry.clone());
        if env.rng.permille(300) {
            env.broker.append(&at, Entry { is_marker: true, ..entry });
        }
    }

    fn fault(&mut self) {
        let env = &mut self.env;
        let place = env.rng.below(self.seats.len());
        let seat = &mut self.seats[place];
        match env.rng.below(12) {
            0..=2 => {
                if let Some(worker) = seat.worker.take() {
                    env.hit(worker.committer.moment());
                    seat.back_at = env.time + env.rng.range(50, 3_500);
                }
            }
            3..=5 => {
                let Some(worker) = &mut seat.worker else { return };
                env.hit("stopped by a signal");
                worker.asleep_until = env.time + env.rng.range(200, 4_500);
                if env.rng.permille(300) {
                    env.hit("stopped, and started again under the same name");
                    self.zombies.extend(seat.worker.take());
                    seat.back_at = env.time + env.rng.range(50, 1_500);
                }
            }
            6 => {
                if let Some(worker) = &mut seat.worker {
                    env.hit("asked to leave");
                    worker.stop();
                }
            }
            7 => {
                env.slow_until = env.time + env.rng.range(200, 2_500);
            }
            8 => {
                env.hit("rebalance");
                let stage = seat.plan.stage;
                env.groups[stage].rebalance(env.time);
            }
            9 => {
                env.waits_until = env.time + env.rng.range(100, 1_500);
            }
            10 => {
                if let Some(worker) = &mut seat.worker {
                    env.hit("clock jumped");
                    worker.jump_clock(env.rng.range(100, 4_000));
                }
            }
            _ => {
                if self.zombies.len() > 1 {
                    let gone = env.rng.below(self.zombies.len());
                    self.zombies.remove(gone);
                }
            }
        }
        if self.scenario == Scenario::ConfigSwitch && self.damaged {
            let seat = &mut self.seats[place];
            if seat.plan.stage == 0 {
                seat.plan.config = 3 - seat.plan.config;
            }
        }
    }

    fn follow(&mut self) -> Result<(), String> {
        let committed = std::mem::take(&mut self.env.broker.newly_committed);
        if committed.is_empty() {
            return Ok(());
        }
        with_mutation(None);
        let mut result = Ok(());
        for txn in committed {
            let Some(facts) = self.env.facts.get(&txn) else { continue };
            self.env.tell(|| format!("committed {txn}: {:?}", facts.steps));
            result = result.and_then(|()| self.oracle.follow(txn, facts, &self.env.broker));
        }
        with_mutation(self.mutation);
        result
    }

    /// Takes away workers that are over; what failed must have been allowed to.
    fn bury(&mut self) -> Result<(), String> {
        let (env, scenario) = (&mut self.env, self.scenario);
        let now = env.time;
        let seats = self.seats.iter_mut().filter_map(|seat| seat.worker.as_mut());
        for worker in seats.chain(&mut self.zombies).filter(|w| w.asleep_until <= now) {
            if worker.asleep_until > 0 {
                worker.asleep_until = 0;
                let (lost, idle) = (worker.has_lost_something(env), worker.is_idle_owner());
                if lost {
                    env.hit("zombie woke after its partitions had moved");
                }
                if lost && idle {
                    env.hit("idle zombie woke after its partitions had moved");
                }
            }
        }
        for seat in &mut self.seats {
            let Some(exit) = seat.worker.as_ref().and_then(|w| w.exit.clone()) else { continue };
            seat.worker = None;
            let back = env.time + env.rng.range(50, 2_000);
            seat.back_at = if seat.back_at == i64::MAX { i64::MAX } else { back };
            let Exit::Failed(reason) = exit else { continue };
            if reason.contains("fenced three times") {
                env.hit("stopped after three fences");
            } else if scenario == Scenario::ConfigSwitch
                && reason.contains("have to be folded again as before")
            {
                env.hit("configuration switch refused");
                seat.plan.config = 3 - seat.plan.config;
            } else {
                return Err(format!("{} stopped: {reason}", seat.plan.txn_id));
            }
        }
        self.zombies.retain(|worker| worker.exit.is_none());
        Ok(())
    }

    /// True if there is something to lose.
    fn is_worth_damage(&self) -> bool {
        let offsets = |stage: usize| !self.env.broker.offsets[stage].committed.is_empty();
        // Damage that ends a world waits for its first alert, within reason.
        let told = self.alerts() > 0 || self.env.time > DAMAGE_UNTIL / 2;
        match self.scenario {
            Scenario::Plain | Scenario::ConfigSwitch => true,
            Scenario::RepeatedFlush => !self.flushes().is_empty(),
            Scenario::ForeignFlush => told && !self.flushes().is_empty(),
            _ => told && offsets(0),
        }
    }

    /// What the scenario brings; true if a worker must stop because of it.
    fn damage(&mut self) -> Result<bool, String> {
        let stage = match self.scenario {
            Scenario::Plain => return Ok(false),
            Scenario::ConfigSwitch => {
                self.env.hit("configuration switched");
                return Ok(false);
            }
            Scenario::RepeatedFlush => {
                self.repeat_flush();
                return Ok(false);
            }
            Scenario::ForeignFlush => {
                self.foreign_flush();
                return Ok(true);
            }
            _ => 0,
        };
        // Everybody dies, and what was open is decided, before the operator does the damage.
        self.zombies.clear();
        for seat in self.seats.iter_mut().filter(|seat| seat.plan.stage == stage) {
            seat.worker = None;
            seat.back_at = i64::MAX;
        }
        let until = self.env.time + 2 * TXN_TIMEOUT;
        self.markers = 900;
        while self.env.time < until {
            self.step(false)?;
        }
        let owned = self.env.broker.offsets[stage].committed.keys().next().cloned();
        let at = owned.expect("worth the damage");
        let partition = at.partition;
        match self.scenario {
            Scenario::InputTruncated => {
                self.env.hit("input truncated");
                for _ in 0..3 {
                    self.put(partition.get(), Event { at: self.env.time, amount: 1 }, 1);
                }
                let log = self.env.broker.log_mut(&at);
                log.low = log.high();
            }
            Scenario::InputRecreated => {
                self.env.hit("input created anew");
                let topic = self.env.broker.topics.get_mut(INPUT).expect("the input");
                topic.id += 1;
                topic.logs.iter_mut().for_each(|log| *log = Log::default());
                // The broker drops what was committed of a topic with the topic.
                self.env.broker.offsets[stage].committed.clear();
                // In half of the worlds it has grown past the committed offset already.
                for n in 0..if self.env.rng.permille(500) { 1_500 } else { 0 } {
                    self.put(n % INPUTS, Event { at: self.env.time, amount: 1 }, 1);
                }
            }
            Scenario::ChangelogTruncated | Scenario::ChangelogRecreated => {
                let at = TopicPartition { topic: changelog(stage), partition };
                let anew = self.scenario == Scenario::ChangelogRecreated;
                if anew && self.recreate_changelog(&at) {
                    self.env.hit("changelog created anew");
                    self.wake(stage);
                    return Ok(true);
                }
                self.env.hit("changelog truncated");
                let log = self.env.broker.log_mut(&at);
                log.entries.iter_mut().for_each(|e| *e = None);
                log.low = log.high();
            }
            Scenario::OffsetsExpired => {
                self.env.hit("committed offsets expired");
                self.env.broker.offsets[stage].committed.clear();
            }
            Scenario::PartitionsAdded => {
                self.env.hit("partitions added");
                for seat in self.seats.iter_mut().filter(|seat| seat.plan.stage == stage) {
                    seat.plan.input_partitions += 1;
                }
            }
            _ => {}
        }
        self.wake(stage);
        Ok(true)
    }

    fn wake(&mut self, stage: usize) {
        for seat in self.seats.iter_mut().filter(|seat| seat.plan.stage == stage) {
            seat.back_at = self.env.time;
        }
    }

    /// As if it had been deleted and created anew right before the last checkpoint; false if that was
    /// the first one, so that nothing would be missing.
    fn recreate_changelog(&mut self, at: &TopicPartition) -> bool {
        let all: Vec<Entry> =
            self.env.broker.committed(at).map(|(_, entry)| entry.clone()).collect();
        let is = |entry: &Entry, key: &[u8]| entry.key.as_deref() == Some(key);
        let last = all.iter().rev().find(|entry| is(entry, CHECKPOINT_KEY));
        let txn = last.and_then(|entry| entry.txn);
        let kept: Vec<Entry> = all.into_iter().filter(|entry| entry.txn == txn).collect();
        if txn.is_none() || kept.iter().any(|entry| is(entry, IDENTITY_KEY)) {
            return false;
        }
        *self.env.broker.log_mut(at) = Log::default();
        for entry in kept {
            self.env.broker.append(at, Entry { txn: None, ..entry });
        }
        true
    }

    fn flushes(&self) -> Vec<(TopicPartition, Entry)> {
        let of = |partition: i32| {
            let at = TopicPartition::new(REPARTITION, PartitionId::new(partition));
            let entries: Vec<Entry> =
                self.env.broker.committed(&at).map(|(_, e)| e.clone()).collect();
            entries.into_iter().map(move |entry| (at.clone(), entry))
        };
        (0..ROLLUPS).flat_map(of).collect()
    }

    fn repeat_flush(&mut self) {
        let flushes = self.flushes();
        for (n, (at, entry)) in flushes.into_iter().enumerate().filter(|(n, _)| n % 3 == 0) {
            let entry = Entry { txn: None, injected: true, ..entry };
            self.env.broker.append(&at, entry);
            if n == 0 {
                self.env.hit("flush repeated");
            }
        }
    }

    fn foreign_flush(&mut self) {
        self.env.hit("flush of another generation, or a gap");
        let (at, entry) = self.flushes().pop().expect("worth the damage");
        let value = entry.value.as_deref().unwrap_or_default();
        let foreign = self.env.rng.permille(500);
        let value = Some(match &self.kind {
            Kind::Small => {
                let mut flush: Flush = decode("flush", 1, value).expect("ours");
                flush.clock = 0;
                flush.number += 500;
                flush.generation += u64::from(foreign);
                encode(1, &flush)
            }
            Kind::Real(_) => {
                let mut flush = flush::decode(value).expect("ours");
                flush.number += 500;
                flush.generation += u64::from(foreign);
                let mut bytes = Vec::new();
                flush::encode(&flush, &mut bytes);
                bytes
            }
        });
        self.env.broker.append(&at, Entry { value, txn: None, injected: true, ..entry });
    }

    /// A worker must stop, with the right sentence, and nothing wrong may have come out.
    fn wait_for_failure(&mut self) -> Result<usize, String> {
        self.env.odds = Odds::default();
        self.env.slow_until = 0;
        let until = self.env.time + 2 * PATIENCE;
        let sentences = self.scenario.ends_with();
        loop {
            match self.step(false) {
                Ok(()) => {}
                Err(error) if sentences.iter().any(|s| error.contains(s)) => break,
                Err(error) => return Err(error),
            }
            if self.env.time > until {
                return Err(format!("{:?}: nobody noticed", self.scenario));
            }
        }
        self.env.hit("stopped with a clear message");
        self.seats.clear();
        self.zombies.clear();
        let markers =
            |world: &World| world.env.broker.txns.iter().any(|t| t.state != State::Complete);
        while markers(self) {
            self.env.time += 1;
            self.broker_step(false);
            self.follow()?;
        }
        with_mutation(None);
        self.oracle.check_topics(&self.env.broker)
    }
}
