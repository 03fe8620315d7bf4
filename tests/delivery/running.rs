//! The whole engine between an outbox in memory and receivers on real sockets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outcomed::clock::SystemClock;
use outcomed::config::{
    Client, Config, Delivery, Http, Listen, Log, LogFormat, Polling, Retention, Role, SigningKey,
    SigningSecret, StoreUrl,
};
use outcomed::delivery::handover::Handover;
use outcomed::delivery::health::{Health, OriginState, desk};
use outcomed::delivery::send::http::HttpCourier;
use outcomed::delivery::send::{Courier, Parcel, Reply};
use outcomed::delivery::{Drained, Parts, ping, run};
use outcomed::observability::metrics::Metrics;
use outcomed::store::Next;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::courier::{LOOPBACK, allow};
use crate::outbox::MemoryOutbox;
use crate::receiver::{Act, Receiver, ok, reply};

pub(crate) const KEY: [u8; 32] = [1; 32];
const QUICK: Duration = Duration::from_millis(50);

fn client(keys: &[[u8; 32]]) -> Client {
    Client {
        name: "ats".to_owned(),
        role: Role::Client,
        token_sha256: [0; 32],
        signing_secrets: keys.iter().map(|key| SigningSecret::new(key.to_vec())).collect(),
        callback_allow: allow(LOOPBACK),
        signing_keys: Vec::new(),
        tls_identity: None,
        alert_url: None,
    }
}

pub(crate) fn config(keys: &[[u8; 32]], retries: usize) -> Config {
    let seconds = Duration::from_secs;
    Config {
        http: Http { listen: Listen::Unix("unused".into()), open_metrics: false },
        store: StoreUrl::Sqlite("unused".into()),
        accounts: Vec::new(),
        clients: vec![client(keys)],
        polling: Polling {
            give_up_after: seconds(1),
            not_found_grace: seconds(1),
            poll_worth: seconds(1),
        },
        delivery: Delivery {
            timeout: seconds(15),
            retry_delays: vec![QUICK; retries],
            concurrency_per_host: 16,
            extra_ca_files: Vec::new(),
        },
        retention: Retention {
            delivered: seconds(1),
            undeliverable: seconds(1),
            attempts: seconds(1),
        },
        log: Log { level: "off".to_owned(), format: LogFormat::Text },
    }
}

pub(crate) struct Engine {
    pub(crate) outbox: Arc<MemoryOutbox>,
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) handover: Handover,
    health: Health,
    shutdown: CancellationToken,
    running: JoinHandle<Drained>,
}

impl Engine {
    pub(crate) fn start(config: Config, drain: Duration) -> Self {
        Self::with_courier(config, drain, Arc::new(HttpCourier::new(Vec::new())))
    }

    pub(super) fn with_courier(config: Config, drain: Duration, courier: Arc<dyn Courier>) -> Self {
        let outbox = Arc::new(MemoryOutbox::new());
        let (sender, receiver) = watch::channel(Arc::new(config));
        let (health, questions) = desk();
        let handover = Handover::new(outbox.clone());
        let parts = Parts {
            outbox: outbox.clone(),
            hints: outbox.hints.subscribe(),
            config: receiver,
            clock: Arc::new(SystemClock::new()),
            metrics: Arc::new(Metrics::default()),
            courier,
            questions,
            closed: tokio::sync::mpsc::channel(1).0,
            handover: handover.clone(),
            ours: Arc::new(|| true),
            jitter: Arc::new(|| 0.0),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(parts, shutdown.clone(), drain));
        Self { outbox, config: sender, handover, health, shutdown, running }
    }

    pub(crate) async fn stop(self) -> Drained {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }
}

fn usual() -> Engine {
    Engine::start(config(&[KEY], 3), Duration::from_secs(5))
}

