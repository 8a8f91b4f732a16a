//! Configuration: YAML files over a compiled-in default, the environment over both.
//!
//! Files become trees in which every key and value knows its place; these are merged key by key and
//! checked against a table (the same that [`json_schema`] is made from), then read into
//! [`Settings`]. All problems are reported at once, each as `file:line:column: message` with what
//! is accepted. Nothing is read from the process: the environment is an argument. Properties of
//! librdkafka are passed through unchecked; creating a client checks them.
//!
//! Relative paths in a file are relative to that file, in the environment to the working directory.

mod cross;
mod folded;
mod layers;
pub mod mapping;
mod node;
mod problem;
mod read;
mod schema;
mod settings;
mod shape;
mod show;
mod table;
mod taxonomy;
mod units;
mod view;

pub use folded::differences;
pub use problem::{Position, Problem};
pub use schema::json_schema;
pub use settings::*;
pub use units::{Start, parse_duration as duration};

use crate::model::taxonomy::Taxonomy;
use compact_str::CompactString;
use node::Node;
use problem::Problems;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use view::View;

const DEFAULT: &str = include_str!("../../config/default.yaml");
const DEFAULT_FILE: &str = "config/default.yaml";

/// The complete default configuration with its comments.
pub fn default_yaml() -> &'static str {
    DEFAULT
}

