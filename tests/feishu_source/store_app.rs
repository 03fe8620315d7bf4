//! A store app, end to end: resend, event, app token, tenant tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use outcomed::clock::Timestamp;
use outcomed::config::Credentials;
use outcomed::config::secret::Secret;
use outcomed::observability::Metrics;
use outcomed::source::PollError;
use outcomed::source::feishu::ticket::{Event, EventHeaders, Keys, handle_event};
use outcomed::source::feishu::{Feishu, Tickets};

use crate::upstream::{Answer, Request, Upstream, json};
use crate::{TestClock, account, http, pending, poll, prepare, problem};

const APP: &str = "cli_9c8609450f78d102";
const OK: &str = r#"{"code":0,"msg":"ok"}"#;

/// What Feishu pushes to the event URL, taken as the API takes it.
fn push(tickets: &Tickets, ticket: &str) {
    let event = include_str!("../fixtures/feishu/event_ticket.json");
    let event = event.replace("t-secret-ticket", ticket);
    let token = Secret::new("v-token");
    let keys = Keys { verification_token: &token, encrypt_key: None };
    let now = Timestamp(1_700_000_000_717);
    let read = handle_event(event.as_bytes(), EventHeaders::default(), keys, now).unwrap();
    let Event::Ticket { app_id, ticket, at, .. } = read else { panic!("not a ticket") };
    assert!(tickets.offer(&app_id, ticket, at));
}

fn tenant(upstream: &Upstream, key: &str, tickets: &Tickets, clock: &Arc<TestClock>) -> Feishu {
    let credentials = Credentials::Store {
        app_id: APP.into(),
        app_secret: Secret::new("s3cret"),
        tenant_key: key.into(),
        verification_token: Secret::new("v-token"),
        encrypt_key: None,
    };
    let account = account(upstream, credentials);
    let metrics = Arc::new(Metrics::default());
    Feishu::new(&account, http(Duration::from_secs(5)), tickets, clock.clone(), metrics)
}

/// Feishu, for a store app whose good ticket is `ticket`.
fn feishu(request: &Request, ticket: &str) -> Answer {
    let of = |key: &str| request.field(key).unwrap();
    match (request.method.as_str(), request.last()) {
        ("POST", "resend") => json(200, OK),
        ("POST", "app_access_token") if of("app_ticket") == ticket => {
            json(200, r#"{"code":0,"msg":"ok","app_access_token":"a-1","expire":7140}"#)
        }
        ("POST", "app_access_token") => json(200, r#"{"code":10012,"msg":"app_ticket invalid"}"#),
        ("POST", "tenant_access_token") if of("app_access_token") == "a-1" => {
            let token = format!("t-{}", of("tenant_key"));
            let body = format!(r#"{{"code":0,"tenant_access_token":"{token}","expire":7140}}"#);
            json(200, &body)
        }
        ("GET", _) => json(200, r#"{"code":0,"data":{}}"#),
        (method, last) => panic!("{method} {last}: {}", request.body),
    }
}

#[tokio::test]
async fn two_tenants_share_the_ticket_that_feishu_pushes_when_asked() {
    let tickets = Arc::new(Tickets::new());
    let pushed_to = Arc::clone(&tickets);
    let upstream = Upstream::start(move |request| {
        if request.last() == "resend" {
            push(&pushed_to, "ticket-1");
        }
        let answer = feishu(&request, "ticket-1");
        async move { answer }
    })
    .await;
    let clock = Arc::new(TestClock::default());
    let one = tenant(&upstream, "tenant-1", &tickets, &clock);
    let two = tenant(&upstream, "tenant-2", &tickets, &clock);
    let (first, second) = tokio::join!(prepare(&one), prepare(&two));
    first.unwrap();
    second.unwrap();
    assert!(pending(&poll(&one).await) && pending(&poll(&two).await));

    let count = |path: &str| upstream.asked(path).len();
    assert_eq!((count("/app_ticket/resend"), count("/auth/v3/app_access_token")), (1, 1));
    assert_eq!(count("/auth/v3/tenant_access_token"), 2);
    let bearers: Vec<_> = upstream
        .polls()
        .iter()
        .map(|poll| poll.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(bearers, [Some("Bearer t-tenant-1".into()), Some("Bearer t-tenant-2".into())]);
    let resend = &upstream.asked("/app_ticket/resend")[0];
    assert_eq!(resend.field("app_id").as_deref(), Some(APP));
}

#[tokio::test]
async fn without_a_ticket_the_account_says_which_event_url_to_set_and_asks_once_a_minute() {
    let clock = Arc::new(TestClock::default());
    let moved = Arc::clone(&clock);
    let upstream = Upstream::start(move |request| {
        // The wait for the ticket is over before it begins.
        moved.advance(Duration::from_secs(10));
        async move { feishu(&request, "ticket-1") }
    })
    .await;
    let tickets = Tickets::new();
    let source = tenant(&upstream, "tenant-1", &tickets, &clock);
    for _ in 0..2 {
        let (reason, message) = problem(prepare(&source).await);
        assert_eq!(reason, "no_app_ticket");
        assert!(message.contains(&format!("/v1/feishu/events/{APP}")), "{message}");
    }
    assert_eq!(upstream.asked("resend").len(), 1);
    clock.advance(Duration::from_secs(60));
    problem(prepare(&source).await);
    assert_eq!(upstream.asked("resend").len(), 2);

    push(&tickets, "ticket-1");
    prepare(&source).await.unwrap();
    assert!(pending(&poll(&source).await));
}

#[tokio::test]
async fn a_ticket_that_is_no_longer_good_is_replaced_by_the_one_asked_for() {
    let tickets = Arc::new(Tickets::new());
    let pushed_to = Arc::clone(&tickets);
    let upstream = Upstream::start(move |request| {
        if request.last() == "resend" {
            push(&pushed_to, "ticket-2");
        }
        let answer = feishu(&request, "ticket-2");
        async move { answer }
    })
    .await;
    let source = tenant(&upstream, "tenant-1", &tickets, &Arc::new(TestClock::default()));
    push(&tickets, "ticket-1");
    prepare(&source).await.unwrap();
    assert_eq!(upstream.asked("resend").len(), 1);
    assert_eq!(upstream.asked("app_access_token").len(), 2);
}

#[tokio::test]
async fn an_app_token_that_is_refused_is_fetched_anew() {
    let refused = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start(move |request| {
        let refuse =
            request.last() == "tenant_access_token" && !refused.swap(true, Ordering::SeqCst);
        let answer = if refuse {
            json(200, r#"{"code":99991664,"msg":"app access token invalid"}"#)
        } else {
            feishu(&request, "ticket-1")
        };
        async move { answer }
    })
    .await;
    let tickets = Tickets::new();
    let source = tenant(&upstream, "tenant-1", &tickets, &Arc::new(TestClock::default()));
    push(&tickets, "ticket-1");
    prepare(&source).await.unwrap();
    assert_eq!(upstream.asked("/auth/v3/app_access_token").len(), 2);
}

#[tokio::test]
async fn a_failed_resend_does_not_count_as_asked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start(move |request| {
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = json(200, r#"{"code":5000,"msg":"internal error"}"#);
        async move {
            assert_eq!(request.last(), "resend");
            answer
        }
    })
    .await;
    let tickets = Tickets::new();
    let source = tenant(&upstream, "tenant-1", &tickets, &Arc::new(TestClock::default()));
    assert!(matches!(prepare(&source).await, Err(PollError::Transient { .. })));
    assert_eq!(upstream.asked("resend").len(), 3, "tried again as any call");
}
