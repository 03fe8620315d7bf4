//! What every lane is doing, for whoever asks: the API, the metrics, the status line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::{Reading, Steady, Timestamp};
use crate::config::QuotaLimits;
use crate::polling::fleet::proof::Proof;
use crate::polling::plan::figures::Figures;
use crate::store::Progress;
use crate::store::fleet::{Member, MemberId};
use crate::task::{Kind, LaneName, TaskId};

/// What a lane is doing.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    /// Why it is suspended, if it is.
    pub suspended: Option<Suspension>,
    /// Why nothing was answered lately, if nothing was.
    pub failing: Option<Suspension>,
    /// When Feishu last answered, and what: `pending`, `not_found`, `settled`, `token`.
    pub answered: Option<(Timestamp, Cow<'static, str>)>,
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
    /// When its loop last came round; [`NO_LOOP`] where none does.
    pub alive_at: Steady,
}

/// Of a lane that nobody polls, only its account's token is known.
pub const NO_LOOP: Steady = Steady(i64::MAX);

/// What is wrong with a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// A stable word.
    pub reason: Cow<'static, str>,
    /// What a person should know and do.
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

/// How long a worker may take to answer a question: a client waits for it.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Questions that wait for a worker; more are answered from the store.
pub const QUESTIONS_MAX: usize = 64;

/// Asks a worker how watching a task goes.
#[derive(Debug)]
pub struct Question {
    /// Which.
    pub task: TaskId,
    /// Where to answer; not at all about a task that is not watched.
    pub reply: oneshot::Sender<TaskView>,
}

/// How watching a task goes, as the lane that polls it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// How far it has come.
    pub progress: Progress,
    /// When it will be polled next, as far as is known; `None`: it is being polled.
    pub next_poll_at: Option<Timestamp>,
}

/// What every lane is doing.
#[derive(Debug)]
pub struct Board {
    lanes: Mutex<BTreeMap<LaneName, LaneStatus>>,
    /// What the other daemons say of theirs.
    elsewhere: Mutex<BTreeMap<LaneName, LaneStatus>>,
    /// What is known of lanes that nobody has polled yet.
    probes: Mutex<BTreeMap<LaneName, LaneStatus>>,
    /// Where the workers are asked.
    inboxes: Mutex<BTreeMap<LaneName, mpsc::Sender<Question>>>,
    standing: Mutex<Standing>,
    /// Whether the clocks may be trusted with leases.
    pub proof: Proof,
}

impl Default for Board {
    fn default() -> Self {
        let standing = Standing { members: Vec::new(), held: 0, until: Steady(i64::MIN) };
        Self {
            lanes: Mutex::default(),
            elsewhere: Mutex::default(),
            probes: Mutex::default(),
            inboxes: Mutex::default(),
            standing: Mutex::new(standing),
            proof: Proof::default(),
        }
    }
}

impl Board {
    /// A lane says what it is doing.
    pub fn post(&self, lane: &LaneName, status: LaneStatus) {
        if lock(&self.lanes).insert(lane.clone(), status).is_none() {
            lock(&self.probes).remove(lane);
        }
    }

    /// A lane is gone.
    pub fn remove(&self, lane: &LaneName) {
        lock(&self.lanes).remove(lane);
        lock(&self.inboxes).remove(lane);
    }

    /// A token was asked for, for a lane that nobody polls.
    pub fn probed(&self, lane: &LaneName, status: LaneStatus) {
        if !lock(&self.lanes).contains_key(lane) {
            lock(&self.probes).insert(lane.clone(), status);
        }
    }

    /// What the last probe of that lane showed.
    #[must_use]
    pub fn probe_of(&self, lane: &LaneName) -> Option<LaneStatus> {
        lock(&self.probes).get(lane).cloned()
    }

    /// Keeps what is known of these accounts only: the others are configured no longer.
    pub fn forget_probes(&self, kept: impl Fn(&str) -> bool) {
        lock(&self.probes).retain(|lane, _| kept(&lane.account));
    }

    /// Whether some daemon has a lane of this account.
    #[must_use]
    pub fn has_lane_of(&self, account: &str) -> bool {
        of_account(&lock(&self.lanes), account).next().is_some()
            || of_account(&lock(&self.elsewhere), account).next().is_some()
    }

    /// What keeps this account from being polled, if anything does: the word for its state, and why.
    #[must_use]
    pub fn trouble_of(&self, account: &str) -> Option<(&'static str, Suspension)> {
        let own = |map: &Mutex<BTreeMap<LaneName, LaneStatus>>| {
            let map = lock(map);
            let found: Vec<LaneStatus> = of_account(&map, account).cloned().collect();
            (!found.is_empty()).then_some(found)
        };
        let lanes =
            own(&self.lanes).or_else(|| own(&self.elsewhere)).or_else(|| own(&self.probes))?;
        trouble(lanes.iter())
    }

