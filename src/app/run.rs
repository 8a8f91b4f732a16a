//! `run`: the pipeline on a cluster, until it is stopped or has read everything.

use super::pipeline::{Pipeline, Role};
use super::relay::{push, serve};
use super::summary::Summary;
use crate::clock::Moment;
use crate::config::Settings;
use crate::kafka::client::Connection;
use anyhow::{Context as _, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How often counters are brought up to date and failures looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Runs `roles`; with `stop_at_end` until everything that was in the sources has passed through.
///
/// # Errors
/// If the cluster cannot be used or a worker fails.
pub fn run(settings: &Settings, roles: &[Role], stop_at_end: bool) -> anyhow::Result<Summary> {
    let since = Moment::now();
    tracing::info!(configuration = settings.effective_yaml(), "effective configuration");
    let connection = Connection::new(settings.kafka.clone());
    let pipeline = Arc::new(Mutex::new(Pipeline::start(settings, &connection, roles)?));
    let stopped = Arc::new(AtomicBool::new(false));
    let surroundings = Surroundings::start(settings, &pipeline, &stopped, &settings.http.listen)?;
    if let Some(address) = surroundings.address {
        tracing::info!("page, API and metrics at http://{address}/");
    }
    let ended = match stop_at_end {
        true => finish(&pipeline, &stopped),
        false => wait(&pipeline, &stopped),
    };
    surroundings.end();
    let pipeline = Arc::into_inner(pipeline).context("something still uses the pipeline")?;
    let mut pipeline = pipeline.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    pipeline.export();
    let tasks = pipeline.tasks.clone();
    let resumed = pipeline.has_resumed();
    let joined = pipeline.stop();
    ended?;
    joined?;
    let totals = tasks.totals();
    let summary = totals.summary(since.elapsed_secs());
    // Where other roles run elsewhere, or ran earlier, only all summaries together add up.
    let whole = Role::ALL.iter().all(|role| roles.contains(role));
    if !summary.adds_up() && stop_at_end && whole && !resumed {
        bail!("the sum of what became of the events is wrong: {}", summary.to_json());
    }
    Ok(summary)
}

type Shared = Arc<Mutex<Pipeline>>;

/// Ends a bounded run, or stops waiting for that when `stopped` is set.
pub(super) fn finish(pipeline: &Shared, stopped: &AtomicBool) -> anyhow::Result<()> {
    let mut finishing = {
        let pipeline = pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        pipeline.finishing()
    };
    loop {
        let done = {
            let pipeline = pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            pipeline.advance(&mut finishing)?
        };
        if done || stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait(pipeline: &Shared, stopped: &AtomicBool) -> anyhow::Result<()> {
    while !stopped.load(Ordering::SeqCst) {
        let failure = {
            let pipeline = pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            pipeline.failure()
        };
        if let Some(reason) = failure {
            bail!("{reason}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Everything around the workers: HTTP, pushes, signals. Its own small runtime.
pub(super) struct Surroundings {
    runtime: tokio::runtime::Runtime,
    stop: watch::Sender<bool>,
    /// Where HTTP listens, if the relay runs here.
    pub(super) address: Option<std::net::SocketAddr>,
}

impl Surroundings {
    /// Starts them; a signal to end sets `stopped`.
    pub(super) fn start(
        settings: &Settings,
        pipeline: &Shared,
        stopped: &Arc<AtomicBool>,
        listen: &str,
    ) -> anyhow::Result<Surroundings> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the runtime of the HTTP side")?;
        let (stop, stopping) = watch::channel(false);
        let (view, metrics, relays) = {
            let locked = pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            (locked.view.clone(), locked.metrics.clone(), locked.relay().is_some())
        };
        let told = {
            let _entered = runtime.enter();
            told_to_end().context("catching signals")?
        };
        let stopped = stopped.clone();
        runtime.spawn(async move {
            told.await;
            stopped.store(true, Ordering::SeqCst);
        });
        runtime.spawn(export(pipeline.clone(), stopping.clone()));
        let ask = |f: fn(&Pipeline) -> crate::http::Health| {
            let pipeline = Arc::downgrade(pipeline);
            let answer = move || match pipeline.upgrade() {
                None => crate::http::Health::Not("stopping".to_owned()),
                Some(p) => f(&p.lock().unwrap_or_else(|poisoned| poisoned.into_inner())),
            };
            Arc::new(answer) as Arc<dyn Fn() -> crate::http::Health + Send + Sync>
        };
        let health = [ask(Pipeline::is_live), ask(Pipeline::is_ready)];
        let serving = serve(listen, view.clone(), metrics.clone(), health, stopping.clone());
        let address = Some(runtime.block_on(serving)?);
        if relays {
            runtime.spawn(push(settings.clone(), view, metrics, stopping));
        }
        Ok(Surroundings { runtime, stop, address })
    }

    /// Ends them; open streams are cut off.
    pub(super) fn end(self) {
        // Nobody may be listening any more.
        let _told = self.stop.send(true);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Ends with a signal to end. It is caught from the call on, not only once somebody waits for it.
#[cfg(unix)]
fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

/// Ends with a signal to end.
#[cfg(not(unix))]
fn told_to_end() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}

async fn export(pipeline: Shared, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(LOOK);
    while !*stop.borrow() {
        tokio::select! {
            _ = tick.tick() => {}
            changed = stop.changed() => if changed.is_err() { return },
        }
        pipeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).export();
    }
}
