//! Which lanes are this daemon's, and until when. Pure.
//!
//! Every member comes to the same spread of the lanes over the members it knows to be alive, so
//! nobody gives orders: a member claims what it is to hold and gives up what it is not. Who really
//! holds a lane is for the store to say; here is only what to ask of it next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Steady;
use crate::store::Lease;
use crate::store::fleet::{BEAT_EVERY, Member, MemberId, Roster, assign};
use crate::task::LaneName;

/// After a beat that failed: several more fit into what is left of the lease.
const BEAT_AGAIN: Duration = Duration::from_millis(500);
/// Hints that members or lanes move come in swarms; so soon after a beat they wait.
const BEAT_PAUSE: Duration = Duration::from_millis(100);
/// Where nobody else can come, hints tell of everything, and looking is for those that were missed.
const LOOK_ALONE: Duration = Duration::from_secs(30);
/// Claims under way at once: a takeover of a hundred lanes takes a fraction of a second, and
/// leaves connections for everything else.
const CLAIMS_AT_ONCE: usize = 6;

/// A lease that nobody can take.
pub const FOR_EVER: Steady = Steady(i64::MAX);

/// What the shell does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Beat and look around, then call [`Tenure::beaten`] or [`Tenure::not_beaten`].
    Beat,
    /// Claim it, then call [`Tenure::claimed`] or [`Tenure::not_claimed`].
    Claim(LaneName),
    /// Tell its worker to finish, then call [`Tenure::ended`].
    Stop(LaneName),
    /// Tell its worker that it is another's, then call [`Tenure::ended`].
    Abandon(LaneName),
    /// Give it up, then call [`Tenure::released`] or [`Tenure::not_released`].
    Release(LaneName, Lease),
    /// Nothing to do before then, or before the next event.
    Wait {
        /// When.
        until: Steady,
    },
}

/// How far a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is being claimed.
    Claiming,
    /// The store said no, or nothing: not asked again before the next beat.
    Refused,
    /// Its worker is at work.
    Working(Lease),
    /// Its worker finishes; then there is this to give up, unless it is lost.
    Stopping(Option<Lease>),
    /// Nobody works on it: it is to be given up.
    Vacant(Lease),
    /// It is being given up.
    Releasing(Lease),
    /// That failed: not tried again before the next beat.
    Unreleased(Lease),
}

/// This daemon's part of the lanes.
#[derive(Debug)]
pub struct Tenure {
    me: MemberId,
    /// Who was alive at the last beat.
    members: Vec<Member>,
    /// Lanes with something to do, as far as is known here.
    busy: BTreeSet<LaneName>,
    lanes: BTreeMap<LaneName, Stage>,
    /// Lanes to hold, and those of them with which nothing has been begun. With ten thousand lanes
    /// neither may be worked out anew for each.
    wanted: BTreeSet<LaneName>,
    unclaimed: BTreeSet<LaneName>,
    /// Claims under way.
    claiming: usize,
    /// A lane may have to be given up.
    leaving: bool,
    /// Workers to be told that their lane is lost.
    lost: VecDeque<LaneName>,
    /// Until when the leases that are not lost may be used.
    until: Steady,
    /// What was asked by then proves nothing: the clocks have parted since.
    doubted_at: Steady,
    beat_at: Steady,
    asked_at: Option<Steady>,
    beating: bool,
    stopped: bool,
}

impl Tenure {
    /// Nothing is held yet, and nobody known.
    #[must_use]
    pub fn new(me: MemberId, now: Steady) -> Self {
        Self {
            me,
            members: Vec::new(),
            busy: BTreeSet::new(),
            lanes: BTreeMap::new(),
            wanted: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            claiming: 0,
            leaving: false,
            lost: VecDeque::new(),
            until: Steady(i64::MIN),
            doubted_at: Steady(i64::MIN),
            beat_at: now,
            asked_at: None,
            beating: false,
            stopped: false,
        }
    }

    // ---- what happens ----

    /// Somebody may have come or gone, or given a lane up.
    pub fn moved(&mut self) {
        let soonest = self.asked_at.map_or(self.beat_at, |at| at.after(BEAT_PAUSE));
        self.beat_at = self.beat_at.min(soonest);
    }