#[tokio::test]
async fn an_outcome_is_delivered_signed_and_recorded() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let engine = usual();
    let id = engine.outbox.add("ats", &receiver.url());
    let request = receiver.request().await;
    assert_eq!(request.headers["webhook-id"], id.replace("reg_", "msg_"));
    assert!(request.verifies(&KEY));
    assert!(!request.verifies(&[9; 32]));
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!(row.end, Some(Next::Delivered));
    assert_eq!(request.body, row.delivery.body);
    let attempt = &row.attempts[0];
    assert_eq!((attempt.number, attempt.status), (1, Some(200)));
    assert_eq!((attempt.verdict.as_str(), attempt.error.as_deref()), ("delivered", None));
    assert_eq!(attempt.reply_excerpt.as_deref(), Some("thanks"));
    assert_eq!(engine.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_client_with_a_key_is_signed_for_with_both_and_a_ping_as_well() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let mut config = config(&[KEY], 0);
    let key = SigningKey::from_seed(&[5; 32]);
    config.clients[0].signing_keys = vec![key.clone()];
    let (courier, clock) = (HttpCourier::new(Vec::new()), SystemClock::new());
    let pinged = ping::ping(
        &courier,
        &clock,
        &config.clients[0],
        receiver.url().parse().unwrap(),
        &config.delivery,
    );
    pinged.await.unwrap();
    let engine = Engine::start(config, Duration::ZERO);
    engine.outbox.add("ats", &receiver.url());
    for _ in 0..2 {
        let request = receiver.request().await;
        assert!(request.verifies(&KEY));
        assert!(request.verifies_asymmetric(&key.public()));
        let other = SigningKey::from_seed(&[6; 32]);
        assert!(!request.verifies_asymmetric(&other.public()));
    }
}

#[tokio::test]
async fn every_attempt_has_the_same_id_and_bytes_and_after_the_last_it_is_undeliverable() {
    let mut receiver = Receiver::start(vec![reply("500 Oops", "", "down")]).await;
    let engine = usual();
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!(row.end, Some(Next::Undeliverable));
    let verdicts: Vec<&str> = row.attempts.iter().map(|each| each.verdict.as_str()).collect();
    assert_eq!(verdicts, ["retry", "retry", "retry", "gave_up"]);
    let numbers: Vec<u32> = row.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(row.attempts[3].error.as_deref(), Some("the receiver answered 500"));
    let first = receiver.request().await;
    for _ in 0..3 {
        let next = receiver.request().await;
        assert_eq!(
            (&next.headers["webhook-id"], &next.body),
            (&first.headers["webhook-id"], &first.body)
        );
        assert!(next.verifies(&KEY));
    }
    assert!(receiver.request_now().is_none());
    let waits = row.attempts.windows(2).map(|pair| pair[1].at.since(pair[0].at));
    assert!(waits.into_iter().all(|wait| wait >= QUICK));
}

#[tokio::test]
async fn a_failure_is_retried_until_it_succeeds() {
    let gone_wrong = vec![Act::Reset, reply("302 Found", "Location: /x\r\n", ""), ok()];
    let receiver = Receiver::start(gone_wrong).await;
    let engine = usual();
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!(row.end, Some(Next::Delivered));
    assert!(row.attempts[0].error.as_deref().unwrap().starts_with("reset: "), "{row:?}");
    assert!(row.attempts[1].error.as_deref().unwrap().contains("redirects are not followed"));
}

#[tokio::test]
async fn a_410_ends_the_delivery_at_once_and_closes_the_callback() {
    let mut receiver = Receiver::start(vec![reply("410 Gone", "", "")]).await;
    let engine = usual();
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!(row.end, Some(Next::Gone));
    assert_eq!(row.attempts[0].verdict, "gone");
    receiver.request().await;
    let outbox = Arc::clone(&engine.outbox);
    engine.stop().await;
    assert_eq!(outbox.closed(), [("ats".to_owned(), receiver.url())]);
    assert_eq!((outbox.row(&id).attempts.len(), receiver.request_now().is_none()), (1, true));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let receiver = Receiver::start(vec![reply("503 Busy", "Retry-After: 1\r\n", ""), ok()]).await;
    let engine = usual();
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    let wait = row.attempts[1].at.since(row.attempts[0].at);
    assert!(wait >= Duration::from_secs(1) && wait < Duration::from_secs(5), "{wait:?}");
}

