//! Inputs at given times, exactly the steps that follow, and a whole fleet by chance.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;
use crate::task::Kind;

const LEASE: Duration = Duration::from_millis(5_500);

fn lane(n: usize) -> LaneName {
    LaneName { account: format!("tenant-{n}"), kind: Kind::HireWebsiteDelivery }
}

fn member(n: u128) -> Member {
    let id = MemberId(Uuid::from_u128((0x0199_u128 << 112) + n));
    Member { id, name: format!("host-{n}"), since: Timestamp(0) }
}

fn roster(members: &[u128], lost: &[Lease]) -> Roster {
    let members = members.iter().map(|n| member(*n)).collect();
    Roster { members, lasts: LEASE, lost: lost.to_vec(), mine: Vec::new() }
}

fn lanes(count: usize) -> BTreeSet<LaneName> {
    (0..count).map(lane).collect()
}

/// Everything there is to do now.
fn steps(tenure: &mut Tenure, now: Steady) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        match tenure.next(now) {
            Step::Wait { .. } => return steps,
            step => steps.push(step),
        }
    }
}

fn lease(lane: i64, epoch: i64) -> Lease {
    Lease { lane, epoch }
}

/// One daemon at work on these lanes since time 0.
fn settled(count: usize) -> Tenure {
    let mut tenure = Tenure::new(member(1).id, Steady(0));
    assert_eq!(steps(&mut tenure, Steady(0)), [Step::Beat]);
    tenure.beaten(Steady(0), roster(&[1], &[]), Some(lanes(count)));
    loop {
        let claims = steps(&mut tenure, Steady(0));
        if claims.is_empty() {
            return tenure;
        }
        assert!(claims.len() <= CLAIMS_AT_ONCE);
        for claim in claims {
            let Step::Claim(name) = claim else { panic!("{claim:?}") };
            let number = name.account[7..].parse().unwrap();
            assert!(tenure.claimed(&name, lease(number, 1), Steady(0), LEASE));
        }
    }
}

#[test]
fn when_the_clocks_have_parted_nothing_is_held_until_a_later_heartbeat_is_answered() {
    let mut tenure = settled(1);
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    // A pause while it was under way: what it says may be long past.
    assert!(tenure.doubt(Steady(2_010)));
    assert_eq!(tenure.until(), Steady(2_010));
    assert!(!tenure.beaten(Steady(2_000), roster(&[1], &[]), Some(lanes(1))));
    assert_eq!(tenure.until(), Steady(2_010), "it proves nothing");
    assert_eq!(steps(&mut tenure, Steady(2_020)), [Step::Beat], "at once, and nothing is claimed");
    assert!(tenure.beaten(Steady(2_020), roster(&[1], &[]), Some(lanes(1))));
    assert_eq!(tenure.until(), Steady(2_020).after(LEASE));
    assert!(tenure.holds(&lane(0)));
}

#[test]
fn a_beat_of_the_same_millisecond_proves_only_if_it_was_asked_for_after_the_doubt() {
    let mut tenure = settled(1);
    assert!(tenure.doubt(Steady(1_000)));
    assert_eq!(steps(&mut tenure, Steady(1_000)), [Step::Beat]);
    assert!(tenure.doubt(Steady(1_000)), "again, while that one is under way");
    assert!(!tenure.beaten(Steady(1_000), roster(&[1], &[]), None));
    assert_eq!(steps(&mut tenure, Steady(1_000)), [], "nothing is asked for without end");
    assert_eq!(steps(&mut tenure, Steady(1_001)), [Step::Beat]);
    assert!(tenure.beaten(Steady(1_001), roster(&[1], &[]), None));
    assert!(tenure.doubt(Steady(2_000)));
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    assert!(tenure.beaten(Steady(2_000), roster(&[1], &[]), None), "and that is enough");
}

#[test]
fn whoever_is_alone_doubts_nothing() {
    let mut tenure = Tenure::new(member(1).id, Steady(0));
    steps(&mut tenure, Steady(0));
    let alone = Roster { lasts: Duration::MAX, ..roster(&[1], &[]) };
    assert!(tenure.beaten(Steady(0), alone, Some(lanes(1))));
    assert!(!tenure.doubt(Steady(10)));
    assert_eq!(tenure.until(), FOR_EVER);
}

