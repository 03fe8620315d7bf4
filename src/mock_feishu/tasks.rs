//! Tasks: how long they live, how they end, and how each state of theirs looks on the wire.

use std::time::Duration;

use rand::{Rng, RngExt};
use serde_json::{Value, json};

use super::options::Options;
use crate::clock::Steady;

/// Above 2^53, so that a client that reads ids as floating point loses digits and is found out.
const IDS_FROM: u64 = 6_900_000_000_000_000_000;
const IDS_TO: u64 = 7_100_000_000_000_000_000;

/// How many ways of saying "pending" there are.
const PENDING_SHAPES: u64 = 6;

/// What will become of a task, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Age at which it becomes visible: replication lag answers 1002008 before.
    pub appears_after: Duration,
    /// Age at which it ends; never if `None`.
    pub settles_after: Option<Duration>,
    /// How.
    pub ending: Ending,
    /// Age at which Feishu deletes it; never if `None`.
    pub deleted_after: Option<Duration>,
}

impl Life {
    /// A life that reaches `ending` after `settles_after`.
    #[must_use]
    pub fn ending(ending: Ending, settles_after: Duration) -> Self {
        Self {
            appears_after: Duration::ZERO,
            settles_after: Some(settles_after),
            ending,
            deleted_after: None,
        }
    }

    /// A life that stays pending for ever.
    #[must_use]
    pub fn pending() -> Self {
        Self { settles_after: None, ..Self::ending(Ending::Succeeded, Duration::ZERO) }
    }

    /// Draws a life as the options have it.
    pub fn draw(options: &Options, random: &mut impl Rng) -> Self {
        let settles_after = options.settle.draw(random);
        let lot = random.random::<f64>();
        let failing = options.fail.probability();
        let ending = if lot < failing {
            Ending::Rejected { message: "website job post is offline".into() }
        } else if lot < failing + options.duplicate.probability() {
            Ending::Duplicate { message: "duplicate delivery".into(), of: id(random) }
        } else {
            Ending::Succeeded
        };
        Self {
            appears_after: Duration::ZERO,
            settles_after,
            ending,
            deleted_after: options.task_life,
        }
    }
}

/// How a task ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Status 2.
    Succeeded,
    /// Status 3.
    Rejected {
        /// `status_msg`.
        message: String,
    },
    /// Status 3 that names the earlier delivery.
    Duplicate {
        /// `status_msg`.
        message: String,
        /// `extra_info`.
        of: String,
    },
    /// A status that nobody has documented.
    Undocumented(i64),
}

/// A fresh id of Feishu's kind.
pub(super) fn id(random: &mut impl Rng) -> String {
    random.random_range(IDS_FROM..IDS_TO).to_string()
}

/// A fresh task id: 32 lower-case hex digits.
pub(super) fn task_id(random: &mut impl Rng) -> String {
    format!("{:032x}", random.random::<u128>())
}

/// One task.
#[derive(Clone, Debug)]
pub struct Task {
    /// The website it belongs to.
    pub website_id: String,
    /// The app and tenant that may see it; everyone if `None`.
    pub(super) owner: Option<(String, String)>,
    /// When it was created.
    pub created: Steady,
    /// What becomes of it.
    pub life: Life,
    /// How often it was polled.
    pub polls: u64,
    /// Its place in the order of creation: varies the shape of what it says.
    pub(super) number: u64,
    /// What its delivery will say.
    pub(super) delivery: Value,
}

impl Task {
    /// A delivery with every id that Feishu gives.
    pub(super) fn delivery(random: &mut impl Rng) -> Value {
        let mut id = || id(random);
        json!({
            "application_id": id(), "id": id(), "job_id": id(), "job_post_id": id(),
            "portal_resume_id": id(), "user_id": id(), "talent_id": id(),
        })
    }

    /// When it ends, if ever.
    #[must_use]
    pub fn settles_at(&self) -> Option<Steady> {
        self.life.settles_after.map(|age| self.created.after(age))
    }

    /// Whether Feishu would say 1002008.
    pub(super) fn is_gone(&self, now: Steady) -> bool {
        let age = now.since(self.created);
        age < self.life.appears_after || self.life.deleted_after.is_some_and(|end| age >= end)
    }

