//! One log line: what it says, and how it looks to a person, a program and journald.

use std::fmt::Write;

use serde_json::Value;
use tracing::Level;

use crate::clock::Timestamp;

/// How a line looks, once `auto` has been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For people: time, level, message, `name=value`.
    Text {
        /// Whether the terminal shows colours.
        colour: bool,
    },
    /// One JSON object.
    Json,
    /// Text with the priority prefix of sd-daemon(3), and without the time: journald has its own.
    Journald,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// When.
    pub at: Timestamp,
    /// How bad.
    pub level: Level,
    /// Which module says so.
    pub target: &'a str,
    /// What happened.
    pub message: &'a str,
    /// The values: those of the surrounding spans first, outermost first.
    pub fields: &'a [(&'static str, Value)],
}

impl Line<'_> {
    /// The line's text, its newline included.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let mut text = match look {
            Look::Json => self.json(),
            Look::Text { colour } => {
                format!("{} {} {}", self.at, level(self.level, colour), self.words())
            }
            Look::Journald => format!("<{}>{}", priority(self.level), self.words()),
        };
        text.push('\n');
        text
    }

    fn words(&self) -> String {
        let target = self.target.strip_prefix("outcomed::").unwrap_or(self.target);
        let mut text = format!("{target}: {}", one_line(self.message));
        for (name, value) in self.fields {
            let _ = write!(text, " {name}={}", shown(value));
        }
        text
    }

    /// The values have an object of their own, so that none can shadow `level` or `message`.
    fn json(&self) -> String {
        let mut fields = serde_json::Map::new();
        for (name, value) in self.fields {
            fields.insert((*name).to_owned(), value.clone());
        }
        serde_json::json!({
            "at": self.at.to_string(),
            "level": self.level.as_str().to_ascii_lowercase(),
            "target": self.target,
            "message": self.message,
            "fields": fields,
        })
        .to_string()
    }
}

/// syslog(3) priorities; without them `journalctl -p err` would stay empty.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn level(level: Level, colour: bool) -> String {
    if !colour {
        return format!("{:<5}", level.as_str());
    }
    let code = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG | Level::TRACE => 90,
    };
    format!("\u{1b}[{code}m{:<5}\u{1b}[0m", level.as_str())
}

/// What an upstream or a receiver said must not be able to forge a line of its own, nor to move
/// the cursor of whoever reads the log.
fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|char| {
            let escaped = char.is_control().then(|| char.escape_default());
            let plain = (!char.is_control()).then_some(char);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = !text.is_empty()
                && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "\"=".contains(c));
            if plain { text.clone() } else { one_line(&value.to_string()) }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(look: Look, message: &str, fields: &[(&'static str, Value)]) -> String {
        let target = "outcomed::polling";
        Line { at: Timestamp(123), level: Level::WARN, target, message, fields }.render(look)
    }

    #[test]
    fn a_person_reads_time_level_place_message_and_values() {
        let fields = [("account", Value::from("default")), ("polls", Value::from(3))];
        assert_eq!(
            rendered(Look::Text { colour: false }, "the lane is suspended", &fields),
            "1970-01-01T00:00:00.123Z WARN  polling: the lane is suspended account=default polls=3\n"
        );
    }

    #[test]
    fn journald_gets_a_priority_and_no_second_time() {
        assert_eq!(rendered(Look::Journald, "gone", &[]), "<4>polling: gone\n");
        for (level, wanted) in [(Level::ERROR, 3), (Level::INFO, 6), (Level::TRACE, 7)] {
            assert_eq!(priority(level), wanted);
        }
    }

    #[test]
    fn a_value_cannot_shadow_the_level_in_json() {
        let text = rendered(Look::Json, "hm", &[("level", Value::from("error"))]);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["fields"]["level"], "error");
        assert_eq!(value["at"], "1970-01-01T00:00:00.123Z");
    }

    #[test]
    fn nothing_that_was_logged_can_forge_a_second_line() {
        let evil = "x\n<3>outcomed: forged\u{1b}[2J";
        for look in [Look::Text { colour: true }, Look::Journald, Look::Json] {
            let text = rendered(look, evil, &[("excerpt", Value::from(evil))]);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(!text.contains("\u{1b}[2J"), "{text}");
        }
    }

    #[test]
    fn values_with_spaces_are_quoted() {
        let text = rendered(Look::Journald, "m", &[("error", Value::from("a \"b\" c=d"))]);
        assert_eq!(text, "<4>polling: m error=\"a \\\"b\\\" c=d\"\n");
        assert_eq!(shown(&Value::from("")), "\"\"");
        for alone in ["a b", "a\u{7f}b", "a=b", "a\"b"] {
            assert!(shown(&Value::from(alone)).starts_with('"'), "{alone:?}");
        }
    }
}
