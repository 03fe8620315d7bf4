//! Receivers, as unkind as they get, behind the real delivery loop.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::config::{Client, Config, Role, SigningSecret};
use outcomed::delivery::send::{Class, Courier, Parcel, Reply};
use outcomed::delivery::{self, Parts};
use outcomed::observability::Metrics;
use outcomed::store::Store;
use rand::RngExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clients::CLIENTS;
use super::world::Shared;

const DRAIN: Duration = Duration::from_secs(5);

/// Runs the daemon's delivery loop against the simulated receivers.
pub async fn run_delivery(world: &Shared, store: &Arc<dyn Store>, shutdown: &CancellationToken) {
    let chance = world.clone();
    let (_health, questions) = delivery::health::desk();
    let parts = Parts {
        hints: store.hints(),
        outbox: store.clone(),
        config: watch::channel(Arc::new(config())).1,
        clock: Arc::new(world.clone()),
        metrics: Arc::new(Metrics::default()),
        courier: Arc::new(Receivers { world: world.clone(), store: Arc::clone(store) }),
        questions,
        closed: tokio::sync::mpsc::channel(1).0,
        handover: delivery::handover::Handover::new(store.clone()),
        ours: Arc::new(|| true),
        jitter: Arc::new(move || chance.lock().rng.random_range(-1.0..=1.0)),
    };
    delivery::run(parts, shutdown.clone(), DRAIN).await;
}

fn config() -> Config {
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
    Config { clients: CLIENTS.iter().map(client).collect(), ..Config::default() }
}

struct Receivers {
    world: Shared,
    store: Arc<dyn Store>,
}

impl Receivers {
    async fn delay(&self, low: i64, high: i64) {
        let delay = self.world.between(low, high).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }

    /// What holds at every attempt: the outcome is stored, and neither id nor bytes ever change.
    async fn check(&self, parcel: &Parcel) -> String {
        let id = parcel.headers.id.clone();
        let registration = id.replace("msg_", "reg_");
        let row = loop {
            // The store may refuse at the moment; what it holds does not depend on that.
            if let Ok(row) = self.store.find(&registration).await {
                break row.unwrap_or_else(|| panic!("{registration} is told but not stored"));
            }
        };
        let told = outcomed::outcome::read(&parcel.body).unwrap();
        assert_eq!(row.outcome, Some(told), "told before it was stored");
        let mut world = self.world.lock();
        let first = world.sent.entry(id.clone()).or_insert_with(|| parcel.body.to_vec());
        assert_eq!(*first, parcel.body.to_vec(), "the bytes of {id} changed");
        id
    }
}

#[async_trait]
impl Courier for Receivers {
    async fn send(&self, parcel: Parcel) -> Reply {
        let id = self.check(&parcel).await;
        self.world.effect().await;
        self.delay(1, 200).await;
        if self.world.chance(0.05) {
            self.delay(14_000, 15_000).await;
            return Reply::broken(Class::Timeout, "no reply");
        }
        if self.world.chance(0.15) {
            let mut reply = Reply { status: Some(503), ..Reply::default() };
            if self.world.chance(0.5) {
                reply.retry_after = Some("7".to_owned());
            }
            return reply;
        }
        {
            let mut world = self.world.lock();
            let entry = world.accepted.entry(id).or_insert_with(|| (parcel.body.to_vec(), 0));
            entry.1 += 1;
        }
        self.delay(1, 200).await;
        self.world.effect().await;
        if self.world.chance(0.03) {
            return Reply::broken(Class::Reset, "the reply was lost");
        }
        Reply { status: Some(200), ..Reply::default() }
    }
}
