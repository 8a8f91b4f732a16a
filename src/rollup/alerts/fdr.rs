//! One false-discovery pass over everything that is tested at one evaluation.
//!
//! Benjamini and Hochberg's step-up procedure (1995). The series of one pass are positively
//! dependent (the total holds every channel), for which it keeps its promise (Benjamini and
//! Yekutieli 2001). e-BH would hold under any dependence, but calibrating p-values into e-values
//! costs most of the power at the sample sizes of one shop. It says nothing over time: the levels
//! are chosen so small that four weeks of passes rarely see one.

/// Adjusts p-values for the number of tests: what is at most `q` after it is a discovery at level
/// `q`. Results stand in the order of the input.
///
/// ```
/// use touchline::rollup::alerts::fdr::adjust;
/// assert_eq!(adjust(&[0.01, 0.5, 0.02, 0.03]), [0.04, 0.5, 0.04, 0.04]);
/// ```
pub fn adjust(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 1.0;
    for (rank, &at) in order.iter().enumerate().rev() {
        least = least.min(p[at] * p.len() as f64 / (rank + 1) as f64);
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjustment_follows_the_ranks() {
        let check = |p: &[f64], expected: &[f64]| {
            let got = adjust(p);
            assert_eq!(got.len(), expected.len());
            for (g, e) in got.iter().zip(expected) {
                assert!((g - e).abs() < 1e-12, "{p:?}: {got:?}");
            }
        };
        check(&[], &[]);
        check(&[0.3], &[0.3]);
        check(&[0.5, 0.9], &[0.9, 0.9]);
        check(&[0.001, 0.9, 0.002], &[0.003, 0.9, 0.003]);
        check(&[0.9, 0.8], &[0.9, 0.9]);
        check(&[0.0, 1.0], &[0.0, 1.0]);
    }
}
