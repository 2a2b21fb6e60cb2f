//! Numbers and names as people read them.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A rate or count with thousands separators, without decimals from ten up.
pub(super) fn count(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    grouped(&format!("{value:.0}"))
}

/// A number of things with thousands separators.
pub(super) fn whole(number: usize) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
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

/// A name that a process gave itself, without what would steer a terminal.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// `text` in at most `width` columns of a terminal: of what is longer the middle is left out, for
/// beginnings and ends tell things apart.
pub(super) fn elide(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let (head, tail) = (room / 2, room - room / 2);
    let as_many = |letters: &mut dyn Iterator<Item = char>, most: usize| -> Vec<char> {
        let mut used = 0;
        let fits = |letter: &char| {
            used += letter.width().unwrap_or(0);
            used <= most
        };
        letters.take_while(fits).collect()
    };
    let start: String = as_many(&mut text.chars(), head).into_iter().collect();
    let end: String = as_many(&mut text.chars().rev(), tail).into_iter().rev().collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_and_ends_stay() {
        assert_eq!(elide("abcdef", 6), "abcdef");
        assert_eq!(elide("abcdefg", 6), "ab…efg");
        assert_eq!(elide("abcdefg", 1), "…");
        assert_eq!(elide("工作进程", 5), "工…程");
        assert_eq!(elide("abc", 0), "…");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0.0), "0.0");
        assert_eq!(count(9.96), "10.0");
        assert_eq!(count(999.6), "1,000");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(123_456.0), "123,456");
        assert_eq!((whole(7), whole(98_304)), ("7".to_owned(), "98,304".to_owned()));
    }

    #[test]
    fn a_process_cannot_steer_the_terminal() {
        assert_eq!(printable("nginx: worker"), "nginx: worker");
        assert_eq!(printable("\u{1b}[2Jowned\u{9b}\n"), "?[2Jowned??");
    }

    #[test]
    fn unknown_is_a_dash_and_zero_is_zero() {
        assert_eq!(percent(None), "-");
        assert_eq!(percent(Some(0.0)), "0.0 %");
        assert_eq!(or_dash(None::<u32>), "-");
        assert_eq!(or_dash(Some(0)), "0");
    }
}
