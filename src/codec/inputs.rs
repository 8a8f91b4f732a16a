//! Side inputs as they stand in `<app>.<role>.inputs`: what a task took besides its log.
//!
//! One JSON record per side input, in the partition of the task that took it, in the order in which it
//! took them. The key is the number, as text.
//!
//! ```json
//! {"number":7,"next":1234,"kind":"tick","advance_ms":251}
//! {"number":8,"next":1300,"kind":"seal"}
//! {"number":8,"next":1300,"kind":"switch","from":{"fold_version":4,"configuration":"0f…"},"to":{…}}
//! ```
//!
//! `next` is the place in the log: everything below that offset had been folded, and nothing else. With
//! the log, these records say all that a state and its outputs are made of, and `replay` reads them.
//! A switch takes no number of its own, as the fold does not see it: it has that of the last tick or
//! seal before it. The configurations' texts lie in `<app>.config` under their fingerprints.
//! Deliberately absent: when it happened (the broker's timestamp says so) and who took it.

use crate::model::ids::{NextOffset, hex};
use crate::model::time::Millis;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// What was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Taken {
    /// Time passed while nothing came.
    Tick {
        /// How much.
        #[serde(rename = "advance_ms")]
        advance: Millis,
    },
    /// A bounded run ended: what had not been said was said.
    Seal,
    /// Another version of the fold or another configuration is in force from here on.
    Switch {
        /// What was in force.
        from: InForce,
        /// What is.
        to: InForce,
    },
}

/// What folds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InForce {
    /// Version of the fold.
    pub fold_version: u32,
    /// Fingerprint of the configuration, as 32 hexadecimal digits.
    pub configuration: CompactString,
}

impl InForce {
    /// A version of a fold under a configuration.
    pub fn new(fold_version: u32, fingerprint: u128) -> InForce {
        InForce { fold_version, configuration: hex(fingerprint) }
    }
}

/// One side input of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SideInput {
    /// Its number within the task, from 1 without gaps; a switch has none of its own.
    pub number: u64,
    /// Where in the log it was taken: before this offset, after everything below.
    pub next: NextOffset,
    /// What it is.
    #[serde(flatten)]
    pub taken: Taken,
}

impl SideInput {
    /// The record's key.
    pub fn key(&self) -> Vec<u8> {
        self.number.to_string().into_bytes()
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts alone")
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_json(value: &[u8]) -> Result<SideInput, String> {
        serde_json::from_slice(value).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(taken: Taken, text: &str) {
        let input = SideInput { number: 7, next: NextOffset::new(1234), taken };
        assert_eq!(String::from_utf8(input.to_json()).unwrap(), text);
        assert_eq!(SideInput::from_json(text.as_bytes()), Ok(input));
    }

    #[test]
    fn side_inputs_read_back_as_they_were_written() {
        check(
            Taken::Tick { advance: Millis::from_ms(251) },
            r#"{"number":7,"next":1234,"kind":"tick","advance_ms":251}"#,
        );
        check(
            Taken::Switch { from: InForce::new(3, 1), to: InForce::new(4, u128::MAX) },
            "{\"number\":7,\"next\":1234,\"kind\":\"switch\",\"from\":{\"fold_version\":3,\
             \"configuration\":\"00000000000000000000000000000001\"},\"to\":{\"fold_version\":4,\
             \"configuration\":\"ffffffffffffffffffffffffffffffff\"}}",
        );
        check(Taken::Seal, r#"{"number":7,"next":1234,"kind":"seal"}"#);
    }

    #[test]
    fn what_is_no_side_input_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"number":7,"next":1234,"kind":"tick"}"#,
            r#"{"number":-7,"next":1234,"kind":"seal"}"#,
            r#"{"number":7,"next":1234,"kind":"tock"}"#,
            r#"{"number":7,"kind":"seal"}"#,
        ] {
            assert!(SideInput::from_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
