//! Decimal text to whole numbers, exactly: no money passes through a float.

/// Why a text is no whole number after scaling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecimalError {
    /// It is no decimal number.
    NotANumber,
    /// It is beyond what 128 bits hold.
    TooLarge,
}

/// How what is left of a fraction is rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// To the nearest, halves away from zero: money.
    Nearest,
    /// Downwards: times.
    Floor,
    /// Upwards: with the above, tells whether there is a fraction.
    Ceiling,
}

/// `text` × `factor` as a whole number; `factor` must be above zero.
///
/// ```
/// use touchline::ingest::decimal::{Rounding, scaled};
/// assert_eq!(scaled("1.1", 100, Rounding::Nearest), Ok(110));
/// assert_eq!(scaled("-0.005", 100, Rounding::Nearest), Ok(-1));
/// assert_eq!(scaled("1e3", 1, Rounding::Nearest), Ok(1000));
/// ```
///
/// # Errors
/// If `text` is no decimal number, or too large.
pub fn scaled(text: &str, factor: i64, rounding: Rounding) -> Result<i128, DecimalError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    if digits().all(|b| b == b'0') {
        return Ok(0);
    }
    let mut number: i128 = 0;
    // Digits beyond the 30th below the point decide nothing but a tie; they are kept as "more".
    let mut power = exponent - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let mut more = false;
    for digit in digits() {
        match number.checked_mul(10).and_then(|n| n.checked_add(i128::from(digit - b'0'))) {
            Some(next) if next < i128::MAX / 1_000_000_000_000 => number = next,
            _ => {
                more |= digit != b'0';
                power += 1;
            }
        }
    }
    let mut scaled = number.checked_mul(i128::from(factor)).ok_or(DecimalError::TooLarge)?;
    while power > 0 {
        scaled = scaled.checked_mul(10).ok_or(DecimalError::TooLarge)?;
        power -= 1;
    }
    let divisor = match u32::try_from(-power).ok().and_then(|p| 10i128.checked_pow(p)) {
        Some(divisor) => divisor,
        // So many places below the point that nothing but the sign is left.
        None => {
            return Ok(match rounding {
                Rounding::Floor if negative => -1,
                Rounding::Ceiling if !negative => 1,
                _ => 0,
            });
        }
    };
    let (quotient, rest) = (scaled / divisor, scaled % divisor);
    let up = match rounding {
        Rounding::Nearest => rest >= divisor - rest && rest > 0,
        Rounding::Floor => negative && (rest > 0 || more),
        Rounding::Ceiling => !negative && (rest > 0 || more),
    };
    let magnitude = quotient + i128::from(up);
    Ok(if negative { -magnitude } else { magnitude })
}

fn parse_exponent(text: &str) -> Result<i64, DecimalError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let exponent = text.strip_prefix('+').unwrap_or(text).parse::<i64>();
    // An exponent beyond this is as good as endless.
    Ok(exponent
        .unwrap_or(if text.starts_with('-') { -100_000 } else { 100_000 })
        .clamp(-100_000, 100_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let check = |text: &str, factor: i64, expected: Result<i128, DecimalError>| {
            assert_eq!(scaled(text, factor, Rounding::Nearest), expected, "{text}");
        };
        use DecimalError::{NotANumber, TooLarge};
        check("0.29", 100, Ok(29));
        check("1.15", 100, Ok(115));
        check("35.79", 100, Ok(3579));
        check("-35.79", 100, Ok(-3579));
        check("9007199254740993", 1, Ok(9_007_199_254_740_993));
        check("90071992547409.93", 100, Ok(9_007_199_254_740_993));
        check("1.005", 100, Ok(101));
        check("1.0049999999999999999999999999999999999999999", 100, Ok(100));
        check("-1.005", 100, Ok(-101));
        check("5", 100, Ok(500));
        check("1.5e2", 100, Ok(15_000));
        check("15e-1", 100, Ok(150));
        check(".5", 100, Ok(50));
        check("5.", 100, Ok(500));
        check("0e999999999999999999999", 1, Ok(0));
        check("1e-999999999999999999999", 100, Ok(0));
        check("1e999999999999999999999", 1, Err(TooLarge));
        for text in ["", "-", ".", "1,5", "abc", "1e", "e5", "1.2.3", "NaN", "0x10", "--1", "1e+-2"]
        {
            check(text, 100, Err(NotANumber));
        }
    }

    #[test]
    fn times_are_cut_downwards() {
        let check = |text: &str, expected: i128| {
            assert_eq!(scaled(text, 1_000, Rounding::Floor), Ok(expected), "{text}");
        };
        check("1614617.5019", 1_614_617_501);
        check("-0.0001", -1);
        check("-0.001", -1);
        check("-1e-60", -1);
        check("1e-60", 0);
    }
}
