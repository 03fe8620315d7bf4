//! A trace: when tasks were registered, and how long after that each settled.

use std::io::BufRead;

/// Nanoseconds in a second: decimals of a trace are kept to this many digits.
const NANOS: i64 = 1_000_000_000;
/// The latest time a trace may tell: thirty years, far from any overflow.
const SECONDS_MAX: i64 = 1_000_000_000;
const HEADER: &str = "registered_at,settles_after";

/// One task of a trace. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it was registered.
    pub registered_at: i64,
    /// How long after that it settled; `None`: never.
    pub settles_after: Option<i64>,
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line is not as it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a trace: a header, then one task a line, in the order of their registration.
pub fn read(input: impl BufRead) -> Result<Vec<Row>, TraceError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut headed = false;
    for (index, line) in input.lines().enumerate() {
        let line = line?;
        let text = line.trim_start_matches('\u{feff}').trim();
        let wrong = |problem: String| TraceError::Line { line: index + 1, problem };
        if !headed {
            if text != HEADER {
                return Err(wrong(format!("the header must be `{HEADER}`, not `{text}`")));
            }
            headed = true;
        } else if !text.is_empty() {
            let row = row(text).map_err(wrong)?;
            if rows.last().is_some_and(|last| last.registered_at > row.registered_at) {
                return Err(wrong("registered_at must not be earlier than the line before".into()));
            }
            rows.push(row);
        }
    }
    if headed {
        Ok(rows)
    } else {
        let problem = format!("the file is empty; it must begin with `{HEADER}`");
        Err(TraceError::Line { line: 1, problem })
    }
}

fn row(text: &str) -> Result<Row, String> {
    let Some((registered_at, settles_after)) = text.split_once(',') else {
        return Err(format!("`{text}` must be two numbers with a comma between them"));
    };
    let settles_after = settles_after.trim();
    Ok(Row {
        registered_at: nanos("registered_at", registered_at.trim())?,
        settles_after: match settles_after {
            "" => None,
            number => Some(nanos("settles_after", number)?),
        },
    })
}

/// Reads seconds, exactly where they are plain decimals.
fn nanos(column: &str, text: &str) -> Result<i64, String> {
    let bad = || format!("{column} must be seconds, such as 12.5, not `{text}`");
    let seconds = match plain(text) {
        Some(nanos) => return Ok(nanos),
        None => text.parse::<f64>().map_err(|_| bad())?,
    };
    #[expect(clippy::cast_precision_loss, reason = "a round number")]
    if !(0.0..=SECONDS_MAX as f64).contains(&seconds) {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "bounded")]
    Ok((seconds * NANOS as f64).round() as i64)
}

/// Digits, and perhaps a point and up to nine more.
fn plain(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: i64 = whole.parse().ok().filter(|whole| *whole <= SECONDS_MAX)?;
    let part: i64 = format!("{part:0<9}").parse().ok()?;
    Some(whole * NANOS + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<Row>, String> {
        read(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_trace_is_read_to_the_last_digit() {
        let text = "registered_at,settles_after\r\n0,1.5\r\n0.000000001,\r\n2.5e1,1e-3\r\n\r\n";
        let row = |registered_at, settles_after| Row { registered_at, settles_after };
        assert_eq!(
            rows(text),
            Ok(vec![
                row(0, Some(1_500_000_000)),
                row(1, None),
                row(25_000_000_000, Some(1_000_000)),
            ])
        );
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let header = "registered_at,settles_after\n";
        for (text, expected) in [
            ("0,1\n".to_owned(), "line 1: the header must be"),
            (String::new(), "line 1: the file is empty"),
            (format!("{header}0,1\nsoon,1\n"), "line 3: registered_at must be seconds"),
            (format!("{header}0,-1\n"), "line 2: settles_after must be seconds"),
            (format!("{header}0,NaN\n"), "line 2: settles_after must be seconds"),
            (format!("{header}7\n"), "line 2: `7` must be two numbers"),
            (format!("{header}5,1\n4.9,1\n"), "line 3: registered_at must not be earlier"),
        ] {
            let error = rows(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