#[test]
fn a_daemon_alone_claims_everything_and_beats_every_two_seconds() {
    let mut tenure = settled(20);
    assert_eq!(tenure.held().len(), 20);
    assert_eq!(tenure.until(), Steady(5_500));
    assert_eq!(tenure.next(Steady(1_999)), Step::Wait { until: Steady(2_000) });
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    tenure.not_beaten(Steady(2_300));
    assert_eq!(tenure.until(), Steady(5_500), "nothing was renewed");
    assert_eq!(steps(&mut tenure, Steady(2_799)), []);
    assert_eq!(steps(&mut tenure, Steady(2_800)), [Step::Beat]);
    tenure.beaten(Steady(2_800), roster(&[1], &[]), None);
    assert_eq!(tenure.until(), Steady(8_300), "counted from before the beat was asked for");
}

#[test]
fn a_lane_is_given_up_only_once_its_worker_has_ended() {
    let mut tenure = settled(1);
    tenure.stop();
    assert_eq!(steps(&mut tenure, Steady(10)), [Step::Stop(lane(0))]);
    assert!(!tenure.is_over());
    tenure.ended(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(20)), [Step::Release(lane(0), lease(0, 1))]);
    tenure.not_released(&lane(0));
    assert!(tenure.is_over(), "leaving gives it up");
    tenure.released(&lane(0));
    assert!(tenure.is_over());
}

#[test]
fn a_release_that_failed_is_tried_again_with_the_next_beat() {
    let mut tenure = settled(1);
    // Somebody else is to have it: all but the right one of these would leave it here.
    let others: Vec<u128> = (1..40).collect();
    tenure.moved();
    assert_eq!(steps(&mut tenure, Steady(100)), [Step::Beat]);
    tenure.beaten(Steady(100), roster(&others, &[]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(110)), [Step::Stop(lane(0))]);
    tenure.ended(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(120)), [Step::Release(lane(0), lease(0, 1))]);
    tenure.not_released(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(130)), []);
    assert_eq!(steps(&mut tenure, Steady(2_100)), [Step::Beat]);
    tenure.beaten(Steady(2_100), roster(&others, &[]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(2_110)), [Step::Release(lane(0), lease(0, 1))]);
}

#[test]
fn a_lane_that_is_lost_is_abandoned_at_once_and_not_given_up() {
    let mut tenure = settled(2);
    assert_eq!(steps(&mut tenure, Steady(9_000)), [Step::Beat]);
    tenure.beaten(Steady(9_000), roster(&[1], &[lease(0, 1)]), Some(lanes(2)));
    assert!(!tenure.holds(&lane(0)) && tenure.holds(&lane(1)), "before its worker is told");
    assert_eq!(steps(&mut tenure, Steady(9_001)), [Step::Abandon(lane(0))]);
    assert_eq!(tenure.held(), [lease(1, 1)]);
    tenure.ended(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(9_002)), [], "not before the next beat");
    assert_eq!(steps(&mut tenure, Steady(11_000)), [Step::Beat]);
    tenure.beaten(Steady(11_000), roster(&[1], &[]), Some(lanes(2)));
    assert_eq!(steps(&mut tenure, Steady(11_001)), [Step::Claim(lane(0))]);
}

#[test]
fn a_lane_that_is_lost_while_its_worker_finishes_is_neither_used_nor_given_up() {
    let mut tenure = settled(1);
    tenure.stop();
    assert_eq!(steps(&mut tenure, Steady(10)), [Step::Stop(lane(0))]);
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    tenure.beaten(Steady(2_000), roster(&[1], &[lease(0, 1)]), None);
    assert!(!tenure.holds(&lane(0)), "its worker's last write is another's to make");
    tenure.ended(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(2_010)), []);
    assert!(tenure.is_over());
}

#[test]
fn a_lane_whose_claim_is_answered_after_the_stop_gets_no_worker_and_is_given_up() {
    let mut tenure = Tenure::new(member(1).id, Steady(0));
    assert_eq!(steps(&mut tenure, Steady(0)), [Step::Beat]);
    tenure.beaten(Steady(0), roster(&[1], &[]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(0)), [Step::Claim(lane(0))]);
    tenure.stop();
    assert!(!tenure.claimed(&lane(0), lease(0, 1), Steady(0), LEASE));
    assert_eq!(steps(&mut tenure, Steady(10)), [Step::Release(lane(0), lease(0, 1))]);
    tenure.released(&lane(0));
    assert!(tenure.is_over());
}

