//! Delivery: due rows out of the store, one signed POST an attempt, and what follows from it.

pub mod breaker;
pub mod dispatch;
pub mod guard;
pub mod retry;
pub mod sign;