    /// This lane has something to do.
    pub fn busy(&mut self, lane: LaneName) {
        if !self.busy.insert(lane.clone()) {
            return;
        }
        if assign(&self.ids(), [&lane], self.me).is_empty() {
            return;
        }
        if !self.lanes.contains_key(&lane) {
            self.unclaimed.insert(lane.clone());
        }
        self.wanted.insert(lane);
    }

    /// The beat that was asked for then was heard. `busy` is every lane with something to do, if
    /// that could be read.
    /// Returns whether it proves that what is held may be used.
    pub fn beaten(
        &mut self,
        asked: Steady,
        roster: Roster,
        busy: Option<BTreeSet<LaneName>>,
    ) -> bool {
        self.beating = false;
        let proves = self.extend(asked, roster.lasts);
        if !proves {
            self.beat_at = self.doubted_at;
        }
        let moved = self.beat_at < asked.after(BEAT_EVERY);
        if self.until == FOR_EVER && !moved {
            self.beat_at = asked.after(LOOK_ALONE);
        }
        self.members = roster.members;
        let lost = |lease: &Lease| roster.lost.contains(lease);
        self.lanes.retain(|name, stage| {
            match stage {
                Stage::Refused => return false,
                Stage::Working(lease) if lost(lease) => {
                    *stage = Stage::Stopping(None);
                    self.lost.push_back(name.clone());
                }
                Stage::Stopping(Some(lease)) if lost(lease) => *stage = Stage::Stopping(None),
                Stage::Unreleased(lease) => *stage = Stage::Vacant(*lease),
                _ => {}
            }
            true
        });
        if let Some(busy) = busy {
            self.busy = busy;
        }
        self.spread();
        // Its worker was refused a write, or its claim's answer was lost; and as long as it is ours
        // nobody else can take it.
        for (lane, lease) in roster.mine {
            if !self.lanes.contains_key(&lane) && !self.wanted.contains(&lane) {
                self.lanes.insert(lane, Stage::Vacant(lease));
            }
        }
        proves
    }

    /// The clocks have parted: nothing that is held may be used before a heartbeat is answered that
    /// is yet to be sent. `false`: nobody could have taken anything.
    pub fn doubt(&mut self, now: Steady) -> bool {
        if self.until == FOR_EVER {
            return false;
        }
        self.until = self.until.min(now);
        // What is under way may have been asked for in this millisecond, before.
        let asked = self.beating || self.claiming > 0;
        let at = now.after(Duration::from_millis(u64::from(asked)));
        (self.doubted_at, self.beat_at) = (at, at);
        true
    }

    fn extend(&mut self, asked: Steady, lasts: Duration) -> bool {
        let proves = asked >= self.doubted_at || asked.after(lasts) == FOR_EVER;
        if proves {
            self.until = self.until.max(asked.after(lasts));
        }
        proves
    }

    /// The store did not hear the beat.
    pub fn not_beaten(&mut self, now: Steady) {
        self.beating = false;
        self.beat_at = now.after(BEAT_AGAIN);
    }

    /// The lane is ours, as asked for then. Its worker may start, unless this says no.
    pub fn claimed(
        &mut self,
        lane: &LaneName,
        lease: Lease,
        asked: Steady,
        lasts: Duration,
    ) -> bool {
        self.extend(asked, lasts);
        self.claiming = self.claiming.saturating_sub(1);
        self.leaving |= self.stopped || !self.wanted.contains(lane);
        let wanted = !self.stopped;
        let stage = if wanted { Stage::Working(lease) } else { Stage::Vacant(lease) };
        self.lanes.insert(lane.clone(), stage);
        wanted
    }

    /// The lane is another's, or the store could not say.
    pub fn not_claimed(&mut self, lane: &LaneName) {
        self.claiming = self.claiming.saturating_sub(1);
        self.lanes.insert(lane.clone(), Stage::Refused);
        self.look_soon();
    }

    /// The lane's worker has ended: because it was told to, or because it was refused a write.
    pub fn ended(&mut self, lane: &LaneName) {
        if let Some(Stage::Stopping(Some(lease))) = self.lanes.get(lane) {
            self.lanes.insert(lane.clone(), Stage::Vacant(*lease));
            self.leaving = true;
        } else {
            // Another's by now, most likely; if not, it may be claimed again soon.
            self.lanes.insert(lane.clone(), Stage::Refused);
            self.look_soon();
        }
    }

