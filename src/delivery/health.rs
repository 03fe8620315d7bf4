//! How each receiver is doing, for whoever asks: the API and the metrics.
//!
//! The delivery loop is asked when somebody wants to know, and answers between two steps; so
//! nothing is kept twice, and nobody pays while nobody asks.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::Timestamp;

/// Questions that may wait for an answer.
const QUESTIONS_MAX: usize = 16;
/// How long an answer may take: the loop comes round within microseconds unless it has ended.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// How one origin is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginStatus {
    /// `scheme://host:port`
    pub origin: String,
    /// In a word.
    pub state: OriginState,
    /// Since when it is held, if it is.
    pub held_since: Option<Timestamp>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// Asks the delivery loop.
#[derive(Clone, Debug)]
pub struct Health(mpsc::Sender<Question>);

/// What the delivery loop is asked.
pub type Question = oneshot::Sender<Vec<OriginStatus>>;

/// The two ends: who asks, and what the loop hears.
#[must_use]
pub fn desk() -> (Health, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Health(sender), receiver)
}

impl Health {
    /// Every origin that the loop remembers, by name; none if it does not answer.
    pub async fn origins(&self) -> Vec<OriginStatus> {
        let asking = async {
            let (sender, answer) = oneshot::channel();
            self.0.send(sender).await.ok()?;
            answer.await.ok()
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, asking).await;
        answer.ok().flatten().unwrap_or_default()
    }
}
