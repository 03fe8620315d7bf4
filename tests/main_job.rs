//! The main job through the real binary: `outcomed serve` as a process of its own, a Feishu that
//! this test brings along, and receivers that verify with the reference library.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "main_job/bad_inputs.rs"]
mod bad_inputs;
#[path = "main_job/clients.rs"]
mod clients;
#[path = "main_job/daemon.rs"]
mod daemon;
#[path = "main_job/dead_letters.rs"]
mod dead_letters;
#[path = "main_job/deliveries.rs"]
mod deliveries;
#[path = "main_job/demo.rs"]
mod demo;
#[path = "main_job/doors.rs"]
mod doors;
#[path = "main_job/event_door.rs"]
mod event_door;
#[path = "main_job/expected.rs"]
mod expected;
#[path = "main_job/forged_callbacks.rs"]
mod forged_callbacks;
#[path = "main_job/full_disk.rs"]
mod full_disk;
#[path = "main_job/http.rs"]
mod http;
#[path = "main_job/isolation.rs"]
mod isolation;
#[path = "main_job/kills.rs"]
mod kills;
#[path = "main_job/logged.rs"]
mod logged;
#[path = "main_job/outages.rs"]
mod outages;
#[path = "main_job/outcomes.rs"]
mod outcomes;
#[path = "main_job/quotas.rs"]
mod quotas;
#[path = "main_job/readiness.rs"]
mod readiness;
#[path = "main_job/receiver.rs"]
mod receiver;
#[path = "main_job/reloading.rs"]
mod reloading;
#[path = "main_job/restarts.rs"]
mod restarts;
#[path = "main_job/sick_tasks.rs"]
mod sick_tasks;
#[path = "main_job/slow_peers.rs"]
mod slow_peers;
#[path = "main_job/stopping.rs"]
mod stopping;
#[path = "main_job/store_app.rs"]
mod store_app;
#[path = "main_job/suspensions.rs"]
mod suspensions;
#[path = "main_job/syncs.rs"]
mod syncs;
#[path = "main_job/upstream.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod upstream;
