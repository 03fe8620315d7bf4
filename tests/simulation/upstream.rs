//! Feishu, as unkind as it gets.

use std::time::Duration;

use async_trait::async_trait;
use outcomed::outcome::{Class, Ids, Outcome};
use outcomed::source::{AccountProblem, Observation, PollError, Polled, Source, TransientClass};

use super::world::{Shared, Sickness};

pub const ACCOUNTS: [&str; 3] = ["a0", "a1", "a2"];
/// What a poll takes on its way there at most, while it may count as sent.
const ON_THE_WAY_MAX: i64 = 1_500;

/// The upstream of one account, as one daemon has it.
pub struct Upstream {
    pub world: Shared,
    pub node: usize,
    pub account: &'static str,
}

fn transient(class: TransientClass, detail: &str) -> PollError {
    PollError::Transient { class, detail: detail.to_owned() }
}

impl Upstream {
    /// Whether a catastrophe that strikes now and then for a while is on.
    fn during(&self, at: i64, every: i64, offset: i64, length: i64) -> bool {
        let shift = i64::from(self.account.as_bytes()[1]) * 7_000;
        !self.world.lock().calm && (at + offset + shift).rem_euclid(every) < length
    }

    /// What is wrong with the whole account.
    fn fault(&self, at: i64) -> Option<PollError> {
        let key = (self.node, self.account.to_owned());
        if !self.world.lock().tokens.contains(&key) {
            return Some(PollError::Token);
        }
        let faults = self.world.lock().faults.clone();
        if faults.upstream_away && self.during(at, 90_000, 50_000, 15_000) {
            return Some(transient(TransientClass::Unreadable, "502 from the edge"));
        }
        if faults.account_trouble && self.during(at, 110_000, 30_000, 12_000) {
            let message = "open the scope".to_owned();
            return Some(PollError::Account(AccountProblem { reason: "missing_scope", message }));
        }
        if self.world.fault(|faults| faults.account_trouble, 0.01) {
            return Some(PollError::Quota { reset: Some(Duration::from_millis(2_500)) });
        }
        if self.world.fault(|faults| faults.account_trouble, 0.01) {
            self.world.lock().tokens.remove(&key);
            return Some(PollError::Token);
        }
        None
    }

    /// What is wrong with the task alone.
    fn sickness(sick: Sickness) -> PollError {
        match sick {
            Sickness::UnknownCode => transient(TransientClass::Upstream, "code 1009999"),
            Sickness::Html => transient(TransientClass::Unreadable, "<html>"),
            Sickness::Reset => transient(TransientClass::Network, "reset"),
            Sickness::Hangs => transient(TransientClass::Timeout, "no answer"),
            Sickness::AccountCode => {
                let message = "no permission for this one".to_owned();
                PollError::Account(AccountProblem { reason: "missing_scope", message })
            }
        }
    }

    fn look(&self, task: &str, at: i64) -> Observation {
        let life = self.world.lock().lives[task];
        let Some(end) = life.end.filter(|_| at >= life.known_from) else {
            return Observation::NotFound;
        };
        if at < life.settles_at {
            return Observation::Pending { unknown_status: None };
        }
        let ids = Ids { application_id: Some(task.to_owned()), ..Ids::default() };
        Observation::Settled(match end {
            Class::Succeeded => Outcome::succeeded(ids),
            Class::Failed | Class::Unresolved => Outcome::failed(ids, None, Some("69".into())),
        })
    }

    /// The poll leaves the daemon, and is on its way whatever becomes of the daemon then.
    fn sent(&self, task: &str) -> (i64, i64) {
        let slow = self.world.fault(|faults| faults.replies_lost, 0.05);
        let most = if slow { ON_THE_WAY_MAX } else { 200 };
        let takes = self.world.between(1, most);
        let now = self.world.lock().now_of(self.node);
        self.world.node_tells(self.node, format_args!("polls {} {task:.6}", self.account));
        self.world.polled(self.node, self.account, task, now, now + takes);
        (now + takes, takes)
    }
}

#[async_trait]
impl Source for Upstream {
    async fn prepare(&self) -> Result<(), PollError> {
        self.world.delay(5, 200).await;
        if self.world.fault(|faults| faults.account_trouble, 0.05) {
            return Err(transient(TransientClass::Network, "token call reset"));
        }
        self.world.lock().tokens.insert((self.node, self.account.to_owned()));
        Ok(())
    }

    async fn observe(&self, _website: &str, task: &str) -> Result<Polled, PollError> {
        self.world.effect(self.node).await;
        if self.world.chance(0.1) {
            // A new connection.
            self.world.delay(1, 100).await;
        }
        let (at, takes) = self.sent(task);
        let sick = self.world.lock().lives[task].sick;
        let answer = match (self.fault(at), sick) {
            (Some(fault), _) => Err(fault),
            (None, Some(sick)) => Err(Self::sickness(sick)),
            (None, None) => {
                Ok(Polled { observation: self.look(task, at), log_id: Some(format!("log-{at}")) })
            }
        };
        self.world.delay(takes, 2 * takes + 1).await;
        if sick == Some(Sickness::Hangs) {
            self.world.delay(9_000, 10_000).await;
        }
        if self.world.fault(|faults| faults.replies_hang, 0.02) {
            std::future::pending::<()>().await;
        }
        self.world.effect(self.node).await;
        if self.world.fault(|faults| faults.replies_lost, 0.05) {
            self.world.delay(1, 9_000).await;
            return Err(transient(TransientClass::Network, "the reply was lost"));
        }
        answer
    }
}
