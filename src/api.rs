//! The HTTP API: register, inspect, cancel, send again; `contract` in the documentation is its
//! law, [`openapi`] its description.
//!
//! [`serve`] owns sockets and their limits, [`routes`](openapi::routes) the calls behind them.
//! Handlers hold no state: everything durable is asked of the store.

pub mod accounts;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod cursor;
pub mod duration;
pub mod events;
pub mod gate;
pub mod health;
pub mod ids;
pub mod observe;
pub mod openapi;
pub mod outcomes;
pub mod ping;
pub mod problem;
pub mod query;
pub mod registrations;
pub mod segment;
pub mod server;
pub mod shared;
pub mod validate;
pub mod wait;

pub use events::{EventRefusal, EventReply, EventSink};
pub use ping::{PingError, Pinger};
pub use server::{Drained, Listener, serve};
pub use shared::{ApiState, JudgeCallback, Limits};
