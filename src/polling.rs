//! Polling: one loop a lane, around a pure brain.

pub mod board;
pub mod estimate;
pub mod hold;
pub mod lane;
pub mod plan;
pub mod quota;
