//! Measured numbers as text with a fixed count of digits, for tables, pages and log lines. Which
//! numbers are shown, and with how many digits, is their owners' business.

/// `value` with `digits` behind the point; what rounds to zero is zero, whichever side it came
/// from.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if is_zero(rest) => rest.to_owned(),
        _ => text,
    }
}

/// As [`fixed`], with the sign of a difference; one that rounds to zero has none.
pub fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value, digits);
    if value > 0.0 && !is_zero(&text) { format!("+{text}") } else { text }
}

fn is_zero(text: &str) -> bool {
    text.chars().all(|character| matches!(character, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        for (value, digits, expected) in [
            (-0.0004, 3, "0.000"),
            (-0.0, 2, "0.00"),
            (0.0004, 3, "0.000"),
            (-0.4, 0, "0"),
            (-0.0005001, 3, "-0.001"),
            (-1.25, 1, "-1.2"),
            (f64::NEG_INFINITY, 3, "-inf"),
            (f64::NAN, 3, "NaN"),
        ] {
            assert_eq!(fixed(value, digits), expected, "{value}");
        }
        for (value, expected) in [
            (0.0004, "0.000"),
            (-0.0004, "0.000"),
            (0.25, "+0.250"),
            (-0.25, "-0.250"),
            (f64::INFINITY, "+inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(signed(value, 3), expected, "{value}");
        }
    }
}
