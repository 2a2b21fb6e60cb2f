//! The times of the week in which steer may write.
//!
//! A time is `[DAYS] [FROM-TO]`: `Sat,Sun`, `02:00-05:00`, `Mon-Fri 22:00-06:00`. One that ends before
//! it begins ends on the next day. Times are what the clock on the wall of the host shows: where it
//! is set forward, what it leaves out does not happen (a window inside the skipped hour stays shut
//! that night); where it is set back, the hour that comes twice counts both times.

use std::fmt;
use std::str::FromStr;

const DAY_MINUTES: u16 = 24 * 60;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
/// As systemd.time(7) and crontab(5) have them.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// No week has more changes of shift than this; more is a slip.
const MOST_TIMES: usize = 64;

/// A moment of the week as the wall clock shows it, in minutes since Monday 00:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u16);

impl WallTime {
    /// Monday, midnight.
    pub const MONDAY: Self = Self(0);

    /// `day` 0 is Monday. `None` for what no clock shows.
    #[must_use]
    pub fn new(day: u16, hour: u16, minute: u16) -> Option<Self> {
        (day < 7 && hour < 24 && minute < 60).then(|| Self(day * DAY_MINUTES + hour * 60 + minute))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS.get(usize::from(self.0 / DAY_MINUTES)).copied().unwrap_or("?");
        let minute = self.0 % DAY_MINUTES;
        write!(f, "{day} {:02}:{:02}", minute / 60, minute % 60)
    }
}

/// When steer may write; without any time, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceWindow(Vec<Times>);

/// Some hours of some days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    /// The first minute that is no longer in it; after midnight of the next day where it is above
    /// [`DAY_MINUTES`].
    to: u16,
}

/// Text that is not a time of the week.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time such as `Sat,Sun`, `02:00-05:00` or `Mon-Fri 22:00-06:00`: {why}")]
pub struct ParseWindowError {
    text: String,
    why: String,
}

impl MaintenanceWindow {
    /// Reads one time from each text.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseWindowError> {
        let mut times = Vec::new();
        for text in texts {
            if times.len() == MOST_TIMES {
                let why = format!("there are more than {MOST_TIMES}");
                return Err(ParseWindowError { text: text.to_owned(), why });
            }
            times.push(text.parse()?);
        }
        Ok(Self(times))
    }

    /// Its times as they are written.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether steer may write at `now`.
    #[must_use]
    pub fn is_open(&self, now: WallTime) -> bool {
        self.0.is_empty() || self.0.iter().any(|times| times.holds(now))
    }

    /// The next moment from `now` on at which one of its times begins; `None` where it never shuts.
    #[must_use]
    pub fn next_opening(&self, now: WallTime) -> Option<WallTime> {
        let begins = self.0.iter().flat_map(|times| {
            (0..7u16)
                .filter(|day| times.days & (1 << day) != 0)
                .map(|day| day * DAY_MINUTES + times.from)
        });
        begins.min_by_key(|at| (at + WEEK_MINUTES - now.0) % WEEK_MINUTES).map(WallTime)
    }

    /// Why nothing is written at `now`, if so.
    #[must_use]
    pub fn why_shut(&self, now: WallTime) -> Option<String> {
        if self.is_open(now) {
            return None;
        }
        let next = self.next_opening(now).map_or(String::new(), |next| format!(", next {next}"));
        Some(format!(
            "it is {now}, outside `maintenance_window` ({}{next}): nothing is written",
            self.texts().join("; ")
        ))
    }
}

impl Times {
    fn holds(self, now: WallTime) -> bool {
        let (day, minute) = (now.0 / DAY_MINUTES, now.0 % DAY_MINUTES);
        let on = |day: u16| self.days & (1 << day) != 0;
        let from_today = on(day) && (self.from..self.to).contains(&minute);
        // What began yesterday may run on into today.
        from_today || (on((day + 6) % 7) && minute + DAY_MINUTES < self.to)
    }
}

impl FromStr for Times {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why: &str| ParseWindowError { text: text.to_owned(), why: why.to_owned() };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [hours] if hours.contains(':') => (None, Some(*hours)),
            [days] => (Some(*days), None),
            [days, hours] => (Some(*days), Some(*hours)),
            _ => return Err(fail("expected days, hours or both")),
        };
        let days = days.map_or(Ok(0x7f), |days| days_of(days).map_err(|why| fail(&why)))?;
        let (from, to) = hours
            .map_or(Ok((0, DAY_MINUTES)), |hours| hours_of(hours).map_err(|why| fail(&why)))?;
        Ok(Self { days, from, to })
    }
}

