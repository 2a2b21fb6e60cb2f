//! Numbers as people read them.

/// A rate or count with thousands separators, without decimals from ten up.
pub(super) fn count(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A share as a percentage; a dash where it is unknown.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// Anything, or a dash.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0.0), "0.0");
        assert_eq!(count(9.96), "10.0");
        assert_eq!(count(999.6), "1,000");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(123_456.0), "123,456");
    }

    #[test]
    fn unknown_is_a_dash_and_zero_is_zero() {
        assert_eq!(percent(None), "-");
        assert_eq!(percent(Some(0.0)), "0.0 %");
        assert_eq!(or_dash(None::<u32>), "-");
        assert_eq!(or_dash(Some(0)), "0");
    }
}
