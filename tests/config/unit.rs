//! The unit's limits and the daemon's fit each other.

use outcomed::api::Limits;
use outcomed::cli::{BLOCKING_MAX, WORKERS_MAX};
use outcomed::resolver::{CALLBACK_THREADS_MAX, UPSTREAM_THREADS_MAX};

/// The embedded store's writer and three readers, and the main thread.
const STORE_AND_MAIN: usize = 5;

fn limit(key: &str) -> usize {
    let unit = include_str!("../../systemd/outcomed.service");
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
    line.parse().unwrap()
}

#[test]
fn all_threads_together_are_well_below_the_units_limit() {
    let lookups = CALLBACK_THREADS_MAX + UPSTREAM_THREADS_MAX;
    let threads = WORKERS_MAX + BLOCKING_MAX + lookups + STORE_AND_MAIN;
    assert!(threads * 5 <= limit("TasksMax") * 4, "{threads} threads");
}

#[test]
fn a_stop_is_over_before_systemd_kills() {
    let most = outcomed::delivery::DRAIN_MAX.max(Limits::default().drain_time_max).as_secs();
    let limit = limit("TimeoutStopSec") as u64;
    assert!(most + 5 <= limit, "{most} s of draining, and what follows it, in {limit} s");
}

#[test]
fn all_sockets_together_are_well_below_the_units_limit() {
    let api = Limits::default();
    // Connections over the limit that are told so; and callbacks, polls and the database have at
    // most some thousands in all.
    let sockets = api.connections_max + 64 + api.waiters_max + 16_384;
    assert!(sockets * 2 <= limit("LimitNOFILE"), "{sockets} sockets");
    assert!(api.waiters_max * 2 <= api.connections_max);
    assert!(api.requests_per_client_max * 2 <= api.connections_max);
    assert!(api.events_max * 8 <= api.connections_max);
}
