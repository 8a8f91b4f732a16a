//! What a committed offset says besides its number: the text that Kafka keeps beside it.

use crate::model::ids::NextOffset;
use crate::model::time::EventTime;
use compact_str::CompactString;
use std::fmt;
use std::str::FromStr;

/// Version of the text.
const VERSION: &str = "tl3";
/// The one before did not say which run it was.
const WITHOUT_RUN: &str = "tl2";

/// Which state a committed offset belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// Generation of the state: another one shares nothing with it.
    pub generation: u64,
    /// Number of the commit within its partition, from 1.
    pub commit: u64,
    /// Number of the last checkpoint that was committed with or before it; 0 without state.
    pub checkpoint: u64,
    /// Number of the last side input that the state has taken.
    pub side_input: u64,
    /// Parts of the record at the offset that are published already.
    pub part: u64,
    /// Watermark of the task: what a task without state remembers across a restart, so that what it
    /// says of its source afterwards is not less than before.
    pub watermark: Option<EventTime>,
    /// Which run of the committer it was: the successor of a stopped worker has its name, and its next
    /// commit the same number. 0 if it was not said.
    pub run: u64,
    /// Transactional id of the worker that committed.
    pub committer: CompactString,
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Metadata { generation, commit, checkpoint, side_input, part, .. } = self;
        write!(f, "{VERSION} {generation} {commit} {checkpoint} {side_input} {part} ")?;
        match self.watermark {
            Some(watermark) => write!(f, "{} ", watermark.as_ms())?,
            None => f.write_str("- ")?,
        }
        write!(f, "{:x} {}", self.run, self.committer)
    }
}

impl FromStr for Metadata {
    type Err = ();

    fn from_str(text: &str) -> Result<Metadata, ()> {
        let (version, text) = text.split_once(' ').ok_or(())?;
        let mut parts = match version {
            VERSION => text.splitn(8, ' '),
            WITHOUT_RUN => text.splitn(7, ' '),
            _ => return Err(()),
        };
        let mut number = || parts.next().and_then(|text| text.parse().ok()).ok_or(());
        let [generation, commit, checkpoint, side_input, part] =
            [number()?, number()?, number()?, number()?, number()?];
        let watermark = match parts.next().ok_or(())? {
            "-" => None,
            text => Some(EventTime::from_ms(text.parse().map_err(|_| ())?)),
        };
        let run = match version {
            VERSION => u64::from_str_radix(parts.next().ok_or(())?, 16).map_err(|_| ())?,
            _ => 0,
        };
        let committer = parts.next().ok_or(())?.into();
        Ok(Metadata { generation, commit, checkpoint, side_input, part, watermark, run, committer })
    }
}

/// A committed offset, as the group's coordinator has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The first offset whose outputs are not all published.
    pub next: NextOffset,
    /// What stands beside it; `None` if it is not ours (somebody has set the offset by hand).
    pub metadata: Option<Metadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survive_the_text_and_foreign_text_is_refused() {
        let metadata = Metadata {
            generation: 3,
            commit: 17,
            checkpoint: 2,
            side_input: 1,
            part: 0,
            watermark: None,
            run: 0xfe,
            committer: "shop-journey-a 0".into(),
        };
        assert_eq!(metadata.to_string().parse(), Ok(metadata.clone()));
        let watermark = Some(EventTime::from_ms(-5));
        let metadata = Metadata { watermark, ..metadata };
        assert_eq!(metadata.to_string().parse(), Ok(metadata.clone()));
        let before = "tl2 3 17 2 1 0 -5 shop-journey-a 0".parse();
        assert_eq!(before, Ok(Metadata { run: 0, ..metadata }));
        for text in [
            "",
            "tl1 1 2 3 4 5 - x",
            "tl2 1 2 3 4 5 -",
            "tl2 1 2 three 4 5 - x",
            "tl2 1 2 3 4 5 y x",
            "tl3 1 2 3 4 5 - x",
            "tl3 1 2 3 4 5 - y x",
        ] {
            assert_eq!(text.parse::<Metadata>(), Err(()), "{text}");
        }
    }
}
