//! Feishu, as unkind as it gets.

use std::time::Duration;

use async_trait::async_trait;
use outcomed::outcome::{Class, Ids, Outcome};
use outcomed::source::{AccountProblem, Observation, PollError, Polled, Source, TransientClass};

use super::world::Shared;

/// The upstream of the one account.
pub struct Upstream(pub Shared);

impl Upstream {
    async fn delay(&self, low: i64, high: i64) {
        let delay = self.0.between(low, high).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }

    /// Whether a catastrophe that strikes now and then for a while is on.
    fn during(&self, every: i64, offset: i64, length: i64) -> bool {
        let (now, calm) = (self.0.now(), self.0.lock().calm);
        !calm && (now + offset).rem_euclid(every) < length
    }

    fn fault(&self) -> Option<PollError> {
        let offset = i64::try_from(self.0.lock().seed % 97).unwrap() * 1_000;
        if !self.0.lock().token_valid {
            return Some(PollError::Token);
        }
        if self.during(300_000, offset, 20_000) {
            let message = "open the scope".to_owned();
            return Some(PollError::Account(AccountProblem { reason: "missing_scope", message }));
        }
        if self.during(170_000, offset * 3, 15_000) || self.0.chance(0.03) {
            let detail = "502 from the edge".to_owned();
            return Some(PollError::Transient { class: TransientClass::Unreadable, detail });
        }
        if self.0.chance(0.01) {
            return Some(PollError::Quota { reset: Some(Duration::from_millis(2_500)) });
        }
        if self.0.chance(0.01) {
            self.0.lock().token_valid = false;
            return Some(PollError::Token);
        }
        None
    }

    fn look(&self, task: &str) -> Observation {
        let now = self.0.now();
        let life = self.0.lock().lives[task];
        let Some(end) = life.end.filter(|_| now >= life.known_from) else {
            return Observation::NotFound;
        };
        if now < life.settles_at {
            return Observation::Pending { unknown_status: None };
        }
        let ids = Ids { application_id: Some(task.to_owned()), ..Ids::default() };
        Observation::Settled(match end {
            Class::Succeeded => Outcome::succeeded(ids),
            Class::Failed | Class::Unresolved => Outcome::failed(ids, None, Some("69".into())),
        })
    }
}

#[async_trait]
impl Source for Upstream {
    async fn prepare(&self) -> Result<(), PollError> {
        self.delay(5, 200).await;
        if self.0.chance(0.05) {
            let detail = "token call reset".to_owned();
            return Err(PollError::Transient { class: TransientClass::Network, detail });
        }
        self.0.lock().token_valid = true;
        Ok(())
    }

    async fn observe(&self, _website: &str, task: &str) -> Result<Polled, PollError> {
        assert!(
            !self.0.lock().settled.contains(task),
            "polled after its outcome was stored: {task}"
        );
        self.0.effect().await;
        self.delay(1, 300).await;
        let now = self.0.now();
        self.0.lock().arrivals.push(now);
        let answer = match self.fault() {
            Some(fault) => Err(fault),
            None => Ok(Polled { observation: self.look(task), log_id: Some(format!("log-{now}")) }),
        };
        self.delay(1, 300).await;
        self.0.effect().await;
        if self.0.chance(0.02) {
            let detail = "the reply was lost".to_owned();
            return Err(PollError::Transient { class: TransientClass::Network, detail });
        }
        answer
    }
}
