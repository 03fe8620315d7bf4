//! Delivery as a receiver, an attacker and an operator see it: real sockets, hostile ones too.

#[path = "delivery/guard_cases.rs"]
mod guard_cases;
