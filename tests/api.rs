//! The HTTP API, driven over real sockets.
#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "api/changing.rs"]
mod changing;
#[path = "api/cli.rs"]
mod cli;
#[path = "api/draining.rs"]
mod draining;
#[path = "api/harness.rs"]
mod harness;
#[path = "api/keys.rs"]
mod keys;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/memory_store.rs"]
mod memory_store;
#[path = "api/operating.rs"]
mod operating;
#[path = "api/reading.rs"]
mod reading;
#[path = "api/redelivering.rs"]
mod redelivering;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/registering.rs"]
mod registering;
#[path = "api/rewatching.rs"]
mod rewatching;
#[path = "api/rows.rs"]
mod rows;
#[path = "api/shares.rs"]
mod shares;
#[path = "api/waiting.rs"]
mod waiting;
