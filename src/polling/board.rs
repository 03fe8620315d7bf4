//! What every lane is doing, for whoever asks: the API, the metrics, the status line.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::clock::{Steady, Timestamp};
use crate::config::QuotaLimits;
use crate::polling::plan::figures::Figures;
use crate::task::LaneName;

/// What a lane is doing.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    /// Why it is suspended, if it is.
    pub suspended: Option<Suspension>,
    /// Tasks watched.
    pub watched: u64,
    /// Polls sent in the last second.
    pub polls_last_second: u32,
    /// Polls sent in the last minute.
    pub polls_last_minute: u32,
    /// The quota's limits.
    pub quota: QuotaLimits,
    /// What its schedule amounts to, if enough is known.
    pub figures: Option<Figures>,
    /// When its loop last came round.
    pub alive_at: Steady,
}

/// Why a lane is suspended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// A stable word.
    pub reason: &'static str,
    /// What a person should do.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// What every lane is doing.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<LaneName, LaneStatus>>);

impl Board {
    /// A lane says what it is doing.
    pub fn post(&self, lane: &LaneName, status: LaneStatus) {
        self.lock().insert(lane.clone(), status);
    }

    /// A lane is gone.
    pub fn remove(&self, lane: &LaneName) {
        self.lock().remove(lane);
    }

    /// What every lane said last, by name.
    #[must_use]
    pub fn read(&self) -> Vec<(LaneName, LaneStatus)> {
        self.lock().iter().map(|(lane, status)| (lane.clone(), status.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LaneName, LaneStatus>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
