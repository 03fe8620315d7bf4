//! Several daemons on one Postgres: the real binary, a real database, a stand-in upstream with the
//! quota's windows judged exactly, and faults.
//!
//! `FLEET_MINUTES=10 FLEET_LANES=100 FLEET_STOP=120 cargo test --release --test fleet nemesis` is
//! the long way; `make test` goes the short one. `FLEET_SCALING=8 … --test fleet scaling` measures
//! for longer.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::print_stderr, reason = "what a run has measured is its report")]

#[path = "main_job/daemon.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod daemon;
#[path = "main_job/http.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod http;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod postgres_cluster;
#[path = "main_job/receiver.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod receiver;
#[path = "main_job/upstream.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod upstream;

#[path = "fleet/answers.rs"]
mod answers;
#[path = "fleet/clients.rs"]
mod clients;
#[path = "fleet/database.rs"]
mod database;
#[path = "fleet/handovers.rs"]
mod handovers;
#[path = "fleet/incidents.rs"]
mod incidents;
#[path = "fleet/nemesis.rs"]
mod nemesis;
#[path = "fleet/network.rs"]
mod network;
#[path = "fleet/scaling.rs"]
mod scaling;
#[path = "fleet/stage.rs"]
mod stage;
#[path = "fleet/takeovers.rs"]
mod takeovers;
