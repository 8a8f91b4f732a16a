//! The real sets as JSON records, one for each CSV row, in the order of the file.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Path of a file below `tests/fixtures/realsets`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/realsets").join(name)
}

/// Reads a CSV file with a header line, compressed or not: one object of texts for each row.
pub(crate) fn rows(path: &Path) -> Vec<Map<String, Value>> {
    let text = if path.extension().is_some_and(|e| e == "gz") {
        let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
        assert!(output.status.success(), "{}", path.display());
        String::from_utf8(output.stdout).expect("CSV is UTF-8")
    } else {
        std::fs::read_to_string(path).expect("a readable file")
    };
    let mut records = split(&text).into_iter();
    let names = records.next().expect("a header line");
    records
        .map(|fields| {
            assert_eq!(fields.len(), names.len(), "{}", path.display());
            names.iter().cloned().zip(fields.into_iter().map(Value::String)).collect()
        })
        .collect()
}

/// Splits CSV with quoted fields.
fn split(text: &str) -> Vec<Vec<String>> {
    let mut records = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = records.last_mut().expect("at least one record");
        let field = last.last_mut().expect("at least one field");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => last.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    records.retain(|r| r.len() > 1 || !r[0].is_empty());
    records
}
