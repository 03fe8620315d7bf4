//! What only the shared store promises: leases, crashes, many daemons, and what it costs.

#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod postgres_cluster;

mod postgres_store {
    pub mod cost;
    pub mod crowd;
    pub mod durable;
    pub mod first_version;
    pub mod fixture;
    pub mod isolation;
    pub mod leases;
    pub mod opening;
    pub mod outage;
    pub mod upgrading;
}