#[test]
fn a_lane_that_is_to_be_ours_again_while_it_is_given_up_is_claimed_at_once() {
    let mut tenure = settled(1);
    let others: Vec<u128> = (1..40).collect();
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    tenure.beaten(Steady(2_000), roster(&others, &[]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(2_010)), [Step::Stop(lane(0))]);
    tenure.ended(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(2_020)), [Step::Release(lane(0), lease(0, 1))]);
    assert_eq!(steps(&mut tenure, Steady(4_000)), [Step::Beat]);
    tenure.beaten(Steady(4_000), roster(&[1], &[]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(4_010)), []);
    tenure.released(&lane(0));
    assert_eq!(steps(&mut tenure, Steady(4_020)), [Step::Claim(lane(0))]);
}

#[test]
fn a_lane_that_is_ours_without_a_worker_is_given_up_for_the_one_that_is_to_have_it() {
    let mut tenure = settled(1);
    // Refused a write while the lease had run out, which nobody else took.
    tenure.ended(&lane(0));
    let others: Vec<u128> = (1..40).collect();
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    let mine = vec![(lane(0), lease(0, 1))];
    let roster = Roster { mine, ..roster(&others, &[]) };
    tenure.beaten(Steady(2_000), roster, Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(2_001)), [Step::Release(lane(0), lease(0, 1))]);
}

#[test]
fn an_older_lease_that_is_lost_does_not_cost_the_newer_one() {
    let mut tenure = settled(1);
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    tenure.beaten(Steady(2_000), roster(&[1], &[lease(0, 0)]), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(2_001)), []);
    assert_eq!(tenure.held(), [lease(0, 1)]);
}

#[test]
fn whoever_has_not_been_heard_for_a_lease_claims_nothing() {
    let mut tenure = settled(1);
    tenure.busy(lane(7));
    assert_eq!(steps(&mut tenure, Steady(5_500)), [Step::Beat]);
    tenure.not_beaten(Steady(5_600));
    assert_eq!(steps(&mut tenure, Steady(5_600)), []);
    assert_eq!(steps(&mut tenure, Steady(6_100)), [Step::Beat]);
    tenure.beaten(Steady(6_100), roster(&[1], &[]), None);
    assert_eq!(steps(&mut tenure, Steady(6_110)), [Step::Claim(lane(7))]);
}

#[test]
fn hints_in_swarms_are_one_beat() {
    let mut tenure = settled(1);
    tenure.moved();
    tenure.moved();
    assert_eq!(steps(&mut tenure, Steady(50)), []);
    assert_eq!(steps(&mut tenure, Steady(100)), [Step::Beat]);
    // While it is under way: it may have looked too early.
    tenure.moved();
    tenure.beaten(Steady(100), roster(&[1], &[]), None);
    assert_eq!(steps(&mut tenure, Steady(199)), []);
    assert_eq!(steps(&mut tenure, Steady(200)), [Step::Beat]);
}

#[test]
fn where_nobody_else_can_come_it_looks_rarely_unless_something_waits() {
    let mut tenure = Tenure::new(member(1).id, Steady(0));
    let alone = || Roster { lasts: Duration::MAX, ..roster(&[1], &[]) };
    assert_eq!(steps(&mut tenure, Steady(0)), [Step::Beat]);
    tenure.beaten(Steady(0), alone(), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(1)), [Step::Claim(lane(0))]);
    tenure.not_claimed(&lane(0));
    assert_eq!(tenure.next(Steady(2)), Step::Wait { until: Steady(2_000) });
    assert_eq!(steps(&mut tenure, Steady(2_000)), [Step::Beat]);
    tenure.beaten(Steady(2_000), alone(), Some(lanes(1)));
    assert_eq!(steps(&mut tenure, Steady(2_001)), [Step::Claim(lane(0))]);
    assert!(tenure.claimed(&lane(0), lease(0, 1), Steady(2_001), Duration::MAX));
    assert_eq!(tenure.next(Steady(2_002)), Step::Wait { until: Steady(32_000) });
    tenure.busy(lane(5));
    assert_eq!(steps(&mut tenure, Steady(3_000)), [Step::Claim(lane(5))], "a hint is enough");
}

