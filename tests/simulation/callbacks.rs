//! What must hold of every callback that is sent.

use super::receivers::RETRY_DELAYS;
use super::world::{Shared, World};

const SCHEDULE: u64 = {
    let [a, b, c, d, e, f] = RETRY_DELAYS;
    a + b + c + d + e + f
};
/// Attempts of one round of the schedule: no wait is shorter than a second, which the shortest
/// `Retry-After` asks for, but the first, which jitter may make shorter, and the last, which ends
/// with the schedule.
const ROUND_MAX: u64 = SCHEDULE + 3;
/// The shortest wait of the schedule, less jitter.
const WAIT_MIN: i64 = 800;

impl Shared {
    /// A callback is sent.
    pub fn sends(&self, node: usize, id: &str, body: &[u8]) {
        let registration = id.replacen("msg_", "reg_", 1);
        let mut world = self.lock();
        let now = world.now_of(node);
        world.first_sent.entry(registration.clone()).or_insert(now);
        let entry = world.sent.entry(id.to_owned()).or_insert_with(|| (body.to_vec(), 0));
        entry.1 += 1;
        let (same, times) = (entry.0 == body, entry.1);
        let attempts_max = world.attempts_max(&registration);
        let other = world.under_way.insert(id.to_owned(), node);
        let twice = other.is_some_and(|other| other != node) && world.is_in_good_order();
        let asked = world.times_asked(&registration) > 0;
        let needless = world.is_needless(&registration, node, now);
        drop(world);
        self.node_tells(node, format_args!("sends {registration:.10}, time {times}"));
        if !same {
            self.violated(format!("the bytes of {id} have changed"));
        }
        if u64::from(times) > attempts_max {
            self.violated(format!("{id} is sent for the {times}th time of {attempts_max}"));
        }
        if twice && !asked {
            self.violated(format!("{id} is sent by d{node} while d{other:?} sends it"));
        }
        if let Some(why) = needless.filter(|_| !asked) {
            self.violated(format!("{id} is sent again {why}"));
        }
    }

    /// A person asks for it once more.
    pub fn asked_again(&self, registration: &str) {
        *self.lock().sent_again.entry(registration.to_owned()).or_default() += 1;
    }
}

impl World {
    /// A round for every time that a person asks, and for every time that a clock is set back: the
    /// time since the first attempt is not known then. An attempt that is not recorded is made
    /// again: one for every death, every halt and every new owner, and every time that a person
    /// asks while one is under way.
    fn attempts_max(&self, registration: &str) -> u64 {
        let asked = u64::from(self.times_asked(registration));
        let rounds = 1 + asked + u64::from(self.wall_steps);
        let starts: u32 = self.starts.iter().sum();
        let unrecorded = u64::from(starts + self.halts + self.claims) + asked;
        ROUND_MAX * rounds + unrecorded
    }

    pub fn times_asked(&self, registration: &str) -> u32 {
        self.all_sent_again + self.sent_again.get(registration).copied().unwrap_or(0)
    }

    /// Where no lease ends but by its owner's leave.
    fn is_in_good_order(&self) -> bool {
        let faults = &self.faults;
        !(faults.pauses
            || faults.sleeps
            || faults.vm_pauses
            || faults.partitions
            || faults.store_slow
            || faults.store_stalls
            || faults.store_refuses
            || faults.store_lies)
    }

    /// Why a daemon that is alone, and has heard what became of the last attempt, should not have
    /// sent this one.
    fn is_needless(&self, registration: &str, node: usize, now: i64) -> Option<&'static str> {
        let last = self.last_answered.get(registration)?;
        if self.daemons > 1 || last.start != self.starts[node] || self.faults.wall_steps {
            return None;
        }
        let first = self.first_sent[registration];
        let ends = first + i64::try_from(SCHEDULE * 1_000).unwrap_or(i64::MAX) - WAIT_MIN;
        if last.accepted {
            return Some("though it was accepted");
        }
        (now < last.at + WAIT_MIN && now < ends).then_some("without a wait")
    }
}