/// Loads `files`, later ones over earlier ones, over the default, and `env` over all.
///
/// # Errors
/// Every problem found, sorted by place.
pub fn load(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Vec<Problem>> {
    load_files(files, env, true)
}

/// Like [`load`], for what reads no source topics (`replay` of canonical records, `config show`):
/// `sources` may be empty.
///
/// # Errors
/// Every problem found, sorted by place.
pub fn load_offline(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Vec<Problem>> {
    load_files(files, env, false)
}

fn load_files(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
    sources_required: bool,
) -> Result<Settings, Vec<Problem>> {
    let mut problems = Problems::default();
    let nodes: Vec<Option<Node>> =
        files.iter().map(|path| layers::read(path, &mut problems)).collect();
    let complete = nodes.iter().all(Option::is_some);
    let nodes = nodes.into_iter().flatten();
    // With a file missing, its absence would show as further problems.
    assemble(nodes, env, sources_required && complete, problems)
}

impl Settings {
    /// Reads one file's text over the default and `env` over both; `name` stands for the file in
    /// problems, and relative paths are relative to it. `sources` may be empty.
    ///
    /// # Errors
    /// Every problem found, sorted by place.
    pub fn from_yaml_str(
        name: &str,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, Vec<Problem>> {
        let mut problems = Problems::default();
        let node = node::parse(name, text, &mut problems);
        assemble(node, env, false, problems)
    }
}

fn assemble(
    layers: impl IntoIterator<Item = Node>,
    env: impl IntoIterator<Item = (String, String)>,
    sources_required: bool,
    mut problems: Problems,
) -> Result<Settings, Vec<Problem>> {
    let env = env.into_iter().collect();
    let start = Position::start_of(DEFAULT_FILE);
    let mut root = node::parse(DEFAULT_FILE, DEFAULT, &mut problems)
        .unwrap_or_else(|| Node::new(start, node::Kind::Map(Vec::new())));
    for layer in layers {
        root.merge(layer);
    }
    layers::environment(&mut root, &table::SETTINGS, &env, &mut problems);
    layers::interpolate(&mut root, &env, &mut problems);
    shape::check(&mut root, &table::SETTINGS, "", &mut problems);
    let effective = show::yaml(&root);
    let view = View::of(&root);
    cross::windows(view, &mut problems);
    cross::times(view, &mut problems);
    cross::topic_names(view, &mut problems);
    cross::sources(view, sources_required, &mut problems);
    cross::registry(view, &mut problems);
    cross::limits(view, &mut problems);
    let mut settings = settings(view, effective, &mut problems);
    settings.folded = folded::text(&root, &settings.taxonomy, &settings.register);
    if problems.is_empty() { Ok(settings) } else { Err(problems.sorted()) }
}

/// Fills the settings, and reads the files that they name.
fn settings(root: View<'_>, effective: String, problems: &mut Problems) -> Settings {
    let section = root.get("taxonomy");
    let preset = section.get("preset").str().unwrap_or_default();
    let file = section.get("file");
    let file = file.str().map(|text| beside(&file, text));
    let (taxonomy, register) = taxonomy::load(preset, file.as_deref(), problems);
    cross::channels(root, &taxonomy, problems);
    let deduplication = root.get("deduplication");
    let flush = root.get("flush");
    let limits = root.get("limits");
    let workers = root.get("workers");
    Settings {
        app: AppSettings {
            name: root.get("app").get("name").text(),
            instance: root.get("app").get("instance").str().map(Into::into),
        },
        kafka: read::kafka(root),
        registry: registry(root.get("registry"), problems),
        ingest: read::ingest(root),
        sources: sources(root, &taxonomy, problems),
        topics: read::topics(root),
        delivery: read::delivery(root),
        time: read::time(root),
        sessions: read::sessions(root),
        checkout: read::checkout(root),
        deduplication: DeduplicationSettings {
            window: deduplication.get("window").duration(),
            ids: deduplication.get("ids").integer(),
        },
        identity: read::identity(root),
        figures: read::figures(root),
        flush: FlushSettings {
            interval: flush.get("interval").duration(),
            records: flush.get("records").integer(),
        },
        limits: LimitSettings {
            record_bytes: usize::try_from(limits.get("record_bytes").size()).unwrap_or(usize::MAX),
            json_depth: limits.get("json_depth").integer(),
            memory_budget: Some(limits.get("memory_budget").size()).filter(|bytes| *bytes > 0),
        },
        taxonomy,
        register,
        rules: read::rules(root),
        relay: read::relay(root),
        http: HttpSettings {
            listen: root.get("http").get("listen").str().unwrap_or_default().to_owned(),
        },
        workers: WorkerSettings {
            ingest: workers.get("ingest").count(),
            journey: workers.get("journey").count(),
            rollup: workers.get("rollup").count(),
        },
        effective,
        folded: String::new(),
    }
}

/// `path` relative to the file in which `view` stands.
fn beside(view: &View<'_>, path: &str) -> PathBuf {
    let at = view.at();
    Path::new(&*at.file).parent().unwrap_or(Path::new("")).join(path)
}

fn registry(view: View<'_>, problems: &mut Problems) -> RegistrySettings {
    let text = |key: &str| view.get(key).str().map(str::to_owned);
    let mut schemas = BTreeMap::new();
    for (entry, value) in view.get("schemas").entries() {
        let (Ok(id), Some(file)) = (entry.key.parse::<u32>(), value.str()) else { continue };
        let path = beside(&value, file);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                schemas.insert(id, SchemaFile { path, text });
            }
            Err(error) => {
                problems.add(&value.at(), format!("`{}` cannot be read: {error}", path.display()));
            }
        }
    }
    let (username, password) = (text("username"), text("password"));
    RegistrySettings { url: text("url"), username, password, schemas }
}

fn sources(
    root: View<'_>,
    taxonomy: &Taxonomy,
    problems: &mut Problems,
) -> BTreeMap<CompactString, SourceSettings> {
    let mut sources = BTreeMap::new();
    for (entry, view) in root.get("sources").entries() {
        let mut source = read::source(view);
        let mapping = view.get("mapping");
        if let Some(file) = mapping.str() {
            let path = beside(&mapping, file);
            if path.is_file() {
                source.mapping = mapping::load(&path, taxonomy, problems);
            } else {
                let text = format!("mapping file `{}` is not there", path.display());
                problems.add(&mapping.at(), text);
            }
        }
        sources.insert(entry.key.as_str().into(), source);
    }
    sources
}
