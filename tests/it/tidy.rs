//! Reads the source tree: who imports whom, sizes, banned words, the map in the crate documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Production lines of one file above which it is split, but for those listed with a reason.
const FILE_LINES_MAX: usize = 500;
/// Columns of a line.
const LINE_COLUMNS_MAX: usize = 100;

/// Modules of ours that a module may import, besides itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("codec", &["model", "engine"]),
    ("engine", &["model", "codec"]),
    ("ingest", &["model", "engine", "codec"]),
    ("journey", &["model", "engine", "codec"]),
    ("rollup", &["model", "engine", "codec"]),
    // The oracle of the whole product: nothing of the folds.
    ("generate", &["model", "codec"]),
    ("telemetry", &["model"]),
    ("relay", &["model", "codec", "telemetry"]),
    ("http", &["model", "relay", "telemetry"]),
    ("kafka", &["model", "engine", "codec", "clock"]),
    ("config", &["model", "ingest", "rollup"]),
];

/// Third-party crates and the only modules that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("rdkafka", &["kafka"]),
    ("apache_avro", &["codec"]),
    ("prometheus", &["telemetry"]),
    ("dashmap", &["relay"]),
    ("axum", &["http"]),
    ("tokio", &["kafka", "relay", "http", "app", "cli"]),
    ("clap", &["cli", "main"]),
];

fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = todo.pop() {
        let entries = fs::read_dir(&dir).expect("the source tree is there");
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The top-level module that a file of `src` belongs to.
fn module(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(src).expect("a file of src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without comments and without its in-file tests.
fn production(text: &str) -> Vec<&str> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text[..end].lines().filter(is_code).collect()
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let module = module(&path);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for line in production(&text) {
            for (at, _) in line.match_indices("crate::") {
                let name: String = line[at + "crate::".len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if !name.is_empty() && name != module && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the rules of lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn third_party_crates_have_one_home() {
    let mut wrong = Vec::new();
    let is_test = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !is_test(path)) {
        let module = module(&path);
        for (name, homes) in HOMES {
            let used = production(&text).iter().any(|line| {
                line.contains(&format!("{name}::")) || line.contains(&format!("use {name}"))
            });
            if used && !homes.contains(&module.as_str()) {
                wrong.push(format!("{} names {name}, whose home is {homes:?}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_and_lines_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        let code = production(&text);
        let in_src = path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        if in_src && code.len() > FILE_LINES_MAX {
            wrong.push(format!("{} has {} lines of code", path.display(), code.len()));
        }
        for (number, line) in text.lines().enumerate() {
            // Texts and tables in comments may run on; code may not.
            let code = !line.trim_start().starts_with("//") && !line.contains('"');
            if code && line.chars().count() > LINE_COLUMNS_MAX {
                wrong.push(format!("{}:{} is too long", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_opens_with_its_purpose() {
    for (path, text) in sources("src") {
        let is_test = path.file_name().is_some_and(|n| n == "tests.rs");
        let opens = text.starts_with("//!") && !text.contains(concat!("(to ", "come)"));
        assert!(is_test || opens, "{} opens without saying what it is for", path.display());
    }
}

#[test]
fn no_leftovers() {
    let banned = [
        concat!("FIX", "ME"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("#[ig", "nore"),
    ];
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        for word in banned {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn the_map_in_the_crate_documentation_is_complete() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("lib.rs is there");
    let modules: BTreeSet<String> = sources("src").iter().map(|(path, _)| module(path)).collect();
    for name in modules.iter().filter(|m| !["lib", "main"].contains(&m.as_str())) {
        let mapped =
            lib.lines().any(|l| l.starts_with("//!") && l.contains(&format!("[`{name}`]")));
        assert!(mapped, "lib.rs does not say what {name} is for");
    }
}
