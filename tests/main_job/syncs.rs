//! What is on the disk when, seen from the kernel: `strace` counts the syncs, and kills at each.

use std::path::Path;

use crate::daemon::{Home, Stage, wanted};

const SYNCS: &str = "fsync,fdatasync";

/// What starts the daemon under `strace`, which writes every sync to this file. It ends with it.
fn traced(log: &Path, inject: &str) -> Vec<String> {
    let trace = format!("trace={SYNCS}");
    let log = log.display().to_string();
    let mut line = vec!["strace", "-f", "-qq", "-e", &trace, "-o", &log];
    if !inject.is_empty() {
        line.extend(["-e", inject]);
    }
    line.extend(["setpriv", "--pdeathsig", "KILL"]);
    line.into_iter().map(str::to_owned).collect()
}

fn syncs(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains("sync(")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registration_is_synced_before_it_is_acknowledged() {
    let mut stage = Stage::new().await;
    let log = stage.home.path("syncs");
    stage.home.started_by = traced(&log, "");
    let daemon = stage.home.start().await;
    for number in 0..20 {
        let before = syncs(&log);
        daemon.register(&wanted(&format!("s{number}"), &stage.receiver.url("/"))).await;
        assert!(syncs(&log) > before, "registration {number} may be lost to a power cut");
    }
    daemon.signal("TERM");
}

/// A daemon that is killed as it returns from its nth sync, the first time it starts.
async fn killed_at(home: &mut Home, nth: usize) {
    home.store = home.path(&format!("killed-{nth}.db"));
    let log = home.path("killed");
    home.started_by = traced(&log, &format!("inject={SYNCS}:signal=KILL:when={nth}"));
    home.fail_to_start().await;
    home.started_by.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_killed_anywhere_is_followed_by_one_that_works() {
    let mut stage = Stage::new().await;
    let log = stage.home.path("syncs");
    stage.home.started_by = traced(&log, "");
    let daemon = stage.home.start().await;
    let all = syncs(&log);
    daemon.signal("TERM");
    assert!(all >= 2, "{all} syncs: nothing was traced");
    // The last few may come after "ready", and then nothing is to be seen of the kill.
    for nth in 1..all {
        killed_at(&mut stage.home, nth).await;
        let daemon = stage.home.start().await;
        let registered = daemon.register(&wanted("a", &stage.receiver.url("/"))).await;
        assert_eq!(registered["state"], "watching");
        daemon.kill().await;
    }
}
