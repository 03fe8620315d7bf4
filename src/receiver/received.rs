//! One callback, as the receiver understood it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde_json::Value;

use super::verify::Invalid;
use crate::clock::Timestamp;

/// Ids that are remembered to tell repeats; the oldest go first.
const IDS_MAX: usize = 100_000;

/// One callback that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// `webhook-id`.
    pub id: Option<String>,
    /// Its path, for a receiver that stands for several.
    pub path: String,
    /// The raw body.
    pub body: Bytes,
    /// The body as JSON; null if it is none.
    pub json: Value,
    /// Whether it is genuine, or which part is wrong.
    pub verified: Result<(), Invalid>,
    /// How often this id has arrived, this time included: 1 is the first. Forgeries do not count.
    pub arrival: u32,
    /// The status that it was answered with.
    pub answered: u16,
}

impl Received {
    /// `type`, e.g. `delivery_task.succeeded`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.json["type"].as_str()
    }

    /// `data.outcome`
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        self.json["data"]["outcome"].as_str()
    }

    /// `data.task.delivery_task_id`
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.json["data"]["task"]["delivery_task_id"].as_str()
    }

    /// `data.failure.reason`
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.json["data"]["failure"]["reason"].as_str()
    }

    /// `data.failure.duplicate_of`
    #[must_use]
    pub fn duplicate_of(&self) -> Option<&str> {
        self.json["data"]["failure"]["duplicate_of"].as_str()
    }

    /// Whether this id came before.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.arrival > 1
    }
}

/// How often each id has arrived.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    counts: BTreeMap<String, u32>,
    order: VecDeque<String>,
}

impl Arrivals {
    /// Counts one arrival of `id`.
    pub(super) fn count(&mut self, id: &str) -> u32 {
        if let Some(count) = self.counts.get_mut(id) {
            *count += 1;
            return *count;
        }
        if self.order.len() == IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.counts.insert(id.to_owned(), 1);
        1
    }
}
