//! The ids of events that were taken, so that one that is pushed again is not taken again. Pure.

use std::collections::VecDeque;

/// Ids remembered. An event that is older than five minutes is refused anyway; apps get one an
/// hour.
const EVENTS_MAX: usize = 1024;

/// The newest ids, the oldest first.
#[derive(Debug, Default)]
pub struct Seen(VecDeque<String>);

impl Seen {
    /// Whether an event with this id was taken. One without an id never was.
    #[must_use]
    pub fn contains(&self, uuid: &str) -> bool {
        !uuid.is_empty() && self.0.iter().any(|seen| seen == uuid)
    }

    /// It is taken now.
    pub fn insert(&mut self, uuid: String) {
        if uuid.is_empty() || self.contains(&uuid) {
            return;
        }
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(uuid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_until_many_others_have_come() {
        let mut seen = Seen::default();
        assert!(!seen.contains("") && !seen.contains("first"));
        seen.insert("first".into());
        seen.insert(String::new());
        assert!(seen.contains("first") && !seen.contains(""));
        for n in 1..EVENTS_MAX {
            seen.insert(n.to_string());
            seen.insert(n.to_string());
        }
        assert!(seen.contains("first"));
        seen.insert("one more".into());
        assert!(!seen.contains("first") && seen.contains("one more"));
        assert_eq!(seen.0.len(), EVENTS_MAX);
    }
}
