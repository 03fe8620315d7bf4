//! The HTTP API: register, inspect, cancel, send again.
//!
//! [`server`] owns the sockets and their limits, [`openapi`] the list of routes and the description
//! made from it, [`problem`] every error. Handlers keep nothing: everything durable is asked of the
//! store, and [`ApiState`] names all that the API is given.

pub mod accounts;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod bulk;
pub mod cursor;
pub mod duration;
pub mod events;
pub mod fleet;
pub mod gate;
pub mod health;
pub mod json;
pub mod keys;
pub mod observe;
pub mod openapi;
pub mod origins;
pub mod outcomes;
pub mod ping;
pub mod problem;
pub mod query;
pub mod redeliveries;
pub mod registrations;
pub mod rewatches;
pub mod segment;
pub mod server;
pub mod shared;
pub mod validate;
pub mod wait;
pub mod watch;

pub use events::{EventRefusal, EventReply, EventSink};
pub use ping::{PingError, Pinger};
pub use server::{Door, Drained, Listener, serve};
pub use shared::{ApiState, JudgeCallback, Limits};
