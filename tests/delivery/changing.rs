//! What changes while attempts are under way: their row, the settings, who is to make the next one.

use std::sync::Arc;
use std::time::Duration;

use outcomed::clock::{Clock, SystemClock};
use outcomed::delivery::Drained;
use outcomed::store::Next;

use crate::receiver::{Act, Receiver, ok, reply};
use crate::running::{Engine, KEY, config};

const LONG: Duration = Duration::from_secs(3_600);

/// A failure that takes about a second to say.
fn slow() -> Act {
    let head = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n";
    Act::Drip(format!("{head}Server: slow\r\n\r\n").into_bytes())
}

#[tokio::test]
async fn a_wait_counts_from_the_answer() {
    let receiver = Receiver::start(vec![slow(), ok()]).await;
    let mut settings = config(&[KEY], 0);
    settings.delivery.retry_delays = vec![Duration::from_secs(1)];
    let engine = Engine::start(settings, Duration::ZERO);
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    let first = &row.attempts[0];
    assert!(first.duration > Duration::from_millis(900), "{first:?}");
    let answered = first.at.after(first.duration);
    let wait = row.attempts[1].at.since(answered);
    assert!(wait >= Duration::from_millis(990), "{wait:?} after the answer");
}

#[tokio::test]
async fn what_was_made_due_again_while_its_attempt_was_under_way_is_attempted_soon() {
    let oops = reply("500 Oops", "", "");
    let mut receiver = Receiver::start(vec![ok(), ok(), oops, slow(), ok()]).await;
    let mut settings = config(&[KEY], 0);
    settings.delivery.retry_delays = vec![Duration::from_millis(50), LONG];
    let engine = Engine::start(settings, Duration::ZERO);
    // It is known to be well: more than one attempt may be under way.
    for _ in 0..2 {
        let id = engine.outbox.add("ats", &receiver.url());
        engine.outbox.until(&id, |row| row.end.is_some()).await;
    }
    let id = engine.outbox.add("ats", &receiver.url());
    for _ in 0..4 {
        receiver.request().await;
    }
    engine.outbox.again(&id);
    // Whoever was told of it found the attempt that is still under way.
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(Next::Delivered), 3));
}

#[tokio::test]
async fn a_limit_that_a_reload_raises_holds_for_what_waits_already() {
    let acts = [ok(), ok(), ok(), ok()].into_iter().chain([Act::Hang]).collect();
    let mut receiver = Receiver::start(acts).await;
    let mut settings = config(&[KEY], 3);
    settings.delivery.concurrency_per_host = 1;
    let engine = Engine::start(settings.clone(), Duration::ZERO);
    for _ in 0..4 {
        let id = engine.outbox.add("ats", &receiver.url());
        engine.outbox.until(&id, |row| row.end.is_some()).await;
        receiver.request().await;
    }
    (0..4).for_each(|_| drop(engine.outbox.add("ats", &receiver.url())));
    receiver.request().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(receiver.request_now().is_none(), "one at a time");
    settings.delivery.concurrency_per_host = 4;
    engine.config.send_replace(Arc::new(settings));
    let more = async {
        for _ in 0..3 {
            receiver.request().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), more).await.expect("the new limit holds");
}

#[tokio::test]
async fn what_was_put_off_for_a_lanes_next_owner_is_due_once_it_is_cut_off() {
    let mut receiver = Receiver::start(vec![Act::Hang]).await;
    let engine = Engine::start(config(&[KEY], 3), Duration::from_millis(100));
    let id = engine.outbox.add("ats", &receiver.url());
    receiver.request().await;
    engine.handover.give_up(1).await;
    let put_off = engine.outbox.row(&id).delivery.due_at;
    assert!(put_off > SystemClock::new().wall().after(Duration::from_secs(10)), "it goes on here");
    let outbox = Arc::clone(&engine.outbox);
    assert_eq!(engine.stop().await, Drained { cut_off: 1 });
    assert!(outbox.row(&id).delivery.due_at <= SystemClock::new().wall(), "nobody is at it");
}

#[tokio::test]
async fn a_reply_is_not_lost_because_the_store_is_busy() {
    let mut receiver = Receiver::start(vec![ok()]).await;
    let engine = Engine::start(config(&[KEY], 3), Duration::ZERO);
    engine.outbox.fail_writes(3);
    let id = engine.outbox.add("ats", &receiver.url());
    let row = engine.outbox.until(&id, |row| row.end.is_some()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(Next::Delivered), 1));
    receiver.request().await;
    assert!(receiver.request_now().is_none(), "it is recorded again, not sent again");
}

#[tokio::test]
async fn what_became_due_is_sent_soon_although_its_hint_was_lost_among_many() {
    let (mut one, many) = (Receiver::start(vec![ok()]).await, Receiver::start(vec![ok()]).await);
    let engine = Engine::start(config(&[KEY], 3), Duration::ZERO);
    // It has looked once for everything.
    let before = engine.outbox.add("ats", &many.url());
    engine.outbox.until(&before, |row| row.end.is_some()).await;
    engine.outbox.add("ats", &one.url());
    (0..200).for_each(|_| drop(engine.outbox.add("ats", &many.url())));
    tokio::time::timeout(Duration::from_secs(10), one.request()).await.expect("it is found");
}
