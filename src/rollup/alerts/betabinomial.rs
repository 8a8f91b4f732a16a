//! Tails of the beta-binomial distribution, and the interval of a share.
//!
//! A share that varies from window to window more than a coin would is a binomial whose probability
//! is itself drawn from a beta distribution. `rho` is the correlation of two checkouts of one window
//! (over-dispersion φ of the literature; Skellam 1948): the variance is n·p·(1−p)·(1 + (n−1)·rho).
//! Sums are exact (term by term from the tail's start), not normal approximations: it is small
//! samples that matter here. No quantiles: nothing needs them.

use statrs::function::gamma::ln_gamma;

/// Below it a beta-binomial is its binomial limit: ln Γ at 1e7 and above loses too many digits.
const RHO_BINOMIAL: f64 = 1e-7;
/// Means are kept this far from 0 and 1, where the distribution has no width.
const MEAN_MARGIN: f64 = 1e-6;

/// Returns P(X ≥ `k`) of `n` trials with mean share `mean` and correlation `rho`.
///
/// ```
/// use touchline::rollup::alerts::betabinomial::upper_tail;
/// // 3 of 3 at 0.3 each: 0.3³.
/// assert!((upper_tail(3, 3, 0.3, 0.0) - 0.027).abs() < 1e-12);
/// // The same with windows that differ: likelier.
/// assert!(upper_tail(3, 3, 0.3, 0.05) > 0.027);
/// ```
pub fn upper_tail(n: i64, k: i64, mean: f64, rho: f64) -> f64 {
    if k <= 0 {
        return 1.0;
    }
    if k > n {
        return 0.0;
    }
    let mean = mean.clamp(MEAN_MARGIN, 1.0 - MEAN_MARGIN);
    let shape = Shape::new(mean, rho);
    if (k as f64) > n as f64 * mean {
        return shape.sum(n, k).min(1.0);
    }
    // Below the mean the tail is nearly all: sum what is missing, which cannot vanish in rounding
    // before it is negligible. It is the upper tail of the mirrored distribution.
    (1.0 - shape.mirror().sum(n, n - k + 1)).max(0.0)
}

/// Wilson's 95 % interval of a share (Wilson 1927).
pub fn wilson_95(k: i64, n: i64) -> (f64, f64) {
    if n <= 0 {
        return (0.0, 1.0);
    }
    let z = 1.959_963_984_540_054;
    let (k, n) = (k as f64, n as f64);
    let share = k / n;
    let spread = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / spread;
    let half = z / spread * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

enum Shape {
    Binomial { mean: f64 },
    Beta { a: f64, b: f64 },
}

impl Shape {
    fn new(mean: f64, rho: f64) -> Shape {
        if rho < RHO_BINOMIAL {
            return Shape::Binomial { mean };
        }
        let weight = 1.0 / rho.min(0.99) - 1.0;
        Shape::Beta { a: mean * weight, b: (1.0 - mean) * weight }
    }

    /// The distribution of n − X.
    fn mirror(&self) -> Shape {
        match *self {
            Shape::Binomial { mean } => Shape::Binomial { mean: 1.0 - mean },
            Shape::Beta { a, b } => Shape::Beta { a: b, b: a },
        }
    }

    /// P(X ≥ k) for a `k` above the mean, term by term.
    fn sum(&self, n: i64, k: i64) -> f64 {
        let mut term = self.ln_mass(n, k).exp();
        let mut sum = term;
        for i in k..n {
            let step = (n - i) as f64 / (i + 1) as f64 * self.odds(n, i);
            term *= step;
            sum += term;
            // The ratio of neighbours falls from here on: the rest is below a geometric series.
            if step < 0.9 && term < sum * 1e-17 {
                break;
            }
        }
        sum
    }

    /// ln P(X = k).
    fn ln_mass(&self, n: i64, k: i64) -> f64 {
        let (n, k) = (n as f64, k as f64);
        let choose = ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
        choose
            + match *self {
                Shape::Binomial { mean } => k * mean.ln() + (n - k) * (1.0 - mean).ln(),
                Shape::Beta { a, b } => ln_beta(k + a, n - k + b) - ln_beta(a, b),
            }
    }

    /// What P(X = i + 1) / P(X = i) has beside the binomial coefficients' ratio.
    fn odds(&self, n: i64, i: i64) -> f64 {
        match *self {
            Shape::Binomial { mean } => mean / (1.0 - mean),
            Shape::Beta { a, b } => (a + i as f64) / (b + (n - i - 1) as f64),
        }
    }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_binomial_of_the_books() {
        let check = |n: i64, k: i64, expected: f64| {
            for rho in [0.0, 1e-6] {
                let p = upper_tail(n, k, 0.3, rho);
                assert!((p / expected - 1.0).abs() < 0.05, "{k} of {n}: {p}, not {expected}");
            }
        };
        // domain: ratios with small denominators, baseline 0.30.
        check(3, 3, 0.027);
        check(10, 5, 0.1503);
        check(20, 10, 0.048);
        check(50, 25, 0.0024);
        check(200, 80, 0.0016);
        check(1000, 360, 0.000_027);
    }

    #[test]
    fn the_interval_is_wilsons() {
        let check = |k: i64, n: i64, lower: f64, upper: f64| {
            let (l, u) = wilson_95(k, n);
            assert!((l - lower).abs() < 6e-4 && (u - upper).abs() < 6e-4, "{k}/{n}: {l} to {u}");
        };
        check(3, 3, 0.438, 1.0);
        check(5, 10, 0.237, 0.763);
        check(10, 20, 0.299, 0.701);
        check(25, 50, 0.366, 0.634);
        check(80, 200, 0.335, 0.469);
        check(360, 1000, 0.331, 0.390);
        check(0, 0, 0.0, 1.0);
    }

    #[test]
    fn tails_are_probabilities_and_fall() {
        for rho in [0.0, 1e-4, 0.01, 0.2] {
            for n in [1, 7, 400] {
                assert!((upper_tail(n, 0, 0.35, rho) - 1.0).abs() < 1e-12);
                assert_eq!(upper_tail(n, n + 1, 0.35, rho), 0.0);
                // From k = 1 on, so that the sum is what gives the whole.
                let none = 1.0 - upper_tail(n, 1, 0.35, rho);
                let mass = Shape::new(0.35, rho).ln_mass(n, 0).exp();
                assert!((none - mass).abs() < 1e-9, "n {n} rho {rho}: {none} {mass}");
                let mut last = 1.0;
                for k in 1..=n {
                    let p = upper_tail(n, k, 0.35, rho);
                    assert!(p <= last + 1e-9, "k {k} of {n}");
                    last = p;
                }
            }
        }
    }

    #[test]
    fn nothing_vanishes_in_large_samples() {
        let check = |n, k, rho, least: f64, most: f64| {
            let p = upper_tail(n, k, 0.35, rho);
            assert!((least..=most).contains(&p), "{k} of {n}: {p}");
        };
        check(100_000, 10, 0.001, 1.0, 1.0);
        check(100_000, 20_000, 0.0, 1.0, 1.0);
        check(100_000, 35_000, 0.0, 0.49, 0.51);
        check(100_000, 35_001, 0.0, 0.49, 0.51);
        check(100_000, 90_000, 0.001, 0.0, 1e-100);
    }

    #[test]
    fn a_uniform_mean_makes_every_count_equally_likely() {
        // Beta(1, 1): mean 1/2, rho = 1/3.
        let p = upper_tail(9, 4, 0.5, 1.0 / 3.0);
        assert!((p - 0.6).abs() < 1e-9, "{p}");
    }
}
