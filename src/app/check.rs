//! What `check` looks at beyond the files: mappings compile, and Kafka's client takes its properties.

use super::ingest_parts::sources;
use crate::config::Settings;
use crate::kafka::client::Connection;

/// Checks what the configuration alone cannot know. Reaches no network.
///
/// # Errors
/// Every problem, one a line.
pub fn beyond_the_file(settings: &Settings) -> Result<(), String> {
    let mut problems = Vec::new();
    if let Err(lines) = sources(settings) {
        problems.push(lines);
    }
    if let Err(error) = Connection::new(settings.kafka.clone()).check() {
        problems.push(format!("kafka: {error}"));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}
