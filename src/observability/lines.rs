//! Log lines that a stranger can cause, at a rate that no stranger sets. Pure.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Steady;

/// Lines of one kind in one [`WINDOW`]; what is more is only counted.
const LINES_MAX: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);
/// Characters of a text from outside in a line.
const SHOWN_CHARS_MAX: usize = 64;

/// How many lines of each kind there were lately. The kinds are named in the code, so they are few.
#[derive(Debug, Default)]
pub struct Lines(Mutex<BTreeMap<&'static str, Kind>>);

#[derive(Debug)]
struct Kind {
    since: Steady,
    lines: u32,
    suppressed: u64,
}

impl Lines {
    /// Whether one more line of this kind is written at `now`.
    pub fn admit(&self, kind: &'static str, now: Steady) -> bool {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert(Kind { since: now, lines: 0, suppressed: 0 });
        if now.since(kind.since) >= WINDOW {
            (kind.since, kind.lines) = (now, 0);
        }
        let admitted = kind.lines < LINES_MAX;
        if admitted {
            kind.lines += 1;
        } else {
            kind.suppressed += 1;
        }
        admitted
    }

    /// How many lines of each kind were not written since this was last asked.
    pub fn suppressed(&self) -> Vec<(&'static str, u64)> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken =
            kinds.iter_mut().map(|(name, kind)| (*name, std::mem::take(&mut kind.suppressed)));
        taken.filter(|(_, suppressed)| *suppressed > 0).collect()
    }
}

/// The beginning of a text from outside, without what could drive a terminal.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_gets_a_few_lines_a_second_and_the_rest_are_counted() {
        let lines = Lines::default();
        let admitted = (0..1_000).filter(|n| lines.admit("a", Steady(*n / 2))).count();
        assert_eq!(admitted, 5, "in half a second");
        assert!(lines.admit("b", Steady(499)), "one kind takes nothing from another");
        assert_eq!(lines.suppressed(), [("a", 995)]);
        assert!(lines.suppressed().is_empty(), "told once");
        assert!(!lines.admit("a", Steady(999)));
        assert!(lines.admit("a", Steady(1_000)));
        assert_eq!(lines.suppressed(), [("a", 1)]);
    }

    #[test]
    fn a_text_from_outside_is_cut_and_drives_no_terminal() {
        assert_eq!(shown("cli_1"), "cli_1");
        assert_eq!(shown("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(shown(&"x".repeat(64)), "x".repeat(64));
        assert_eq!(shown(&"x".repeat(30_000)), format!("{}…", "x".repeat(64)));
    }
}
