//! What must not be in the log, however much is logged.

use std::time::Duration;

use crate::daemon::{SECRET, Stage, wanted};
use crate::http::reply;
use crate::receiver::Receiver;
use crate::upstream::success;

/// A callback's query may hold a secret of the receiver's.
#[tokio::test(flavor = "multi_thread")]
async fn no_callbacks_query_is_logged_whatever_becomes_of_it() {
    let mut stage = Stage::new().await;
    stage.home.started_by = ["env", "OUTCOMED_LOG__LEVEL=trace"].map(str::to_owned).to_vec();
    stage.receiver =
        Receiver::behaving(&[SECRET], |callback| match callback.request.target.as_str() {
            path if path.starts_with("/gone") => reply(410, &[], ""),
            path if path.starts_with("/moved") => reply(302, &[("location", "/?key=s3same")], ""),
            path if path.starts_with("/down") => reply(500, &[], "down"),
            _ => reply(200, &[], "ok"),
        })
        .await;
    let daemon = stage.home.start().await;
    let mut told = Vec::new();
    for (number, path) in ["/ok", "/gone", "/moved", "/down"].into_iter().enumerate() {
        let task = format!("q{number}");
        stage.upstream.script(&task, [success()]);
        let url = stage.receiver.url(&format!("{path}?key=s3same"));
        told.push(daemon.register(&wanted(&task, &url)).await);
    }
    for url in ["http://127.0.0.1:9/refused?key=s3same", "https://127.0.0.1:9/tls?key=s3same"] {
        let task = format!("q{}", told.len());
        stage.upstream.script(&task, [success()]);
        told.push(daemon.register(&wanted(&task, url)).await);
    }
    let end = |number: usize| if number == 0 { "delivered" } else { "undeliverable" };
    for (number, registered) in told.iter().enumerate() {
        daemon.until_state(registered["id"].as_str().unwrap(), end(number)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = daemon.log();
    assert!(log.contains("\"level\":\"debug\""), "{log}");
    let says = log.lines().find(|line| line.contains("s3same"));
    assert_eq!(says, None);
}