    /// What a poll at `now` reads, and the word for it. Counts the poll.
    pub(super) fn read(&mut self, now: Steady) -> (Value, &'static str) {
        let shape = (self.number + self.polls) % PENDING_SHAPES;
        self.polls += 1;
        match &self.life.ending {
            _ if self.settles_at().is_none_or(|end| now < end) => (self.pending(shape), "pending"),
            Ending::Succeeded => (success(&self.succeeded()), "succeeded"),
            Ending::Rejected { message } => (success(&self.rejected(message)), "rejected"),
            Ending::Duplicate { message, of } => (
                success(&json!({ "status": 3, "status_msg": message, "extra_info": of })),
                "duplicate",
            ),
            Ending::Undocumented(status) => (success(&json!({ "status": status })), "undocumented"),
        }
    }

    fn pending(&self, shape: u64) -> Value {
        match shape {
            0 => success(&Value::Null),
            1 => success(&json!({})),
            2 => json!({ "code": 0, "msg": "success" }),
            3 => success(&json!({ "status": 0 })),
            4 => success(&json!({ "status": 1 })),
            _ => success(&json!({
                "status": 1, "delivery": self.delivery, "status_msg": " ", "extra_info": "  ",
            })),
        }
    }

    /// With and without the blank strings of the documented sample, task by task.
    fn succeeded(&self) -> Value {
        let mut data = json!({ "status": 2, "delivery": self.delivery });
        if self.number.is_multiple_of(2) {
            data["status_msg"] = " ".into();
            data["extra_info"] = "  ".into();
        }
        data
    }

    fn rejected(&self, message: &str) -> Value {
        let mut data = json!({ "status": 3, "status_msg": message });
        if self.number.is_multiple_of(2) {
            data["extra_info"] = " ".into();
        }
        data
    }
}

fn success(data: &Value) -> Value {
    json!({ "code": 0, "msg": "success", "data": data })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn task(life: Life) -> Task {
        let mut random = StdRng::seed_from_u64(1);
        Task {
            website_id: "1".into(),
            owner: None,
            created: Steady(1_000),
            life,
            polls: 0,
            number: 0,
            delivery: Task::delivery(&mut random),
        }
    }

    #[test]
    fn pending_comes_in_every_shape_that_feishu_uses() {
        let mut task = task(Life::pending());
        let shapes: Vec<Value> = (0..6).map(|_| task.read(Steady(1_000)).0).collect();
        assert_eq!(shapes[0]["data"], Value::Null);
        assert!(shapes[0].get("data").is_some());
        assert_eq!(shapes[1]["data"], json!({}));
        assert!(shapes[2].get("data").is_none());
        assert_eq!(shapes[3]["data"]["status"], 0);
        assert_eq!(shapes[4]["data"], json!({ "status": 1 }));
        assert_eq!(shapes[5]["data"]["status"], 1);
        assert_eq!(shapes[5]["data"]["delivery"].as_object().unwrap().len(), 7);
        assert_eq!(shapes[5]["data"]["status_msg"], " ");
    }

    #[test]
    fn a_task_ends_at_its_time_and_not_before() {
        let mut task = task(Life::ending(Ending::Succeeded, Duration::from_millis(500)));
        assert_eq!(task.read(Steady(1_499)).1, "pending");
        assert_eq!(task.read(Steady(1_500)).1, "succeeded");
    }

    #[test]
    fn a_task_is_gone_before_it_appears_and_after_it_is_deleted() {
        let mut life = Life::pending();
        life.appears_after = Duration::from_millis(100);
        life.deleted_after = Some(Duration::from_millis(200));
        let task = task(life);
        assert!(task.is_gone(Steady(1_099)));
        assert!(!task.is_gone(Steady(1_100)));
        assert!(task.is_gone(Steady(1_200)));
    }

    #[test]
    fn lives_are_drawn_in_the_shares_that_were_asked_for() {
        let percent = super::super::options::Percent;
        let (fail, duplicate) = (percent(30.0), percent(20.0));
        let options = Options { fail, duplicate, ..Options::default() };
        let mut random = StdRng::seed_from_u64(1);
        let (mut rejected, mut repeated) = (0, 0);
        for _ in 0..2_000 {
            match Life::draw(&options, &mut random).ending {
                Ending::Rejected { .. } => rejected += 1,
                Ending::Duplicate { .. } => repeated += 1,
                _ => {}
            }
        }
        // Four standard deviations of a binomial: 82 and 72.
        assert!((518..=682).contains(&rejected), "{rejected}");
        assert!((328..=472).contains(&repeated), "{repeated}");
    }

    #[test]
    fn ids_exceed_what_floating_point_holds() {
        let delivery = Task::delivery(&mut StdRng::seed_from_u64(1));
        for id in delivery.as_object().unwrap().values() {
            assert!(id.as_str().unwrap().parse::<u64>().unwrap() > 1 << 53);
        }
    }
}