    /// The lane is given up.
    pub fn released(&mut self, lane: &LaneName) {
        self.lanes.remove(lane);
        if self.wanted.contains(lane) {
            self.unclaimed.insert(lane.clone());
        }
    }

    /// The store did not take it back.
    pub fn not_released(&mut self, lane: &LaneName) {
        if let Some(Stage::Releasing(lease)) = self.lanes.get(lane).copied() {
            self.lanes.insert(lane.clone(), Stage::Unreleased(lease));
            self.look_soon();
        }
    }

    /// From now on everything is given up and nothing claimed.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.leaving = true;
    }

    // ---- what to do ----

    /// The next thing to do. Call until it says [`Step::Wait`].
    pub fn next(&mut self, now: Steady) -> Step {
        if let Some(lane) = self.lost.pop_front() {
            return Step::Abandon(lane);
        }
        if !self.beating && now >= self.beat_at {
            (self.beating, self.asked_at) = (true, Some(now));
            self.beat_at = now.after(BEAT_EVERY);
            return Step::Beat;
        }
        if let Some(step) = self.give_up() {
            return step;
        }
        // By a roster that is out of date nothing is claimed.
        let may = !self.stopped && now < self.until && self.claiming < CLAIMS_AT_ONCE;
        if may && let Some(lane) = self.unclaimed.pop_first() {
            self.claiming += 1;
            self.lanes.insert(lane.clone(), Stage::Claiming);
            return Step::Claim(lane);
        }
        let beat_at = if self.beating { now.after(BEAT_EVERY) } else { self.beat_at };
        Step::Wait { until: beat_at }
    }

    fn give_up(&mut self) -> Option<Step> {
        if !self.leaving {
            return None;
        }
        let leaving = |name: &LaneName| self.stopped || !self.wanted.contains(name);
        let step = self.lanes.iter_mut().find_map(|(name, stage)| match *stage {
            Stage::Working(lease) if leaving(name) => {
                *stage = Stage::Stopping(Some(lease));
                Some(Step::Stop(name.clone()))
            }
            Stage::Vacant(lease) => {
                *stage = Stage::Releasing(lease);
                Some(Step::Release(name.clone(), lease))
            }
            _ => None,
        });
        self.leaving = step.is_some();
        step
    }

    // ---- what is so ----

    /// Until when every lane at work may be used.
    #[must_use]
    pub fn until(&self) -> Steady {
        self.until
    }

    /// The leases to be renewed.
    #[must_use]
    pub fn held(&self) -> Vec<Lease> {
        let held = |stage: &Stage| match stage {
            Stage::Working(lease) | Stage::Stopping(Some(lease)) => Some(*lease),
            _ => None,
        };
        self.lanes.values().filter_map(held).collect()
    }

    /// Whether the lane's lease is not known to be lost.
    #[must_use]
    pub fn holds(&self, lane: &LaneName) -> bool {
        matches!(self.lanes.get(lane), Some(Stage::Working(_) | Stage::Stopping(Some(_))))
    }

    /// Who was alive at the last beat.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether nothing is held, claimed or being given up any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let over = |stage: &Stage| matches!(stage, Stage::Refused | Stage::Unreleased(_));
        self.stopped && self.lanes.values().all(over)
    }

    /// Something waits for the next beat.
    fn look_soon(&mut self) {
        if let Some(asked) = self.asked_at {
            self.beat_at = self.beat_at.min(asked.after(BEAT_EVERY));
        }
    }

    fn spread(&mut self) {
        self.wanted = assign(&self.ids(), self.busy.iter().chain(self.lanes.keys()), self.me);
        let free = |lane: &&LaneName| !self.lanes.contains_key(*lane);
        self.unclaimed = self.wanted.iter().filter(free).cloned().collect();
        self.leaving = true;
    }

    fn ids(&self) -> Vec<MemberId> {
        self.members.iter().map(|member| member.id).collect()
    }
}

#[cfg(test)]
mod tests;
