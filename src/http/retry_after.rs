//! How long a server asks to wait: `retry-after-ms`, and `Retry-After` in seconds or as a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::HeaderMap;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What the headers of an answer ask for; nothing where they do not, or not in a form that is
/// known. A date that is over asks for no wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let milliseconds = header("retry-after-ms").and_then(|text| number(text, 1e-3));
    milliseconds.or_else(|| read(header("retry-after")?, SystemTime::now()))
}

/// Seconds or a date, at the time `now`.
fn read(text: &str, now: SystemTime) -> Option<Duration> {
    number(text, 1.0).or_else(|| {
        let until = UNIX_EPOCH + Duration::from_secs(seconds_of_date(text)?);
        Some(until.duration_since(now).unwrap_or_default())
    })
}

fn number(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`, the form in which HTTP writes dates.
fn seconds_of_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second.min(60))
}

/// Days since 1970-01-01 of the Gregorian calendar, by years that begin in March.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_not() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("0", Some(0.0)),
            (" 7 ", Some(7.0)),
            ("1.5", Some(1.5)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0.0)),
            ("Sun, 06 Nov 1994 08:50:40 GMT", Some(63.0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_400.0)),
            ("Thu, 29 Feb 1996 08:49:37 GMT", Some(480.0 * 86_400.0)),
            ("Sun, 06 Nov 1984 08:49:37 GMT", Some(0.0)),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("-1", None),
            ("soon", None),
            ("inf", None),
            ("", None),
        ] {
            assert_eq!(read(text, now).map(|wait| wait.as_secs_f64()), seconds, "{text}");
        }
    }

    #[test]
    fn milliseconds_go_first() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert("retry-after", "2".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(2)));
        headers.insert("retry-after-ms", "250".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_millis(250)));
    }
}