/// The store as several daemons see it: who is alive, and whose each lane is.
#[derive(Default)]
struct Truth {
    owners: BTreeMap<LaneName, (u128, i64)>,
    beats: BTreeMap<u128, Steady>,
}

const DAEMONS: u128 = 3;
const LANES: usize = 12;
const EXPIRES: Duration = Duration::from_millis(6_000);

impl Truth {
    fn alive(&self, who: u128, now: Steady) -> bool {
        self.beats.get(&who).is_some_and(|at| now.since(*at) < EXPIRES)
    }
}

/// A daemon, with its workers.
struct Daemon {
    who: u128,
    tenure: Tenure,
    workers: BTreeMap<LaneName, i64>,
    paused_until: Steady,
}

impl Daemon {
    fn turn(&mut self, truth: &mut Truth, now: Steady) {
        if now < self.paused_until {
            return;
        }
        loop {
            match self.tenure.next(now) {
                Step::Wait { .. } => return,
                Step::Beat => {
                    truth.beats.insert(self.who, now);
                    let alive: Vec<u128> =
                        (0..DAEMONS).filter(|who| truth.alive(*who, now)).collect();
                    let held = self.tenure.held();
                    let good = |lease: &&Lease| {
                        let name = lane(usize::try_from(lease.lane).unwrap());
                        truth.owners.get(&name) != Some(&(self.who, lease.epoch))
                    };
                    let lost: Vec<Lease> = held.iter().filter(good).copied().collect();
                    self.tenure.beaten(now, roster(&alive, &lost), Some(lanes(LANES)));
                }
                Step::Claim(name) => {
                    assert!(!self.workers.contains_key(&name), "two workers on one lane");
                    let (owner, epoch) = truth.owners.get(&name).copied().unwrap_or((99, 0));
                    if truth.alive(owner, now) && owner != self.who {
                        self.tenure.not_claimed(&name);
                        continue;
                    }
                    truth.owners.insert(name.clone(), (self.who, epoch + 1));
                    let number = name.account[7..].parse().unwrap();
                    let lease = lease(number, epoch + 1);
                    let left = truth.beats[&self.who].after(LEASE).since(now);
                    if self.tenure.claimed(&name, lease, now, left) {
                        self.workers.insert(name, epoch + 1);
                    }
                }
                Step::Stop(name) | Step::Abandon(name) => {
                    assert!(self.workers.remove(&name).is_some());
                    self.tenure.ended(&name);
                }
                Step::Release(name, lease) => {
                    assert!(!self.workers.contains_key(&name), "given up with a worker on it");
                    if truth.owners.get(&name) == Some(&(self.who, lease.epoch)) {
                        truth.owners.insert(name.clone(), (99, lease.epoch + 1));
                    }
                    self.tenure.released(&name);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_daemons_pause_no_lane_is_ever_used_by_two_and_soon_each_by_one(
        pauses in prop::collection::vec((0..DAEMONS, 0_i64..60_000, 1_i64..20_000), 0..12),
    ) {
        let mut truth = Truth::default();
        let mut daemons: Vec<Daemon> = (0..DAEMONS)
            .map(|who| Daemon {
                who,
                tenure: Tenure::new(member(who).id, Steady(0)),
                workers: BTreeMap::new(),
                paused_until: Steady(0),
            })
            .collect();
        for tick in 0..1_000 {
            let now = Steady(tick * 100);
            for (who, at, lasts) in &pauses {
                if (now.0..now.0 + 100).contains(at) {
                    daemons[usize::try_from(*who).unwrap()].paused_until = Steady(at + lasts);
                }
            }
            for daemon in &mut daemons {
                daemon.turn(&mut truth, now);
            }
            // Whoever wakes reads the clock before it sends: that is who uses a lane.
            let mut users: BTreeMap<&LaneName, u128> = BTreeMap::new();
            for daemon in daemons.iter().filter(|daemon| now < daemon.tenure.until()) {
                for name in daemon.workers.keys() {
                    let other = users.insert(name, daemon.who);
                    prop_assert!(other.is_none(), "{name:?} at {now:?}: {other:?}, {}", daemon.who);
                }
            }
            let rested = pauses.iter().all(|(_, at, lasts)| at + lasts + 15_000 < now.0);
            if rested && now.0 > 15_000 {
                prop_assert_eq!(users.len(), LANES, "at {:?}", now);
            }
        }
    }
}
