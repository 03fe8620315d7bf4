//! Delivery as a receiver, an attacker and an operator see it: real sockets, hostile ones too.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "delivery/alerting.rs"]
mod alerting;
#[path = "delivery/changing.rs"]
mod changing;
#[path = "delivery/courier.rs"]
mod courier;
#[path = "delivery/guard_cases.rs"]
mod guard_cases;
#[path = "delivery/outbox.rs"]
mod outbox;
#[path = "delivery/receiver.rs"]
mod receiver;
#[path = "delivery/redelivering.rs"]
mod redelivering;
#[path = "delivery/running.rs"]
mod running;
#[path = "delivery/ssrf.rs"]
mod ssrf;
#[path = "delivery/stopping.rs"]
mod stopping;
#[path = "delivery/tls.rs"]
mod tls;
