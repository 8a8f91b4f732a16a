//! Flushes on the repartition topic between `journey` and `rollup`.
//!
//! | bytes | what |
//! | --- | --- |
//! | 2 | `TF` |
//! | 1 | version of the format |
//! | 8 | xxh3 of the body, little endian |
//! | rest | the [`Flush`] in postcard |
//!
//! An internal format: no other program reads it, and another version of Touchline refuses it
//! instead of guessing. Deliberately absent: compression (the producer's) and splitting.

use crate::model::figures::Flush;
use xxhash_rust::xxh3::xxh3_64;

/// First two bytes.
const MAGIC: [u8; 2] = *b"TF";
/// Version of the format; changes with [`Flush`] or anything in it.
pub const VERSION: u8 = 1;
const HEAD_BYTES: usize = 11;

/// Why a flush cannot be read. Each of them is a broken invariant: we wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlushError {
    /// Too short, or no flush at all.
    #[error("not a flush record: check that nothing else writes to the repartition topic")]
    NotAFlush,
    /// Written by another version.
    #[error("flush of format version {0}, this program reads {VERSION}: run `state reset`")]
    Version(u8),
    /// The checksum is not that of the body.
    #[error("flush with a wrong checksum: the repartition topic is damaged, run `state reset`")]
    Checksum,
    /// The checksum is right, and yet it is no flush.
    #[error("flush that cannot be decoded: run `state reset`")]
    Malformed,
}

/// Appends `flush`.
pub fn encode(flush: &Flush, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&[0; 8]);
    super::packed::append(flush, out);
    let sum = xxh3_64(&out[start + HEAD_BYTES..]);
    out[start + 3..start + HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a flush.
pub fn decode(bytes: &[u8]) -> Result<Flush, FlushError> {
    let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(FlushError::NotAFlush)?;
    let [m0, m1, version, sum @ ..] = head else {
        return Err(FlushError::NotAFlush);
    };
    if [*m0, *m1] != MAGIC {
        return Err(FlushError::NotAFlush);
    }
    if *version != VERSION {
        return Err(FlushError::Version(*version));
    }
    if xxh3_64(body).to_le_bytes() != *sum {
        return Err(FlushError::Checksum);
    }
    match postcard::take_from_bytes(body) {
        Ok((flush, [])) => Ok(flush),
        _ => Err(FlushError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dimension::{Dimension, Dimensions};
    use crate::model::figures::{Cell, Cohort, Figures, Link, SliceEvidence, TenantCells};
    use crate::model::time::{EventTime, Slice};

    fn sample() -> Flush {
        let mut figures = Figures { events: 3, sessions: -1, ..Figures::default() };
        figures.value.add("EUR", -170_141_183_460_469_231_731_687_303_715_884_105_727);
        let slice = Slice::from_number(-3);
        Flush {
            generation: u64::MAX,
            number: 7,
            partition: 2,
            partitions: 8,
            clock: Some(EventTime::from_ms(-1)),
            watermark: None,
            idle: true,
            closed: false,
            tenants: vec![TenantCells {
                tenant: "default".into(),
                series: vec![
                    Dimensions::TOTAL,
                    Dimensions::new([(Dimension::Channel, "web".into())]),
                ],
                cells: vec![Cell {
                    slice,
                    due: slice.plus(1),
                    series: 1,
                    figures,
                    cohort: Cohort { latest_decision: Some(slice), ..Cohort::default() },
                    links: vec![Link { back: 4, n: -1 }],
                }],
                evidence: vec![SliceEvidence { slice, due: slice, from: 0, to: i64::MAX }],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = b"before".to_vec();
        encode(&sample(), &mut out);
        assert_eq!(decode(&out[6..]), Ok(sample()));
    }

    #[test]
    fn damage_is_noticed() {
        let mut good = Vec::new();
        encode(&sample(), &mut good);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
        let mut other = good.clone();
        other[2] = 2;
        assert_eq!(decode(&other), Err(FlushError::Version(2)));
        // A right checksum over a body that is none.
        let mut longer = good[..HEAD_BYTES].to_vec();
        longer.extend_from_slice(&good[HEAD_BYTES..]);
        longer.push(0);
        let sum = xxh3_64(&longer[HEAD_BYTES..]).to_le_bytes();
        longer[3..HEAD_BYTES].copy_from_slice(&sum);
        assert_eq!(decode(&longer), Err(FlushError::Malformed));
    }
}
