//! A disk that is full: no promise that cannot be kept, and nothing that was learned is lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::daemon::{ATS, Daemon, SECRET, Stage, until, wanted};
use crate::http::{Answer, reply};
use crate::receiver::{Receiver, silence};
use crate::upstream::success;

/// A disk of 2 MiB. Mounting takes root, as `make test` does anyway.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(dir.path())
            .status();
        let mounted = mounted.is_ok_and(|status| status.success());
        assert!(
            mounted,
            "no small disk could be mounted: run the tests as root, as README.md says"
        );
        Self(dir)
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut filler =
            std::fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [65_536, 4_096, 512, 1] {
            while filler.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Registers until the disk is full; the tasks that were acknowledged.
async fn register_until_full(daemon: &Daemon, url: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..2_000 {
        let task = format!("x{number}");
        let mut body = wanted(&task, url);
        body["metadata"] = json!({"x": "y".repeat(4_000)});
        let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body.to_string())).await;
        if answer.status == 201 {
            acknowledged.push(task);
            continue;
        }
        answer.problem(503);
        let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{answer:?}");
        return acknowledged;
    }
    panic!("2,000 registrations of 4 KiB fit into a full disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_registrations_and_loses_nothing_it_has_or_learns() {
    let disk = SmallDisk::mount();
    let full = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&full);
    let mut stage = Stage::new().await;
    // The first one is answered only when the disk is full: what was heard must not be forgotten.
    stage.receiver = Receiver::behaving(&[SECRET], move |callback| {
        let first = callback.task() == "held" && !seen.load(Ordering::SeqCst);
        let wait = Duration::from_millis(if first { 4_000 } else { 0 });
        Answer::After(wait, Box::new(reply(204, &[], "")))
    })
    .await;
    stage.home.store = disk.path().join("outcomed.db");
    stage.home.delivery = "timeout = \"10s\"\nretry_delays = [\"300ms\", \"300ms\"]".into();
    let (upstream, receiver) = (&stage.upstream, &stage.receiver);
    upstream.script("held", [success()]);
    let daemon = stage.home.start().await;
    let held = daemon.register(&wanted("held", &receiver.url("/"))).await;
    receiver.distinct(1).await;
    disk.fill();
    let tasks = register_until_full(&daemon, &receiver.url("/")).await;
    full.store(true, Ordering::SeqCst);
    for task in &tasks {
        upstream.script(task, [success()]);
    }
    // They end while nothing can be written; the held one is answered meanwhile.
    let not_ready = async || {
        let ready = daemon.call("GET", "/readyz", "", None).await;
        (ready.status == 503).then_some(ready)
    };
    until("unready", not_ready, || daemon.log()).await.problem(503);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let body = wanted("late", &receiver.url("/")).to_string();
    let refused = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
    assert!([201, 503].contains(&refused.status), "{refused:?}");
    assert_eq!(daemon.get("/v1/registrations?limit=1").await["items"].as_array().unwrap().len(), 1);

    disk.free();
    upstream.script("late", [success()]);
    let again = async || {
        let answer = daemon.call("POST", "/v1/registrations", ATS, Some(&body)).await;
        [200, 201].contains(&answer.status).then_some(())
    };
    until("registering again", again, || daemon.log()).await;
    receiver.distinct(tasks.len() + 2).await;
    daemon.until_state(held["id"].as_str().unwrap(), "delivered").await;
    silence().await;
    assert_eq!(receiver.so_far().len(), tasks.len() + 2, "something was told twice");
    upstream.assert_polite();
    assert_eq!(daemon.call("GET", "/readyz", "", None).await.status, 200);
}
