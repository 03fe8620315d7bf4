//! How each receiver is doing, for whoever asks: the API and the metrics.
//!
//! The delivery loop is asked when somebody wants to know, and answers between two steps; so
//! nothing is kept twice, and nobody pays while nobody asks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Timestamp;

/// Questions that may wait for an answer.
const QUESTIONS_MAX: usize = 16;
/// How long an answer may take: the loop comes round within microseconds unless it has ended.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// How one client's callbacks at one origin are doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// `scheme://host:port`
    pub origin: String,
    /// Whose callbacks; empty for all clients together.
    #[serde(default)]
    pub client: String,
    /// In a word.
    pub state: OriginState,
    /// Since when it is held, if it is.
    pub held_since: Option<Timestamp>,
    /// When it last asked to be left alone, while it is held.
    #[serde(default)]
    pub refused_at: Option<Timestamp>,
    /// When the next probe may go out, while none may.
    pub next_probe_at: Option<Timestamp>,
    /// Attempts under way.
    pub under_way: u32,
    /// Attempts that may be under way at once.
    pub room: u32,
    /// Failures since the last sign of life.
    pub failures_in_a_row: u32,
}

/// How an origin is doing, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OriginState {
    /// It answered last.
    Ok,
    /// Nobody can say: new, or failing but not often enough.
    Unproven,
    /// Its breaker is open: it gets single probes.
    Held,
}

impl OriginState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Unproven, Self::Held];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unproven => "unproven",
            Self::Held => "held",
        }
    }
}

/// Asks the delivery loop, and remembers what other daemons say of theirs.
#[derive(Clone, Debug)]
pub struct Health {
    desk: mpsc::Sender<Question>,
    elsewhere: Arc<Mutex<Vec<OriginStatus>>>,
}

/// What the delivery loop is asked.
pub type Question = oneshot::Sender<Vec<OriginStatus>>;

/// The two ends: who asks, and what the loop hears.
#[must_use]
pub fn desk() -> (Health, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Health { desk: sender, elsewhere: Arc::default() }, receiver)
}

impl Health {
    /// Every origin that the loop remembers, by name; none if it does not answer.
    pub async fn origins(&self) -> Vec<OriginStatus> {
        let asking = async {
            let (sender, answer) = oneshot::channel();
            self.desk.send(sender).await.ok()?;
            answer.await.ok()
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, asking).await;
        answer.ok().flatten().unwrap_or_default()
    }

    /// Returns once the loop has answered; never, if it does not.
    pub async fn answered(&self) {
        let (sender, answer) = oneshot::channel();
        let asked = self.desk.send(sender).await.is_ok();
        if !asked || answer.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The other daemons say how their receivers are doing.
    pub fn hear(&self, elsewhere: Vec<OriginStatus>) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
    }

    /// Every origin and client that any daemon remembers: as ill as it is to the one that has it
    /// worst, with the attempts of all.
    pub async fn everywhere(&self) -> Vec<OriginStatus> {
        let mut all = self.origins().await;
        all.extend(self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        merged(all, |one| (one.origin.clone(), one.client.clone()))
    }
}

/// All clients of an origin together, by origin: as ill as to the one that has it worst.
#[must_use]
pub fn by_origin(all: Vec<OriginStatus>) -> Vec<OriginStatus> {
    let nobodys = |one: OriginStatus| OriginStatus { client: String::new(), ..one };
    merged(all.into_iter().map(nobodys).collect(), |one| one.origin.clone())
}

fn merged<K: Ord>(all: Vec<OriginStatus>, key: impl Fn(&OriginStatus) -> K) -> Vec<OriginStatus> {
    let mut merged: BTreeMap<K, OriginStatus> = BTreeMap::new();
    for one in all {
        match merged.entry(key(&one)) {
            Entry::Vacant(place) => drop(place.insert(one)),
            Entry::Occupied(mut place) => merge(place.get_mut(), one),
        }
    }
    merged.into_values().collect()
}

fn merge(kept: &mut OriginStatus, other: OriginStatus) {
    let (under_way, room) = (kept.under_way + other.under_way, kept.room + other.room);
    if other.state > kept.state {
        *kept = other;
    } else if other.state == kept.state {
        let since = [kept.held_since, other.held_since].into_iter().flatten().min();
        kept.held_since = since;
        kept.refused_at = kept.refused_at.max(other.refused_at);
        kept.failures_in_a_row = kept.failures_in_a_row.max(other.failures_in_a_row);
    }
    (kept.under_way, kept.room) = (under_way, room);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_does_not_answer_is_silent() {
        let (health, mut questions) = desk();
        let silent = async || {
            tokio::time::timeout(Duration::from_millis(100), health.answered()).await.is_err()
        };
        assert!(silent().await, "it does not come round");
        let answering = async {
            while let Some(question) = questions.recv().await {
                let _ = question.send(Vec::new());
            }
        };
        tokio::select! {
            () = answering => {}
            silent = silent() => assert!(!silent),
        }
        drop(questions);
        assert!(silent().await, "it has ended");
    }
}
