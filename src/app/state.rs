//! `state`: what the folds have on the cluster, sealing it, and starting anew.

use super::configurations;
use super::pipeline::{Pipeline, Role, kept_topics};
use super::topics;
use crate::config::{DeliveryMode, IngestMode, Settings};
use crate::kafka::client::Connection;
use crate::kafka::state::{self, PartitionState, Suspect};
use crate::model::time::Millis;
use crate::model::topic::Topic;
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How long sealing may take: everything that is there is read first.
const SEAL_WITHIN: Millis = Millis::from_hours(24);

fn input(settings: &Settings, role: Role) -> &str {
    let direct = settings.ingest == IngestMode::Direct;
    match (role, settings.sources.values().next()) {
        (Role::Journey, Some(source)) if direct => &source.topic,
        (Role::Journey, _) => settings.topic(Topic::Canonical),
        _ => settings.topic(Topic::Rollup),
    }
}

fn keeps_state(settings: &Settings) -> anyhow::Result<()> {
    match settings.delivery.mode {
        DeliveryMode::ExactlyOnce => Ok(()),
        DeliveryMode::AtLeastOnce => {
            bail!("there is no state: delivery.mode is at_least_once, which keeps none")
        }
    }
}

/// A line per role and partition.
///
/// # Errors
/// If the cluster cannot be asked or a topic is missing.
pub fn show(settings: &Settings) -> anyhow::Result<String> {
    keeps_state(settings)?;
    let connection = Connection::new(settings.kafka.clone());
    let mut text = String::new();
    let known = configurations::known(settings, &connection)?;
    for role in [Role::Journey, Role::Rollup] {
        let (group, changelog) = (settings.group(role.name()), settings.changelog(role.name()));
        let found = state::inspect(&connection, &group, input(settings, role), &changelog)?;
        for partition in found {
            line(&mut text, settings, role, &partition);
            differs(&mut text, settings, &known, &partition);
            text.push('\n');
        }
    }
    Ok(text)
}

/// What the configuration of a checkpoint differs in from the present one.
fn differs(
    text: &mut String,
    settings: &Settings,
    known: &BTreeMap<String, String>,
    of: &PartitionState,
) {
    let Some(checkpoint) = &of.checkpoint else { return };
    if checkpoint.fingerprint == settings.fold_fingerprint() {
        return;
    }
    let differs = match configurations::difference(settings, known, checkpoint.fingerprint) {
        none if none.is_empty() => "nobody knows in what".to_owned(),
        some => some,
    };
    let _infallible = write!(text, "  of another configuration: {differs}");
}

/// Whose transactions keep readers waiting.
fn open(settings: &Settings, role: Role, of: &PartitionState) -> String {
    let mut text = String::new();
    if of.open_input {
        let direct = settings.ingest == IngestMode::Direct;
        let _infallible = match role {
            Role::Journey if direct => write!(text, "  a transaction is open on the input"),
            _ => {
                let before = if role == Role::Journey { Role::Ingest } else { Role::Journey };
                let group = settings.group(before.name());
                write!(text, "  a transaction is open on the input, of one of {group}-…")
            }
        };
    }
    if !of.open_changelog {
        return text;
    }
    let who = |suspect: &Suspect| {
        let is = match (suspect.owns, suspect.is_member) {
            (true, _) => "has the partition",
            (false, true) => "committed last, has lost the partition",
            (false, false) => "committed last, is no member of the group any more",
        };
        format!("{} ({is})", suspect.id)
    };
    let all: Vec<String> = of.suspects.iter().map(who).collect();
    let of = if all.is_empty() { "somebody unknown".to_owned() } else { all.join(" or ") };
    let _infallible = write!(text, "  a transaction is open, of {of}");
    text
}

fn line(text: &mut String, settings: &Settings, role: Role, of: &PartitionState) {
    let (name, partition, (low, end)) = (role.name(), of.partition, of.input);
    let _infallible = write!(text, "{name}/{partition}  input {low}..{end}");
    let _infallible = match &of.committed {
        Some(committed) => {
            let by = committed.metadata.as_ref();
            let by = by.map_or("somebody else".to_owned(), |m| m.committer.to_string());
            write!(text, "  committed {} by {by}", committed.next)
        }
        None => write!(text, "  nothing committed"),
    };
    let _infallible = match &of.checkpoint {
        Some(c) => write!(
            text,
            "  checkpoint {} at {} (side inputs {}, fold {}, configuration {:032x})",
            c.number, c.next, c.side_input, c.fold_version, c.fingerprint
        ),
        None => write!(text, "  no checkpoint"),
    };
    let sealed = match (&of.committed, &of.checkpoint) {
        (Some(committed), Some(checkpoint)) if committed.next == checkpoint.next => "  sealed",
        _ => "",
    };
    let open = open(settings, role, of);
    let _infallible = write!(text, "  {} entries, {} bytes{sealed}{open}", of.entries, of.bytes);
}

/// Folds what is there and leaves every partition with a checkpoint at its committed offset, so that
/// another version or configuration can take over.
///
/// # Errors
/// If the folds cannot run.
pub fn seal(settings: &Settings) -> anyhow::Result<String> {
    keeps_state(settings)?;
    let connection = Connection::new(settings.kafka.clone());
    let roles = [Role::Journey, Role::Rollup];
    let pipeline = Pipeline::start(settings, &connection, &roles)?;
    for role in roles {
        let Some(handle) = pipeline.workers(role) else { continue };
        let partitions = crate::kafka::client::partitions(&connection, input(settings, role))?;
        let all = usize::try_from(partitions).context("partitions are not negative")?;
        let level = handle.wait_until(SEAL_WITHIN, |positions| {
            positions.len() == all && positions.values().all(|p| p.owned && p.caught_up)
        });
        if !level {
            let reason = pipeline.failure().unwrap_or_else(|| "it was stopped".to_owned());
            bail!("sealing {}: {reason}", role.name());
        }
    }
    pipeline.stop()?;
    show(settings)
}

/// Deletes the state of the folds, their committed offsets and what lies between them; the next run
/// starts where `start` says and publishes everything again.
///
/// # Errors
/// If processes still run, or the cluster refuses.
pub fn reset(settings: &Settings, dry_run: bool) -> anyhow::Result<String> {
    keeps_state(settings)?;
    let roles = [Role::Journey, Role::Rollup];
    let groups = roles.map(|role| settings.group(role.name()));
    // Flushes and side inputs are numbered from the beginning of the state that they are of.
    let mut names = roles.map(|role| kept_topics(settings, role)).concat();
    names.push(settings.config_topic());
    names.push(settings.topic(Topic::Rollup).to_owned());
    let text = format!(
        "deletes the committed offsets of {}\ndeletes and creates anew {}\nthe next run reads {} \
         from its start and publishes sessions, checkouts, figures and alerts again\n",
        groups.join(", "),
        names.join(", "),
        input(settings, Role::Journey),
    );
    if dry_run {
        return Ok(format!("{text}nothing was changed\n"));
    }
    let connection = Connection::new(settings.kafka.clone());
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    state::delete(&connection, &groups, &names)?;
    topics::apply(settings)?;
    Ok(text)
}
