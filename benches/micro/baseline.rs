//! What was counted before: `baseline.json`, with what it was counted on.

use crate::parts::Part;
use crate::valgrind::{Count, count};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Where it lies.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/micro/baseline.json");
/// More instructions than this for adding a number, and nothing has been optimised.
const OPTIMISED: f64 = 6.0;

/// What decides how many instructions the same source takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// As `rustc --version` says it.
    pub(crate) rustc: String,
    /// Cargo's name of the profile, and whether it optimises.
    pub(crate) profile: String,
    /// With the vector instructions that libraries look for at run time.
    pub(crate) architecture: String,
}

/// One part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) unit: String,
    pub(crate) units: u64,
    pub(crate) instructions_per_unit: f64,
}

/// The file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    #[serde(flatten)]
    pub(crate) environment: Environment,
    pub(crate) parts: BTreeMap<String, Figure>,
}

impl Environment {
    /// That of this run.
    pub(crate) fn here() -> Result<Environment, String> {
        let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let version = Command::new(compiler).arg("--version").output();
        let version = version.map_err(|e| format!("rustc --version: {e}"))?;
        let rustc = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let program = std::env::current_exe().map_err(|e| format!("the program's place: {e}"))?;
        // target/<profile>/deps/<program>
        let profile = program.ancestors().nth(2).and_then(Path::file_name);
        let profile = profile.unwrap_or_default().to_string_lossy();
        let optimised = count(Part::Probe.run())?.values().all(|c| c.per_unit() < OPTIMISED);
        let profile = format!("{profile}, {}optimised", if optimised { "" } else { "not " });
        Ok(Environment { rustc, profile, architecture: architecture() })
    }

    pub(crate) fn is_optimised(&self) -> bool {
        !self.profile.ends_with("not optimised")
    }

    /// What is not the same, as lines of text.
    pub(crate) fn differences(&self, other: &Environment) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &other.rustc),
            ("profile", &self.profile, &other.profile),
            ("architecture", &self.architecture, &other.architecture),
        ];
        let differ = pairs.into_iter().filter(|(_, a, b)| a != b);
        differ.map(|(what, a, b)| format!("{what}: this is {a}, the baseline's was {b}")).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn architecture() -> String {
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { "with" } else { "without" };
    format!("x86_64 {vectors} avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn architecture() -> String {
    std::env::consts::ARCH.to_owned()
}

impl Baseline {
    /// Reads the file; `None` if there is none.
    pub(crate) fn read() -> Result<Option<Baseline>, String> {
        match std::fs::read_to_string(FILE) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| format!("{FILE}: {e}")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("{FILE}: {e}")),
        }
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).expect("plain data with string keys");
        std::fs::write(FILE, text + "\n").map_err(|e| format!("{FILE}: {e}"))
    }

    /// Takes over what was counted, to a tenth of an instruction.
    pub(crate) fn set(&mut self, part: Part, count: Count, per_unit: f64) {
        let figure = Figure {
            unit: part.unit().to_owned(),
            units: count.units,
            instructions_per_unit: (per_unit * 10.0).round() / 10.0,
        };
        self.parts.insert(part.name().to_owned(), figure);
    }
}