    /// Where this lane's worker is asked from now on.
    pub fn answers(&self, lane: &LaneName, inbox: mpsc::Sender<Question>) {
        lock(&self.inboxes).insert(lane.clone(), inbox);
    }

    /// How watching this task goes, if this daemon polls it and says so in time.
    pub async fn ask(&self, lane: &LaneName, task: TaskId) -> Option<TaskView> {
        let inbox = lock(&self.inboxes).get(lane).cloned()?;
        let (reply, view) = oneshot::channel();
        inbox.try_send(Question { task, reply }).ok()?;
        tokio::time::timeout(ANSWER_MAX, view).await.ok()?.ok()
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

    /// The same, and what this daemon found out about lanes that nobody polls.
    #[must_use]
    pub fn read_known(&self) -> Vec<(LaneName, LaneStatus)> {
        let mut known = lock(&self.probes).clone();
        known.extend(self.read());
        known.into_iter().collect()
    }

    /// When the loop that has come round least lately did: one that hangs is not made up for by the
    /// others. `None`: there is no loop.
    #[must_use]
    pub fn slowest(&self) -> Option<Steady> {
        lock(&self.lanes).values().map(|lane| lane.alive_at).min()
    }

    /// What every lane said last, whose ever it is, by name.
    #[must_use]
    pub fn read_all(&self) -> Vec<(LaneName, LaneStatus)> {
        let mut all = lock(&self.probes).clone();
        all.extend(lock(&self.elsewhere).clone());
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
    pub fn is_ours(&self, now: Reading) -> bool {
        now.steady < lock(&self.standing).until && self.proof.stands(now)
    }

    /// Whether this daemon decides, now, what one of all is to decide: the one that joined first.
    #[must_use]
    pub fn leads(&self, me: MemberId, now: Steady) -> bool {
        let standing = lock(&self.standing);
        now < standing.until && standing.members.first().is_some_and(|first| first.id == me)
    }
}

/// The worst of an account's lanes: the word for its state, and why.
#[must_use]
pub fn trouble<'a>(
    lanes: impl Iterator<Item = &'a LaneStatus> + Clone,
) -> Option<(&'static str, Suspension)> {
    let suspended = lanes.clone().filter_map(|lane| lane.suspended.as_ref());
    let failing = lanes.filter_map(|lane| lane.failing.as_ref());
    let first = |all: Option<&Suspension>, word| all.cloned().map(|why| (word, why));
    first(suspended.min_by_key(|it| it.since), "suspended")
        .or_else(|| first(failing.min_by_key(|it| it.since), "failing"))
}

fn of_account<'a>(
    lanes: &'a BTreeMap<LaneName, LaneStatus>,
    account: &'a str,
) -> impl Iterator<Item = &'a LaneStatus> {
    let first = LaneName { account: account.to_owned(), kind: Kind::FIRST };
    lanes.range(first..).take_while(move |(lane, _)| lane.account == account).map(|(_, it)| it)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(account: &str) -> LaneName {
        LaneName { account: account.into(), kind: Kind::default() }
    }

    fn status(alive_at: Steady) -> LaneStatus {
        LaneStatus {
            suspended: None,
            failing: None,
            answered: None,
            watched: 0,
            polls_last_second: 0,
            polls_last_minute: 0,
            quota: QuotaLimits::default(),
            figures: None,
            alive_at,
        }
    }

    #[test]
    fn the_slowest_lane_is_what_the_watchdog_watches() {
        let board = Board::default();
        assert_eq!(board.slowest(), None);
        for (account, alive_at) in [("a", 9_000), ("b", 1_000), ("c", 5_000)] {
            board.post(&lane(account), status(Steady(alive_at)));
        }
        assert_eq!(board.slowest(), Some(Steady(1_000)));
    }

    #[test]
    fn an_account_is_probed_only_where_no_daemon_polls_it() {
        let board = Board::default();
        board.probed(&lane("a"), status(NO_LOOP));
        assert!(board.probe_of(&lane("a")).is_some() && !board.has_lane_of("a"));
        board.post(&lane("a"), status(Steady(1)));
        assert!(board.has_lane_of("a"));
        // One that was under way when its lane came.
        board.probed(&lane("a"), status(NO_LOOP));
        assert!(board.probe_of(&lane("a")).is_none(), "its polls tell");
        board.hear([(lane("b"), status(Steady(0)))].into());
        assert!(board.has_lane_of("b") && !board.has_lane_of("c"));
    }

    #[test]
    fn what_is_ours_ends_with_the_lease() {
        let board = Board::default();
        let at = |steady| Reading { wall: Timestamp(steady), steady: Steady(steady) };
        assert!(!board.is_ours(at(0)), "before the first heartbeat nothing is");
        board.stand(|standing| standing.until = Steady(5_000));
        assert!(!board.is_ours(at(0)), "nor before the clocks are compared");
        board.proof.renew(at(0));
        assert!(board.is_ours(at(4_999)) && !board.is_ours(at(5_000)));
    }
}
