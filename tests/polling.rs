//! Polling between a real store and a fleet that misbehaves, in virtual time: what the store has
//! not taken is not acted on, and what the fleet has not renewed is not used.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod polling {
    pub mod lanes;
    pub mod leases;
    pub mod probing;
    pub mod reservations;
    pub mod stage;
    pub mod storing;
}
