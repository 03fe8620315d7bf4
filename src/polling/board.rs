//! What every lane is doing, for whoever asks: the API, the metrics, the status line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{Steady, Timestamp};
use crate::config::QuotaLimits;
use crate::polling::plan::figures::Figures;
use crate::store::fleet::{Member, MemberId};
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
    pub reason: Cow<'static, str>,
    /// What a person should do.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// This daemon among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who was alive at the last beat, by id.
    pub members: Vec<Member>,
    /// Lanes held.
    pub held: usize,
    /// Until when they may be used.
    pub until: Steady,
}

/// What every lane is doing.
#[derive(Debug)]
pub struct Board {
    lanes: Mutex<BTreeMap<LaneName, LaneStatus>>,
    /// What the other daemons say of theirs.
    elsewhere: Mutex<BTreeMap<LaneName, LaneStatus>>,
    standing: Mutex<Standing>,
}

impl Default for Board {
    fn default() -> Self {
        let standing = Standing { members: Vec::new(), held: 0, until: Steady(i64::MIN) };
        let (lanes, elsewhere) = (Mutex::default(), Mutex::default());
        Self { lanes, elsewhere, standing: Mutex::new(standing) }
    }
}

impl Board {
    /// A lane says what it is doing.
    pub fn post(&self, lane: &LaneName, status: LaneStatus) {
        lock(&self.lanes).insert(lane.clone(), status);
    }

    /// A lane is gone.
    pub fn remove(&self, lane: &LaneName) {
        lock(&self.lanes).remove(lane);
    }

    /// The other daemons say what their lanes are doing.
    pub fn hear(&self, elsewhere: BTreeMap<LaneName, LaneStatus>) {
        *lock(&self.elsewhere) = elsewhere;
    }

    /// What every lane of this daemon said last, by name.
    #[must_use]
    pub fn read(&self) -> Vec<(LaneName, LaneStatus)> {
        lock(&self.lanes).iter().map(|(lane, status)| (lane.clone(), status.clone())).collect()
    }

    /// What every lane said last, whose ever it is, by name.
    #[must_use]
    pub fn read_all(&self) -> Vec<(LaneName, LaneStatus)> {
        let mut all = lock(&self.elsewhere).clone();
        all.extend(self.read());
        all.into_iter().collect()
    }

    /// Something about this daemon's place among the others changed.
    pub fn stand(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut lock(&self.standing));
    }

    /// This daemon's place among the others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    /// Whether what is this daemon's may be used now.
    #[must_use]
    pub fn is_ours(&self, now: Steady) -> bool {
        now < lock(&self.standing).until
    }

    /// Whether this daemon decides, now, what one of all is to decide: the one that joined first.
    #[must_use]
    pub fn leads(&self, me: MemberId, now: Steady) -> bool {
        let standing = lock(&self.standing);
        now < standing.until && standing.members.first().is_some_and(|first| first.id == me)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
