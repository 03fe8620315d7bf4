//! Moving from `SQLite` to Postgres: what arrives, what is in the way, and what a crash leaves.

#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod postgres_cluster;

mod migrate_store {
    pub mod command;
    pub mod continuing;
    pub mod fixture;
    pub mod moving;
    pub mod obstacles;
}
