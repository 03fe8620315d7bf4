//! What happened to each task, and what it comes to. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stage::Registered;

/// One line about one task.
pub(super) struct Told {
    /// Its place in the order of registration.
    pub(super) task: usize,
    /// What happened.
    pub(super) line: String,
    /// Whether nothing more will.
    pub(super) last: bool,
}

/// A callback, beside what really happened.
pub(super) struct Arrival {
    pub(super) task: String,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) verified: bool,
    pub(super) answered: u16,
    pub(super) attempt: u32,
    pub(super) polls: u64,
    /// From the task's end to our seeing it.
    pub(super) detection: Option<Duration>,
    /// From its creation to its end.
    pub(super) took: Option<Duration>,
}

/// What the stand-in counted.
pub(super) struct Figures {
    pub(super) polls: usize,
    pub(super) token_calls: u64,
    pub(super) refused: u64,
    pub(super) peak_per_second: usize,
}

/// What the daemon says of its own schedule, as `GET /v1/accounts` has it.
pub(super) struct Plan {
    pub(super) price: String,
    pub(super) polls_per_task: f64,
    pub(super) expected: String,
    pub(super) bound: String,
    pub(super) ratio: f64,
}

impl Plan {
    fn told(&self) -> String {
        format!(
            "a poll must save {} of waiting; {:.1} polls a task; a delay of {} is expected, {} \
             is the least possible; so far it was x{:.2} of the bound",
            self.price, self.polls_per_task, self.expected, self.bound, self.ratio
        )
    }
}

#[derive(Default)]
struct Task {
    number: usize,
    polls: u64,
    outcome: Option<String>,
    delivered: bool,
    detection: Option<Duration>,
}

/// Everything that happened so far.
#[derive(Default)]
pub(super) struct Story {
    tasks: BTreeMap<String, Task>,
    refused_attempts: u32,
    forged: u32,
}

impl Story {
    pub(super) fn registered(&mut self, registered: Registered) -> Told {
        let number = self.tasks.len();
        let short = short(&registered.task);
        let line = format!("{short}  registered, callback to the {} receiver", registered.receiver);
        self.tasks.insert(registered.task, Task { number, ..Task::default() });
        Told { task: number, line, last: false }
    }

    /// Tells of tasks that were polled again and are still pending.
    pub(super) fn polled(&mut self, polls: impl Fn(&str) -> u64) -> Vec<Told> {
        let mut told = Vec::new();
        for (id, task) in &mut self.tasks {
            let now = polls(id);
            // The first poll is news, the others only change a number.
            if task.outcome.is_none() && now > task.polls {
                task.polls = now;
                let line = format!("{}  pending, polled {}", short(id), times(now));
                told.push(Told { task: task.number, line, last: false });
            }
        }
        told
    }

    pub(super) fn arrived(&mut self, arrival: &Arrival) -> Vec<Told> {
        let Some(task) = self.tasks.get_mut(&arrival.task) else { return Vec::new() };
        let mut told = Vec::new();
        if task.outcome.is_none() {
            let what = match &arrival.reason {
                Some(reason) => format!("{}: {reason}", arrival.outcome),
                None => arrival.outcome.clone(),
            };
            let line = format!(
                "{}  settled after {}, seen {} later with {}: {what}",
                short(&arrival.task),
                seconds(arrival.took),
                seconds(arrival.detection),
                polls(arrival.polls),
            );
            told.push(Told { task: task.number, line, last: false });
            task.outcome = Some(what);
            task.detection = arrival.detection;
        }
        self.forged += u32::from(!arrival.verified);
        let what = task.outcome.as_deref().unwrap_or_default();
        let line = if arrival.answered < 300 {
            task.delivered = true;
            let signature = if arrival.verified { "signature verified" } else { "BAD SIGNATURE" };
            let id = short(&arrival.task);
            format!("{id}  delivered at attempt {}, {signature}: {what}", arrival.attempt)
        } else {
            self.refused_attempts += 1;
            let id = short(&arrival.task);
            let (attempt, status) = (arrival.attempt, arrival.answered);
            format!("{id}  attempt {attempt} answered {status}, will be tried again: {what}")
        };
        told.push(Told { task: task.number, line, last: task.delivered });
        told
    }

    /// Whether every task's callback has arrived.
    pub(super) fn is_over(&self) -> bool {
        self.tasks.values().all(|task| task.delivered)
    }

    /// Whether everything is as it should be, the daemon's own count included.
    pub(super) fn all_told_truly(&self, delivered: usize) -> bool {
        self.is_over() && self.forged == 0 && delivered == self.tasks.len()
    }

    pub(super) fn summary(
        &self,
        figures: &Figures,
        plan: Option<&Plan>,
        delivered: usize,
    ) -> Vec<String> {
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        for task in self.tasks.values() {
            *outcomes.entry(task.outcome.as_deref().unwrap_or("not told")).or_default() += 1;
        }
        let outcomes: Vec<String> =
            outcomes.into_iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let mut delays: Vec<Duration> =
            self.tasks.values().filter_map(|task| task.detection).collect();
        delays.sort_unstable();
        let mean =
            delays.iter().sum::<Duration>() / u32::try_from(delays.len().max(1)).unwrap_or(1);
        vec![
            String::new(),
            format!("tasks       {}: {}", self.tasks.len(), outcomes.join(", ")),
            format!(
                "callbacks   {delivered} delivered, every signature {}; {} refused on the way and sent again",
                if self.forged == 0 { "verified" } else { "NOT verified" },
                self.refused_attempts
            ),
            format!(
                "detection   a task's end was seen {} later on average, {} at the median, {} at most",
                seconds(Some(mean)),
                seconds(delays.get(delays.len() / 2).copied()),
                seconds(delays.last().copied()),
            ),
            format!(
                "plan        {}",
                plan.map_or_else(|| "too few tasks have settled to say".to_owned(), Plan::told)
            ),
            format!(
                "quota       {} polls, at most {} in any second (50 allowed), {} refused; {} token call{}",
                figures.polls,
                figures.peak_per_second,
                figures.refused,
                figures.token_calls,
                if figures.token_calls == 1 { "" } else { "s" },
            ),
        ]
    }
}

fn short(task: &str) -> &str {
    task.get(..8).unwrap_or(task)
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "? s".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn polls(count: u64) -> String {
    if count == 1 { "1 poll".to_owned() } else { format!("{count} polls") }
}
