//! Why a move does not go on.

use std::path::PathBuf;

use super::Arriving;
use crate::store::postgres::arriving::Obstacle;
use crate::store::{StoreError, postgres, sqlite};

/// Why a move does not go on. Nothing is lost by any of it.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Nothing to move.
    #[error("there is no file {}: give the path that `store.url` has", .0.display())]
    NoFile(PathBuf),
    /// A daemon has the file.
    #[error(
        "an outcomed is using {} (it holds {}): stop it first, e.g. by `systemctl stop outcomed`, \
         and keep it stopped", path.display(), lock.display()
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
        /// What is locked.
        lock: PathBuf,
    },
    /// The file cannot be opened.
    #[error(transparent)]
    Source(sqlite::OpenError),
    /// The database cannot be opened.
    #[error("the target: {0}")]
    Target(#[from] postgres::OpenError),
    /// One of the two did not do it.
    #[error("{0}; nothing is lost: run the same command again to go on")]
    Store(#[from] StoreError),
    /// Daemons use the target.
    #[error("outcomed is running on {target} ({}): stop it there first", daemons.join(", "))]
    Daemons {
        /// The target.
        target: String,
        /// Their hosts.
        daemons: Vec<String>,
    },
    /// The target is somebody's store.
    #[error(
        "{target} already has data of its own (in {}): give an empty database", tables.join(", ")
    )]
    NotEmpty {
        /// The target.
        target: String,
        /// Where.
        tables: Vec<&'static str>,
    },
    /// The target is another store's, or was given up.
    #[error(
        "another move was begun into {target}, of {source_name}{}: give an empty database",
        if *abandoned { ", and taken back" } else { "" }
    )]
    OtherMove {
        /// The target.
        target: String,
        /// Where its data came from.
        source_name: String,
        /// Whether it was taken back.
        abandoned: bool,
    },
    /// The file's data go, or went, elsewhere.
    #[error(
        "the data of this file go to {target} already: give that database to `--to`, or take that \
         move back first with `--abandon`"
    )]
    OtherTarget {
        /// Where.
        target: String,
    },
    /// Somebody else is at work on the target.
    #[error("another `outcomed migrate-store` is at work on {target}: let one of them finish")]
    Rival {
        /// The target.
        target: String,
    },
    /// The two are not alike.
    #[error(
        "{table} is not alike on both sides ({rows} rows here, {found} in the target): {first}; \
         the target stays closed to daemons: drop that database, make an empty one of the same \
         name, and run the same command again"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows of the file.
        rows: u64,
        /// Rows of the target.
        found: u64,
        /// The first difference.
        first: String,
    },
    /// There is nothing to take back.
    #[error("no move of this file was ever begun: there is nothing to take back")]
    NotMoved,
}

/// What stands in the way, as an error.
pub(super) fn obstacle(obstacle: Obstacle, arriving: &Arriving) -> MoveError {
    let target = arriving.shown.clone();
    match obstacle {
        Obstacle::Daemons(daemons) => MoveError::Daemons { target, daemons },
        Obstacle::Taken(tables) => MoveError::NotEmpty { target, tables },
        Obstacle::OtherMove(other) => MoveError::OtherMove {
            target,
            source_name: other.source,
            abandoned: other.abandoned_at.is_some(),
        },
    }
}
