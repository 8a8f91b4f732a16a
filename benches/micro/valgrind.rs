//! Starts this very program under valgrind, and reads what was counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Option with which the program measures; not for people.
pub(crate) const MEASURE: &str = "--measure";

/// Bytes that the environment and the program's path take on the stack, whatever they are.
const STACK_BYTES: usize = 8_192;

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) instructions: u64,
    pub(crate) units: u64,
}

impl Count {
    pub(crate) fn per_unit(self) -> f64 {
        self.instructions as f64 / self.units as f64
    }
}

/// Does one run; returns what was counted for each of its parts.
pub(crate) fn count(run: &str) -> Result<BTreeMap<String, Count>, String> {
    let program = std::env::current_exe().map_err(|e| format!("where this program lies: {e}"))?;
    let dir = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
    let file = dir.path().join("callgrind");
    // Environment and arguments lie on the stack: by their length it moves, and with it how bytes
    // are aligned and copied, by up to 1 %.
    let path = std::env::var("PATH").unwrap_or_default();
    let padding = STACK_BYTES.saturating_sub(path.len() + 2 * program.as_os_str().len());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured_*"])
        // Each time that one is left, what it took is written to a file, with its name. Of two
        // options for the very same pattern callgrind forgets one.
        .arg("--dump-after=*::measured_*")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(&program)
        .args([MEASURE, run])
        .env_clear()
        // Whether memory goes back to the system depends on the clock.
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .env("PATH", &path)
        .env("PADDING", " ".repeat(padding))
        .output()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                "valgrind is not there: install it (Debian package valgrind)".to_owned()
            }
            _ => format!("valgrind cannot be started: {e}"),
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{run} failed under valgrind ({}):\n{said}", output.status));
    }
    let totals = totals(dir.path()).map_err(|e| format!("what callgrind wrote: {e}"))?;
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (part, units) = line.split_once(' ').ok_or(format!("{run} said {line}"))?;
        let units = units.parse::<u64>().map_err(|_| format!("{run} said {line}"))?;
        let instructions = totals.get(part).copied().unwrap_or(0);
        if instructions == 0 || units == 0 {
            return Err(format!("{part}: callgrind counted nothing; is the program stripped?"));
        }
        counts.insert(part.to_owned(), Count { instructions, units });
    }
    Ok(counts)
}

/// The totals of callgrind's files, summed by the part whose function was left.
fn totals(dir: &Path) -> std::io::Result<BTreeMap<String, u64>> {
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let after = |prefix| text.lines().find_map(|line| line.strip_prefix(prefix));
        let left = after("desc: Trigger:").and_then(|trigger| trigger.split_once("measured_"));
        // The last file is that of the end, when none was left.
        let Some((_, function)) = left else { continue };
        let end = function.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        let part = function[..end.unwrap_or(function.len())].replace('_', "-");
        let total = after("totals:").and_then(|t| t.split_whitespace().next()?.parse::<u64>().ok());
        *totals.entry(part).or_default() += total.unwrap_or(0);
    }
    Ok(totals)
}
