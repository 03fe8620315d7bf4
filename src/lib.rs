//! outcomed watches Feishu delivery tasks at the limit of the polling quota and tells each
//! registered callback, once it is durable, how its task ended.
//!
//! The modules below stand in the order in which the data flows; `ARCHITECTURE.md` is the map.

// Not in Cargo.toml, because tests do fail by unwrapping.
#![warn(clippy::unwrap_used)]

// The nouns, and the values everything else is made of.
pub mod clock;
pub mod config;
pub mod ids;
pub mod outcome;
pub mod task;
pub mod watching;

// In: clients register.
pub mod api;

// Between: everything durable.
pub mod store;

// Polling: the quota, the plan, the upstream.
pub mod polling;
pub mod source;

// Out: callbacks.
pub mod delivery;

// Around it.
pub mod app;
pub mod cli;
pub mod mock_feishu;
pub mod observability;
pub mod receiver;
pub mod replay;
pub mod resolver;
pub mod service;
mod small_server;
