//! One poll, and everything the way to Feishu can do to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outcomed::observability::Metrics;
use outcomed::outcome::{Ids, Outcome};
use outcomed::source::feishu::{Feishu, Tickets};
use outcomed::source::{Observation, PollError, Source, TransientClass};
use tokio::sync::Notify;

use crate::upstream::{Answer, Upstream, json, reply};
use crate::{
    PATIENCE, TestClock, WEBSITE, account, class, http, internal, pending, poll, prepare, source,
};

const TOKEN: &str = r#"{"code":0,"msg":"ok","tenant_access_token":"t-1","expire":7200}"#;
const PENDING: &str = r#"{"code":0,"msg":"success","data":{"status":1}}"#;

/// An upstream whose tokens are in order and that answers every poll so; a source ready to poll.
async fn answering(answer: fn() -> Answer) -> (Upstream, Arc<Feishu>) {
    let upstream = Upstream::start(move |request| async move {
        if request.method == "POST" { json(200, TOKEN) } else { answer() }
    })
    .await;
    let (source, _) = source(&upstream);
    prepare(&source).await.unwrap();
    (upstream, source)
}

#[tokio::test]
async fn a_poll_is_one_get_with_the_token_and_our_name() {
    let (upstream, source) = answering(|| {
        reply(
            200,
            "Content-Type: application/json\r\nX-Tt-Logid: 0217\r\nX-Request-Id: other\r\n",
            include_str!("../fixtures/feishu/duplicate.json"),
        )
    })
    .await;
    let polled = source.observe(WEBSITE, "a/b?c").await.unwrap();
    let outcome = Outcome::failed(
        Ids::default(),
        Some("重复投递".into()),
        Some("6960663240925956657".into()),
    );
    assert_eq!(polled.observation, Observation::Settled(outcome));
    assert_eq!(polled.log_id.as_deref(), Some("0217"));

    let [asked] = &upstream.polls()[..] else { panic!("not one poll") };
    assert_eq!(
        asked.path,
        "/open-apis/hire/v1/websites/7047318856652261676/delivery_tasks/a%2Fb%3Fc"
    );
    assert_eq!(asked.header("authorization"), Some("Bearer t-1"));
    assert!(asked.header("user-agent").unwrap().starts_with("outcomed/"));
    let [token] = &upstream.asked("/auth/v3/tenant_access_token/internal")[..] else {
        panic!("not one token call")
    };
    assert_eq!(token.body, r#"{"app_id":"cli_a","app_secret":"s3cret"}"#);
}

#[tokio::test]
async fn polls_share_one_kept_alive_connection() {
    let (upstream, source) = answering(|| json(200, PENDING)).await;
    for _ in 0..10 {
        assert!(pending(&poll(&source).await));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_poll() {
    let closed = Arc::new(Notify::new());
    let closing = Arc::clone(&closed);
    let upstream = Upstream::start(move |request| {
        let closed = Arc::clone(&closing);
        async move {
            if request.method == "POST" {
                return json(200, TOKEN);
            }
            Answer::Last { body: PENDING.to_owned(), closed }
        }
    })
    .await;
    let (source, _) = source(&upstream);
    prepare(&source).await.unwrap();
    for _ in 0..3 {
        assert!(pending(&poll(&source).await));
        tokio::time::timeout(PATIENCE, closed.notified()).await.expect("it stays open");
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn what_the_edge_sends_is_transient_and_sent_once() {
    let page = || reply(502, "Content-Type: text/html\r\n", "<html>502 Bad Gateway</html>");
    let (upstream, source) = answering(page).await;
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Unreadable));
    assert_eq!(upstream.polls().len(), 1);

    let (_, source) = answering(|| reply(504, "", "")).await;
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Unreadable));
}

#[tokio::test]
async fn a_reset_connection_is_transient_and_the_poll_is_not_repeated() {
    let (upstream, source) = answering(|| Answer::Reset).await;
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Network));
    assert_eq!(upstream.polls().len(), 1, "a repeated poll would not be in the lane's books");
}

#[tokio::test]
async fn a_body_that_stalls_ends_at_the_deadline() {
    let upstream = Upstream::start(|request| async move {
        if request.method == "POST" { json(200, TOKEN) } else { Answer::Stall }
    })
    .await;
    let source = Feishu::new(
        &account(&upstream, internal()),
        http(Duration::from_millis(200)),
        &Tickets::new(),
        Arc::new(TestClock::default()),
        Arc::new(Metrics::default()),
    );
    prepare(&source).await.unwrap();
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Timeout));
}

#[tokio::test]
async fn nobody_listening_is_a_network_error_that_says_so() {
    let upstream = Upstream::start(|_| async { json(200, TOKEN) }).await;
    let mut account = account(&upstream, internal());
    // Nothing listens on this machine's port 1.
    account.base_url = "http://127.0.0.1:1".parse().unwrap();
    let clock = Arc::new(TestClock::default());
    let http = http(Duration::from_secs(5));
    let source = Feishu::new(&account, http, &Tickets::new(), clock, Arc::default());
    let Err(PollError::Transient { class, detail }) = prepare(&source).await else {
        panic!("nobody can answer")
    };
    assert_eq!(class, TransientClass::Network);
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read_to_its_end() {
    let (_, source) = answering(|| {
        json(200, &format!(r#"{{"code":0,"data":{{"status":2}},"x":"{}"}}"#, "x".repeat(70_000)))
    })
    .await;
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Unreadable));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (upstream, source) =
        answering(|| reply(302, "Location: /elsewhere\r\nContent-Type: text/html\r\n", "")).await;
    assert_eq!(class(&poll(&source).await), Some(TransientClass::Unreadable));
    assert!(upstream.asked("/elsewhere").is_empty());
}

#[tokio::test]
async fn a_spent_quota_brings_its_reset_along() {
    let (_, source) = answering(|| {
        reply(
            429,
            "Content-Type: application/json\r\nx-ogw-ratelimit-limit: 1000\r\n\
             x-ogw-ratelimit-reset: 7\r\n",
            include_str!("../fixtures/feishu/quota.json"),
        )
    })
    .await;
    let reset = Some(Duration::from_secs(7));
    assert_eq!(poll(&source).await, Err(PollError::Quota { reset }));
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_undocumented_status_is_warned_of_once() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(log);
    let (_, source) = answering(|| json(200, r#"{"code":0,"data":{"status":7}}"#)).await;
    for _ in 0..3 {
        let polled = poll(&source).await.unwrap();
        assert_eq!(polled.observation, Observation::Pending { unknown_status: Some(7) });
    }
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    assert!(!text.contains("t-1") && !text.contains("s3cret"), "{text}");
}
