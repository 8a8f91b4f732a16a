//! Chance as data: a small generator (xoshiro256++, seeded by splitmix64) whose stream is part of the
//! format, so that a seed gives the same traffic in every version. Not for secrets.

/// Mixes numbers into one: the seed of a stream of its own (splitmix64's finisher).
pub(super) fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x9e37_79b9_7f4a_7c15, |state, n| {
        let mut z = (state ^ n).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A stream of chance.
#[derive(Clone, Debug)]
pub(super) struct Rng([u64; 4]);

impl Rng {
    /// Starts the stream of a seed.
    pub(super) fn new(seed: u64) -> Rng {
        Rng([0u64, 1, 2, 3].map(|i| mix(&[seed, i])))
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// From 0 (inclusive) to 1 (exclusive).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// From 0 (inclusive) to `n` (exclusive); 0 for an empty range.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        (self.unit() * n as f64) as u64
    }

    /// From `low` (inclusive) to `high` (exclusive).
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(u64::try_from(high - low).unwrap_or(0)) as i64
    }

    /// Exponentially distributed with the given mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// One of `values`, all alike.
    pub(super) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// One of `values` by weight.
    pub(super) fn weighted<T: Copy>(&mut self, values: &[(T, f64)]) -> T {
        let total: f64 = values.iter().map(|(_, w)| w).sum();
        let mut left = self.unit() * total;
        for (value, weight) in values {
            left -= weight;
            if left < 0.0 {
                return *value;
            }
        }
        values[values.len() - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream() {
        let take = |seed| {
            let mut rng = Rng::new(seed);
            [rng.next(), rng.next(), rng.next()]
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
        assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
    }

    #[test]
    fn draws_stay_in_their_ranges_and_have_their_means() {
        let mut rng = Rng::new(3);
        let mut sum = 0.0;
        let mut hits = 0;
        for _ in 0..20_000 {
            assert!((5..9).contains(&rng.between(5, 9)));
            assert!(rng.below(3) < 3);
            sum += rng.exponential(10.0);
            hits += i32::from(rng.weighted(&[(true, 1.0), (false, 3.0)]));
        }
        assert!((9.5..10.5).contains(&(sum / 20_000.0)));
        assert!((4_700..5_300).contains(&hits));
    }
}
