//! The quota, judged by a stand-in that enforces both windows exactly.

use std::time::Duration;

use crate::daemon::{Stage, wanted};
use crate::upstream::{pending, success};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_tasks_at_once_never_meet_a_429() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..300 {
        upstream.script_after(Duration::from_secs(10), &format!("b{number}"), [success()]);
    }
    let daemon = stage.home.start().await;
    let bodies = (0..300).map(|n| wanted(&format!("b{n}"), &receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    receiver.distinct(300).await;
    // Together more than a minute's quota could look at twice.
    let bodies = (300..900).map(|n| {
        upstream.script(&format!("b{n}"), [pending()]);
        wanted(&format!("b{n}"), &receiver.url("/"))
    });
    daemon.register_all(bodies.collect()).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    upstream.assert_polite();
    let (second, minute) = (upstream.most_in_any(SECOND), upstream.most_in_any(MINUTE));
    // At least one poll a task that was told; in a burst the plan saves the rest for later.
    assert!((1..=50).contains(&second), "{second} polls in the fullest second");
    assert!((300..=1000).contains(&minute), "{minute} polls in the fullest minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_restarts_do_not_stretch_the_quota() {
    let stage = Stage::new().await;
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    for number in 0..300 {
        upstream.script(&format!("k{number}"), [pending()]);
    }
    let daemon = stage.home.start().await;
    let bodies = (0..300).map(|n| wanted(&format!("k{n}"), &receiver.url("/"))).collect();
    daemon.register_all(bodies).await;
    let mut daemon = daemon;
    // Odd lives: a crash loop, and some that last.
    for life in [700, 200, 50, 50, 50, 1_500, 2_500, 50, 900, 4_000] {
        tokio::time::sleep(Duration::from_millis(life)).await;
        daemon.kill().await;
        daemon = stage.home.start().await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    upstream.assert_polite();
    let (second, minute) = (upstream.most_in_any(SECOND), upstream.most_in_any(MINUTE));
    // The lower bounds only show that it polls at all: on a slow machine lives are mostly starts.
    assert!((10..=50).contains(&second), "{second} polls in the fullest second");
    assert!((20..=1000).contains(&minute), "{minute} polls in the fullest minute");
}
