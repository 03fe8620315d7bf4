//! What polling stores and finds: leases, reservations, tasks to watch and how far that has come.

use crate::clock::{Steady, Timestamp};
use crate::task::TaskId;
use crate::watching::Answer;

/// The right to write a lane's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The lane's row.
    pub lane: i64,
    /// Grows with every owner.
    pub epoch: i64,
}

/// A lane as its new owner finds it.
#[derive(Clone, Debug)]
pub struct TakenLane {
    /// The right to write it.
    pub lease: Lease,
    /// Its last change.
    pub version: u64,
    /// Polls that were or may have been sent lately.
    pub reservations: Vec<Reservation>,
    /// What its estimate had learned.
    pub memory: Option<Vec<u8>>,
}

/// Polls reserved ahead: sent at some time from `at` until the next reservation, or until the
/// process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reservation {
    /// When they were reserved.
    pub at: Timestamp,
    /// How many.
    pub polls: u32,
    /// The same moment in time since the machine started, which nobody can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
}

/// A moment since one start of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Boot {
    /// Which start.
    pub id: uuid::Uuid,
    /// How long after it.
    pub at: Steady,
}

/// One changed task.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task's row.
    pub task: TaskId,
    /// Its place in the order of changes.
    pub version: u64,
    /// What to watch; `None` if nobody waits for it any more.
    pub watch: Option<Watch>,
}

/// A task to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Feishu's website id.
    pub website_id: String,
    /// Feishu's delivery task id.
    pub delivery_task_id: String,
    /// When it was first registered.
    pub registered_at: Timestamp,
    /// The earliest time at which one of its registrations gives up.
    pub give_up_at: Timestamp,
    /// How far watching it had come.
    pub progress: Progress,
}

/// How far watching a task has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Polls so far.
    pub polls: u32,
    /// When it was last seen pending.
    pub last_pending_at: Option<Timestamp>,
    /// Since when Feishu has said that it knows no such task.
    pub not_found_since: Option<Timestamp>,
    /// When it was last polled; in a write, `None` leaves what is stored.
    pub last_polled_at: Option<Timestamp>,
    /// What that came to; the same.
    pub last_answer: Option<Answer>,
}

/// What a lane must not forget. Absent parts stay as they are stored.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The reservations that still matter, the newest last.
    pub reservations: Option<Vec<Reservation>>,
    /// What the estimate has learned.
    pub memory: Option<Vec<u8>>,
    /// How far tasks have come.
    pub progress: Vec<(TaskId, Progress)>,
}

/// How watching a task ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The task.
    pub task: TaskId,
    /// When.
    pub at: Timestamp,
    /// How far watching it had come.
    pub progress: Progress,
    /// Feishu's support id of the poll that decided it.
    pub log_id: Option<String>,
}
