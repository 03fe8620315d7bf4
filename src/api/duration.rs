//! Durations as people write them: `30s`, `1h 30m`, `30d`.

use std::time::Duration;

/// Reads a duration; a day is 24 hours. Negative ones are refused.
pub fn parse(text: &str) -> Result<Duration, String> {
    let advice = || format!("`{text}` is not a duration such as 30s, 5m or 1h");
    let span: jiff::Span = text.trim().parse().map_err(|_| advice())?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let signed = span.to_duration(days).map_err(|_| advice())?;
    Duration::try_from(signed).map_err(|_| format!("`{text}` is negative"))
}

/// Writes a duration the way [`parse`] reads it, to the millisecond.
#[must_use]
pub fn print(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h 30m", 5400), ("30d", 2_592_000)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "soon", "-5s", "1 month", "5s ago"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for millis in [0, 1, 999, 1000, 90_000, 3_600_000, 86_400_000, 3_661_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&print(duration)), Ok(duration));
        }
    }
}