#[tokio::test]
async fn while_rotating_both_secrets_verify_and_a_reload_counts_from_the_next_attempt() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let engine = usual();
    let (new, old) = ([2; 32], KEY);
    engine.config.send_replace(Arc::new(config(&[new, old], 3)));
    engine.outbox.add("ats", &receiver.url());
    let request = receiver.request().await;
    assert!(request.verifies(&new) && request.verifies(&old));
    engine.config.send_replace(Arc::new(config(&[new], 3)));
    engine.outbox.add("ats", &receiver.url());
    let request = receiver.request().await;
    assert!(request.verifies(&new) && !request.verifies(&old));
}

#[tokio::test]
async fn twenty_hanging_origins_do_not_delay_a_healthy_one() {
    let engine = usual();
    let mut hanging = Vec::new();
    for _ in 0..20 {
        let receiver = Receiver::start(vec![Act::Hang]).await;
        for _ in 0..20 {
            engine.outbox.add("ats", &receiver.url());
        }
        hanging.push(receiver);
    }
    for receiver in &mut hanging {
        receiver.request().await;
    }
    let mut healthy = Receiver::start(vec![ok()]).await;
    let started = Instant::now();
    let ids: Vec<String> = (0..50).map(|_| engine.outbox.add("ats", &healthy.url())).collect();
    for id in &ids {
        engine.outbox.until(id, |row| row.end == Some(Next::Delivered)).await;
        healthy.request().await;
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_busy_origin_seldom_needs_a_new_connection() {
    let receiver = Receiver::start(vec![ok()]).await;
    let engine = usual();
    let ids: Vec<String> = (0..1_000).map(|_| engine.outbox.add("ats", &receiver.url())).collect();
    for id in &ids {
        engine.outbox.until(id, |row| row.end == Some(Next::Delivered)).await;
    }
    assert!(receiver.connections() <= 100, "{} connections", receiver.connections());
}

#[tokio::test]
async fn an_attempt_cut_off_by_shutdown_is_not_counted() {
    let mut receiver = Receiver::start(vec![Act::Hang]).await;
    let engine = Engine::start(config(&[KEY], 3), Duration::from_millis(100));
    let id = engine.outbox.add("ats", &receiver.url());
    receiver.request().await;
    let outbox = Arc::clone(&engine.outbox);
    assert_eq!(engine.stop().await, Drained { cut_off: 1 });
    let row = outbox.row(&id);
    assert_eq!((row.attempts.len(), row.delivery.attempts, row.end), (0, 0, None));
}

#[tokio::test]
async fn shutdown_waits_for_the_attempts_under_way_and_starts_no_more() {
    let slow = Act::Drip(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let mut receiver = Receiver::start(vec![slow]).await;
    let engine = usual();
    let ids: Vec<String> = (0..3).map(|_| engine.outbox.add("ats", &receiver.url())).collect();
    receiver.request().await;
    let outbox = Arc::clone(&engine.outbox);
    assert_eq!(engine.stop().await, Drained { cut_off: 0 });
    assert_eq!(outbox.row(&ids[0]).end, Some(Next::Delivered));
    assert_eq!((outbox.row(&ids[1]).end, outbox.row(&ids[2]).end), (None, None));
    assert!(receiver.request_now().is_none());
}

#[tokio::test]
async fn a_delivery_that_cannot_be_signed_is_put_off_visibly_and_not_counted() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let engine = Engine::start(config(&[], 3), Duration::from_secs(5));
    for (client, says) in [("ats", "no signing secret"), ("stranger", "not configured")] {
        let id = engine.outbox.add(client, &receiver.url());
        let row = engine.outbox.until(&id, |row| row.postponed.is_some()).await;
        let problem = row.postponed.unwrap();
        assert!(problem.contains(client) && problem.contains(says), "{problem}");
        assert_eq!((row.attempts.len(), row.end), (0, None));
    }
    assert!(receiver.request_now().is_none());
}

#[tokio::test]
async fn a_forbidden_callback_is_an_attempt_that_says_why() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let mut strict = config(&[KEY], 0);
    strict.clients[0].callback_allow = Vec::new();
    let engine = Engine::start(strict, Duration::from_secs(5));
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert!(row.attempts[0].error.as_deref().unwrap().starts_with("refused_address: 127.0.0.1"));
    assert_eq!(receiver.connections(), 0);
    assert!(receiver.request_now().is_none());
}

#[tokio::test]
async fn a_receiver_that_is_down_is_seen_to_be_held_and_what_waits_uses_up_no_attempts() {
    let mut slow = config(&[KEY], 1);
    slow.delivery.retry_delays = vec![Duration::from_secs(3_600)];
    let mut receiver = Receiver::start(vec![reply("500 Oops", "", "")]).await;
    let engine = Engine::start(slow, Duration::ZERO);
    let ids: Vec<String> = (0..40).map(|_| engine.outbox.add("ats", &receiver.url())).collect();
    for _ in 0..5 {
        receiver.request().await;
    }
    engine.outbox.until(&ids[4], |row| !row.attempts.is_empty()).await;
    let origins = engine.health.origins().await;
    assert_eq!(origins.len(), 1, "{origins:?}");
    assert_eq!((origins[0].state, origins[0].room), (OriginState::Held, 0));
    assert!(origins[0].held_since.is_some() && origins[0].next_probe_at.is_some());
    // Five have been tried; the others have all their attempts before them.
    let untouched = ids[5..].iter().filter(|id| engine.outbox.row(id).attempts.is_empty());
    assert_eq!(untouched.count(), 35);
    assert!(receiver.request_now().is_none());
}

struct Clumsy;

#[async_trait]
impl Courier for Clumsy {
    async fn send(&self, parcel: Parcel) -> Reply {
        assert!(!parcel.url.path().contains("panic"), "a bug that one callback triggers");
        Reply { status: Some(200), ..Reply::default() }
    }
}

#[tokio::test]
async fn a_bug_that_one_callback_triggers_does_not_stop_the_others() {
    let engine = Engine::with_courier(config(&[KEY], 0), Duration::ZERO, Arc::new(Clumsy));
    let bad = engine.outbox.add("ats", "https://receiver.example/panic");
    let row = engine.outbox.until(&bad, |row| row.end.is_some()).await;
    assert!(row.attempts[0].error.as_deref().unwrap().starts_with("internal: "));
    let good = engine.outbox.add("ats", "https://receiver.example/");
    let row = engine.outbox.until(&good, |row| row.end.is_some()).await;
    assert_eq!(row.end, Some(Next::Delivered));
}

#[tokio::test]
async fn a_ping_is_signed_and_says_what_came_back() {
    let mut receiver = Receiver::start(vec![ok(), reply("401 No", "", "who?")]).await;
    let (courier, clock) = (HttpCourier::new(Vec::new()), SystemClock::new());
    let url: url::Url = receiver.url().parse().unwrap();
    let client = client(&[KEY]);
    let settings = config(&[KEY], 0).delivery;
    let send = || ping::ping(&courier, &clock, &client, url.clone(), &settings);
    let attempt = send().await.unwrap();
    assert_eq!((attempt.verdict.as_str(), attempt.status), ("delivered", Some(200)));
    let request = receiver.request().await;
    assert!(request.verifies(&KEY));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&body["type"], &body["data"]), (&"ping".into(), &serde_json::json!({})));
    let attempt = send().await.unwrap();
    assert_eq!(attempt.verdict, "failed");
    assert_eq!(attempt.error.as_deref(), Some("the receiver answered 401"));
    assert_eq!(attempt.reply_excerpt.as_deref(), Some("who?"));
}
