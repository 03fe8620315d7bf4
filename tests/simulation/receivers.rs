//! Receivers, as unkind as they get, behind the real delivery loop.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::config::{Client, Config, Delivery, Role, SigningSecret};
use outcomed::delivery::send::{Class, Courier, Parcel, Reply};
use outcomed::store::Registry;

use super::clients::{CLIENTS, is_sick};
use super::store::Door;
use super::world::{Answered, Shared};

/// Short, so that a history may see its end.
pub const RETRY_DELAYS: [u64; 6] = [1, 3, 5, 10, 20, 30];

/// Every client, with a schedule that a history may see the end of.
pub fn config() -> Config {
    let client = |name: &&str| Client {
        name: (*name).to_owned(),
        role: Role::Client,
        token_sha256: [0; 32],
        signing_secrets: vec![SigningSecret::new(vec![7; 32])],
        callback_allow: Vec::new(),
        signing_keys: Vec::new(),
        tls_identity: None,
        alert_url: None,
    };
    let config = Config { clients: CLIENTS.iter().map(client).collect(), ..Config::default() };
    let retry_delays = RETRY_DELAYS.map(Duration::from_secs).to_vec();
    Config { delivery: Delivery { retry_delays, ..config.delivery.clone() }, ..config }
}

pub struct Receivers {
    pub world: Shared,
    pub door: Arc<Door>,
    pub node: usize,
}

/// An attempt under way, whether it ends or is cut off.
struct UnderWay<'a>(&'a Shared, String, usize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut world = self.0.lock();
        if world.under_way.get(&self.1) == Some(&self.2) {
            world.under_way.remove(&self.1);
        }
    }
}

impl Receivers {
    /// Nothing is told before its outcome is stored, and always the same.
    async fn check(&self, id: &str, parcel: &Parcel) {
        let registration = id.replacen("msg_", "reg_", 1);
        let found = match self.door.store() {
            Some(store) => store.find(&registration).await.ok().flatten(),
            None => None,
        };
        if found.is_none_or(|row| row.outcome.is_none()) {
            self.world.violated(format!("{registration} is told before its outcome is stored"));
        }
        self.world.sends(self.node, id, &parcel.body);
    }

    /// How this receiver is, whatever the callback.
    async fn sick(&self, parcel: &Parcel) -> Option<Reply> {
        let url = parcel.url.as_str();
        if is_sick(&self.world.lock().faults, url) {
            if url.contains("sick.example") {
                self.world.delay(3_000, 5_000).await;
                return Some(Reply::broken(Class::Timeout, "no reply"));
            }
            return Some(Reply { status: Some(500), ..Reply::default() });
        }
        self.world
            .lock()
            .gone
            .contains(url)
            .then(|| Reply { status: Some(410), ..Reply::default() })
    }

    /// A deployment, or a bad moment.
    async fn failing(&self, parcel: &Parcel) -> Option<Reply> {
        if !self.world.lock().faults.receivers_fail || self.world.lock().calm {
            return None;
        }
        let now = self.world.lock().now_of(self.node);
        let host = parcel.url.host_str().unwrap_or_default();
        let shift = host.bytes().map(i64::from).sum::<i64>() * 1_000;
        if (now + shift).rem_euclid(70_000) < 25_000 {
            let retry_after = Some("1".to_owned());
            return Some(Reply { status: Some(503), retry_after, ..Reply::default() });
        }
        if self.world.chance(0.05) {
            self.world.delay(14_000, 15_000).await;
            return Some(Reply::broken(Class::Timeout, "no reply"));
        }
        if self.world.chance(0.1) {
            let retry_after = self.world.chance(0.5).then(|| "7".to_owned());
            return Some(Reply { status: Some(503), retry_after, ..Reply::default() });
        }
        None
    }

    async fn answer(&self, id: &str, parcel: &Parcel) -> Reply {
        self.world.delay(1, 200).await;
        if let Some(reply) = self.sick(parcel).await {
            return reply;
        }
        if let Some(reply) = self.failing(parcel).await {
            return reply;
        }
        let now = self.world.lock().now_of(self.node);
        self.world
            .lock()
            .accepted
            .entry(id.to_owned())
            .or_insert_with(|| (parcel.body.to_vec(), now));
        self.world.delay(1, 200).await;
        self.world.effect(self.node).await;
        if self.world.fault(|faults| faults.receivers_forget, 0.1) {
            self.world.delay(1, 14_000).await;
            return Reply::broken(Class::Reset, "the reply was lost");
        }
        Reply { status: Some(200), ..Reply::default() }
    }
}

#[async_trait]
impl Courier for Receivers {
    async fn send(&self, parcel: Parcel) -> Reply {
        self.world.effect(self.node).await;
        let id = parcel.headers.id.clone();
        self.check(&id, &parcel).await;
        let _under_way = UnderWay(&self.world, id.clone(), self.node);
        let reply = self.answer(&id, &parcel).await;
        let mut world = self.world.lock();
        let answered = Answered {
            at: world.now_of(self.node),
            accepted: matches!(reply.status, Some(200..=299)),
            start: world.starts[self.node],
        };
        world.last_answered.insert(id.replacen("msg_", "reg_", 1), answered);
        reply
    }
}
