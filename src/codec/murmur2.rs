//! Java's murmur2 as Kafka's default partitioner uses it, so that a key lies where any Java, Python
//! or Go client with that partitioner would have put it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// `org.apache.kafka.common.utils.Utils.murmur2`, as the bits of its `int`.
pub fn murmur2(data: &[u8]) -> u32 {
    // A Java array has at most 2^31 − 1 bytes; the cast only ever cuts what cannot be there.
    let mut h = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of `key` among `partitions`.
///
/// # Panics
/// If `partitions` is not above zero: no topic has none.
///
/// ```
/// use touchline::codec::murmur2::partition_of;
/// assert_eq!(partition_of(b"default|c-42", 1), 0);
/// ```
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    // The mask is Kafka's `toPositive`; masked, the value fits an i32.
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_are_those_of_kafka() {
        let check = |key: &[u8], expected: i32| assert_eq!(murmur2(key) as i32, expected);
        check(b"21", -973_932_308);
        check(b"foobar", -790_332_482);
        check(b"a-little-bit-long-string", -985_981_536);
        check(b"a-little-bit-longer-string", -1_486_304_829);
        check(b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check(b"abc", 479_470_107);
    }

    #[test]
    fn a_negative_hash_has_a_partition_too() {
        assert_eq!(partition_of(b"21", 8), (-973_932_308i32 & 0x7fff_ffff) % 8);
        assert_eq!(partition_of(b"abc", 7), 479_470_107 % 7);
    }
}
