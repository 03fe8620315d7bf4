//! The token of a self-built app: fetched once, renewed in time, dropped when it is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outcomed::source::{PollError, Source};
use tokio::sync::{Barrier, Semaphore};

use crate::upstream::{Answer, Request, Upstream, json, reply};
use crate::{PATIENCE, pending, poll, prepare, problem, source};

const PENDING: &str = r#"{"code":0,"msg":"success","data":{"status":1}}"#;
const REFUSED: &str = include_str!("../fixtures/feishu/token_invalid.json");
const CALLS: &str = "/tenant_access_token/internal";

fn token(value: &str) -> Answer {
    json(200, &format!(r#"{{"code":0,"msg":"ok","tenant_access_token":"{value}","expire":7200}}"#))
}

/// Answers as Feishu does while `valid` is its only valid token.
fn feishu(request: &Request, valid: &str) -> Answer {
    if request.method == "POST" {
        return token(valid);
    }
    let bearer = request.header("authorization").unwrap();
    if bearer == format!("Bearer {valid}") { json(200, PENDING) } else { json(400, REFUSED) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_polls_refused_with_one_dead_token_cost_one_token_call() {
    const POLLS: usize = 50;
    let valid = Arc::new(Mutex::new("t-1"));
    let all_refused = Arc::new(Barrier::new(POLLS));
    let (valid_now, refusals) = (Arc::clone(&valid), Arc::clone(&all_refused));
    let upstream = Upstream::start(move |request| {
        let valid = *valid_now.lock().unwrap();
        let answer = feishu(&request, valid);
        let refusals = Arc::clone(&refusals);
        async move {
            if matches!(answer, Answer::Reply { status: 400, .. }) {
                refusals.wait().await;
            }
            answer
        }
    })
    .await;
    let (source, _) = source(&upstream);
    prepare(&source).await.unwrap();
    *valid.lock().unwrap() = "t-2";

    let polls = (0..POLLS).map(|_| {
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            assert_eq!(poll(&source).await, Err(PollError::Token));
            prepare(&source).await.unwrap();
            assert!(pending(&poll(&source).await));
        })
    });
    for task in polls.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(upstream.asked(CALLS).len(), 2, "the first one, and one more");
    assert_eq!(upstream.polls().len(), 2 * POLLS);
}

#[tokio::test]
async fn a_token_that_feishu_refuses_and_issues_again_makes_no_loop() {
    let upstream = Upstream::start(|request| async move {
        if request.method == "POST" { token("t-1") } else { json(200, REFUSED) }
    })
    .await;
    let (source, _) = source(&upstream);
    prepare(&source).await.unwrap();
    assert_eq!(poll(&source).await, Err(PollError::Token));
    assert_eq!(poll(&source).await, Err(PollError::Token), "dropped: nothing is sent without one");
    prepare(&source).await.unwrap();
    assert_eq!(poll(&source).await, Err(PollError::Token));
    assert_eq!((upstream.asked(CALLS).len(), upstream.polls().len()), (2, 2));
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_while_polls_go_on() {
    let may_issue = Arc::new(Semaphore::new(1));
    let issued = Arc::new(AtomicUsize::new(0));
    let permits = Arc::clone(&may_issue);
    let upstream = Upstream::start(move |request| {
        let (permits, issued) = (Arc::clone(&permits), Arc::clone(&issued));
        async move {
            if request.method == "GET" {
                return json(200, PENDING);
            }
            permits.acquire().await.unwrap().forget();
            token(&format!("t-{}", 1 + issued.fetch_add(1, Ordering::SeqCst)))
        }
    })
    .await;
    let (source, clock) = source(&upstream);
    prepare(&source).await.unwrap();
    clock.advance(Duration::from_secs(97 * 60));
    // The renewal hangs; nobody notices.
    for _ in 0..20 {
        prepare(&source).await.unwrap();
        assert!(pending(&poll(&source).await));
    }
    let bearer = |request: &Request| request.header("authorization").unwrap().to_owned();
    assert!(upstream.polls().iter().all(|request| bearer(request) == "Bearer t-1"));
    may_issue.add_permits(1);
    let renewed = async {
        while upstream.polls().last().is_none_or(|last| bearer(last) != "Bearer t-2") {
            assert!(pending(&poll(&source).await));
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("the new token is never used");
    assert_eq!(upstream.asked(CALLS).len(), 2);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_until_its_end() {
    let renewing = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start(move |request| {
        let refuse = request.method == "POST" && renewing.swap(true, Ordering::SeqCst);
        async move {
            if refuse {
                return json(200, r#"{"code":10014,"msg":"app secret invalid"}"#);
            }
            feishu(&request, "t-1")
        }
    })
    .await;
    let (source, clock) = source(&upstream);
    prepare(&source).await.unwrap();
    clock.advance(Duration::from_secs(97 * 60));
    for _ in 0..5 {
        prepare(&source).await.unwrap();
        assert!(pending(&poll(&source).await));
    }
    clock.advance(Duration::from_secs(23 * 60));
    assert_eq!(problem(prepare(&source).await).0, "bad_credentials");
    assert!(upstream.asked(CALLS).len() <= 3, "renewals are spaced, however many polls there are");
}

#[tokio::test]
async fn an_expired_token_is_not_sent() {
    let upstream = Upstream::start(|request| async move { feishu(&request, "t-1") }).await;
    let (source, clock) = source(&upstream);
    prepare(&source).await.unwrap();
    clock.advance(Duration::from_secs(7_200));
    assert_eq!(poll(&source).await, Err(PollError::Token));
    assert!(upstream.polls().is_empty());
    prepare(&source).await.unwrap();
    assert!(pending(&poll(&source).await));
    assert_eq!(upstream.asked(CALLS).len(), 2);
}

#[tokio::test]
async fn whoever_gives_up_waiting_for_a_token_leaves_it_to_the_next() {
    let may_issue = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&may_issue);
    let upstream = Upstream::start(move |request| {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.unwrap().forget();
            feishu(&request, "t-1")
        }
    })
    .await;
    let (source, _) = source(&upstream);
    let short = tokio::time::timeout(Duration::from_millis(50), source.prepare());
    assert!(short.await.is_err(), "the token call hangs");
    may_issue.add_permits(1);
    prepare(&source).await.unwrap();
    assert_eq!(upstream.asked(CALLS).len(), 1);
}

#[tokio::test]
async fn a_token_call_that_fails_for_a_moment_is_tried_again_within_the_same_prepare() {
    let failed = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::start(move |request| {
        let first = !failed.swap(true, Ordering::SeqCst);
        async move {
            if first {
                reply(502, "Content-Type: text/html\r\n", "<html>")
            } else {
                feishu(&request, "t-1")
            }
        }
    })
    .await;
    let (source, _) = source(&upstream);
    prepare(&source).await.unwrap();
    assert_eq!(upstream.asked(CALLS).len(), 2);
}

#[tokio::test]
async fn a_token_call_that_keeps_failing_is_given_up_after_a_few_tries_and_shared_by_all() {
    let upstream =
        Upstream::start(|_| async { json(200, r#"{"code":2200,"msg":"internal error"}"#) }).await;
    let (source, _) = source(&upstream);
    let (one, other) = tokio::join!(prepare(&source), prepare(&source));
    assert!(matches!(&one, Err(PollError::Transient { .. })), "{one:?}");
    assert_eq!(one, other);
    assert_eq!(upstream.asked(CALLS).len(), 3);
}

#[tokio::test]
async fn a_wrong_secret_is_told_with_the_setting_to_correct_and_not_tried_again() {
    let upstream =
        Upstream::start(|_| async { json(200, r#"{"code":10014,"msg":"app secret invalid"}"#) })
            .await;
    let (source, _) = source(&upstream);
    let (reason, message) = problem(source.check_token().await);
    assert_eq!(reason, "bad_credentials");
    assert!(message.contains("correct the account's `app_secret`"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    assert_eq!(upstream.asked(CALLS).len(), 1);
}

#[tokio::test]
async fn a_wrong_base_url_is_told_with_the_hosts_to_choose_from() {
    let upstream = Upstream::start(|_| async {
        reply(404, "Content-Type: text/plain; charset=utf-8\r\n", "404 page not found")
    })
    .await;
    let (source, _) = source(&upstream);
    let (reason, message) = problem(prepare(&source).await);
    assert_eq!(reason, "wrong_base_url");
    assert!(message.contains("https://open.feishu.cn"), "{message}");
}