fn days_of(text: &str) -> Result<u8, String> {
    let number = |name: &str| {
        DAYS.iter()
            .position(|day| day.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("`{name}` is none of {}", DAYS.join(", ")))
    };
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        // `Sat-Mon` runs over the end of the week.
        let count = (last + 7 - first) % 7 + 1;
        for day in (first..).take(count) {
            days |= 1 << (day % 7);
        }
    }
    Ok(days)
}

fn hours_of(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').ok_or("expected hours as FROM-TO")?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    if from == DAY_MINUTES {
        return Err("24:00 ends a day and begins none".to_owned());
    }
    match to {
        to if to == from => Err("it ends as it begins; `00:00-24:00` is a whole day".to_owned()),
        to if to < from => Ok((from, to + DAY_MINUTES)),
        to => Ok((from, to)),
    }
}

fn minutes(text: &str) -> Result<u16, String> {
    let fail = || format!("`{text}` is not a time from 00:00 to 24:00");
    let two_digits = |part: &str| -> Option<u16> {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse().ok() } else { None }
    };
    let (hour, minute) = text.split_once(':').ok_or_else(fail)?;
    let (hour, minute) = (two_digits(hour).ok_or_else(fail)?, two_digits(minute).ok_or_else(fail)?);
    let total = hour * 60 + minute;
    if minute < 60 && total <= DAY_MINUTES { Ok(total) } else { Err(fail()) }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0x7f {
            write!(f, "{}", days_in_words(self.days))?;
            if (self.from, self.to) == (0, DAY_MINUTES) {
                return Ok(());
            }
            write!(f, " ")?;
        }
        let to = if self.to > DAY_MINUTES { self.to - DAY_MINUTES } else { self.to };
        let (from, to) = ((self.from / 60, self.from % 60), (to / 60, to % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

/// `Mon-Fri,Sun`: three days and more in a row are a range.
fn days_in_words(days: u8) -> String {
    let on: Vec<usize> = (0..DAYS.len()).filter(|day| days & (1 << day) != 0).collect();
    let name = |day: &usize| DAYS.get(*day).copied().unwrap_or_default();
    let runs = on.chunk_by(|day, next| day + 1 == *next);
    let words = runs.map(|run| match run {
        [first, _, .., last] => format!("{}-{}", name(first), name(last)),
        few => few.iter().map(name).collect::<Vec<_>>().join(","),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use jiff::civil::Weekday;
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, Zoned};
    use proptest::prelude::*;

    use super::*;

    fn window(texts: &[&str]) -> MaintenanceWindow {
        MaintenanceWindow::parse(texts.iter().copied()).expect("valid")
    }

    fn at(day: u16, hour: u16, minute: u16) -> WallTime {
        WallTime::new(day, hour, minute).expect("a time")
    }

    #[test]
    fn without_a_time_it_is_always_open() {
        let always = MaintenanceWindow::default();
        assert!(always.is_open(at(3, 12, 0)));
        assert_eq!(always.next_opening(at(3, 12, 0)), None);
        assert_eq!(always.why_shut(at(0, 0, 0)), None);
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let nights = window(&["Mon-Fri 22:00-06:00"]);
        assert!(nights.is_open(at(0, 22, 0)), "Monday evening");
        assert!(nights.is_open(at(5, 5, 59)), "Saturday morning is Friday's night");
        assert!(!nights.is_open(at(5, 6, 0)), "the end is not in it");
        assert!(!nights.is_open(at(0, 5, 0)), "Monday morning would be Sunday's");
        assert!(!nights.is_open(at(5, 22, 0)));
        assert_eq!(nights.next_opening(at(5, 6, 0)), Some(at(0, 22, 0)), "over the week's end");
        assert_eq!(
            nights.why_shut(at(5, 6, 0)).as_deref(),
            Some(
                "it is Sat 06:00, outside `maintenance_window` (Mon-Fri 22:00-06:00, \
                 next Mon 22:00): nothing is written"
            )
        );
    }

    #[test]
    fn days_and_hours_may_be_left_out() {
        let either = window(&["Sat-Sun", "02:00-05:00"]);
        assert!(either.is_open(at(5, 12, 0)) && either.is_open(at(6, 23, 59)));
        assert!(either.is_open(at(2, 4, 59)) && !either.is_open(at(2, 5, 0)));
        assert!(window(&["Sun-Mon"]).is_open(at(0, 0, 0)), "days run over the week's end");
        assert!(!window(&["Sun-Mon"]).is_open(at(1, 0, 0)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "expected days, hours or both"),
            ("Mon 1:00-02:00", "`1:00` is not a time"),
            ("Mon 02:00", "FROM-TO"),
            ("Mo 02:00-03:00", "`Mo` is none of Mon"),
            ("02:00-02:00", "ends as it begins"),
            ("24:00-01:00", "begins none"),
            ("23:00-24:01", "`24:01` is not a time"),
            ("12:60-13:00", "`12:60` is not a time"),
            ("Mon Tue 02:00-03:00", "expected days"),
            ("+1:00-02:00", "`+1:00` is not a time"),
        ] {
            let error = MaintenanceWindow::parse([text]).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(MaintenanceWindow::parse(["Mon"; 65]).is_err());
    }

    /// Central Europe: forward at 02:00 on the last Sunday of March, back at 03:00 on that of October.
    fn wall(utc: &str) -> WallTime {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let zoned: Zoned = utc.parse::<Timestamp>().expect("a time").to_zoned(zone);
        let day = match zoned.weekday() {
            Weekday::Sunday => 6,
            day => u16::try_from(day.to_monday_zero_offset()).expect("small"),
        };
        let part = |number: i8| u16::try_from(number).expect("not negative");
        at(day, part(zoned.hour()), part(zoned.minute()))
    }

    #[test]
    fn an_hour_that_is_left_out_does_not_happen() {
        let skipped = window(&["02:00-03:00"]);
        // 2026-03-29: 01:59 CET is followed by 03:00 CEST.
        assert!(!skipped.is_open(wall("2026-03-29T00:59:00Z")));
        assert!(!skipped.is_open(wall("2026-03-29T01:00:00Z")));
        assert_eq!(wall("2026-03-29T01:00:00Z"), at(6, 3, 0));
        // A night around it is an hour shorter.
        let night = window(&["Sat 22:00-06:00"]);
        let open = |utc: &str| night.is_open(wall(utc));
        assert!(open("2026-03-28T21:00:00Z") && open("2026-03-29T03:59:00Z"));
        assert!(!open("2026-03-29T04:00:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_counts_twice() {
        let doubled = window(&["02:00-03:00"]);
        // 2026-10-25: 02:00 to 03:00 comes in CEST, then in CET.
        for utc in ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"] {
            assert_eq!(wall(utc), at(6, 2, 30));
            assert!(doubled.is_open(wall(utc)), "{utc}");
        }
        assert!(!doubled.is_open(wall("2026-10-25T02:00:00Z")));
    }

    fn times() -> impl Strategy<Value = Times> {
        (1u8..0x80, 0..DAY_MINUTES, 1..DAY_MINUTES).prop_map(|(days, from, length)| Times {
            days,
            from,
            to: from + length,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_it_was(times in times()) {
            let window = MaintenanceWindow(vec![times]);
            let texts = window.texts();
            let again = MaintenanceWindow::parse(texts.iter().map(String::as_str)).expect("reads");
            prop_assert_eq!(again, window);
        }

        #[test]
        fn open_minutes_are_those_of_its_days(times in times()) {
            let window = MaintenanceWindow(vec![times]);
            let open = (0..WEEK_MINUTES).filter(|now| window.is_open(WallTime(*now))).count();
            // Less than a day each, so that one day's time never meets the next day's.
            let each = usize::from(times.to - times.from);
            prop_assert_eq!(open, each * usize::try_from(times.days.count_ones()).expect("small"));
        }

        #[test]
        fn it_opens_when_it_says_and_not_before(times in times(), now in 0..WEEK_MINUTES) {
            let window = MaintenanceWindow(vec![times]);
            prop_assume!(!window.is_open(WallTime(now)));
            let next = window.next_opening(WallTime(now)).expect("it opens");
            prop_assert!(window.is_open(next));
            let mut minute = now;
            while minute != next.0 {
                prop_assert!(!window.is_open(WallTime(minute)));
                minute = (minute + 1) % WEEK_MINUTES;
            }
        }

        #[test]
        fn no_text_is_too_odd(text in ".*") {
            let _ = MaintenanceWindow::parse([text.as_str()]);
        }
    }
}
