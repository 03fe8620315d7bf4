//! Why a migration does not happen.

use std::path::PathBuf;

use crate::store::postgres::import::ImportError;
use crate::store::{StoreError, postgres, sqlite};

/// Why a migration does not happen. Nothing is lost by any of it.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Nothing to migrate.
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
    /// The target did not do it.
    #[error("{0}; nothing was committed: run the same command again to start over")]
    Import(#[from] ImportError),
    /// The file did not.
    #[error("{0}; nothing was committed: run the same command again to start over")]
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
    /// The target has another store's data, or was given up.
    #[error(
        "{target} is the target of another migration, of {source_name}{state}: give an empty database"
    )]
    OtherMigration {
        /// The target.
        target: String,
        /// Where its data came from.
        source_name: String,
        /// What became of that one, if that matters.
        state: &'static str,
    },
    /// The file's data go, or went, elsewhere.
    #[error(
        "the data of this file go to {target} already: give that database to `--to`, or take that \
         migration back first with `--abandon`"
    )]
    OtherTarget {
        /// Where.
        target: String,
    },
    /// The two are not alike.
    #[error(
        "{table} would not be alike in both stores ({rows} rows here, {found} there): nothing was \
         committed; does a trigger, a rule or a default of that database change what is inserted?"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows of the file.
        rows: u64,
        /// Rows of the target.
        found: u64,
    },
    /// There is nothing to take back.
    #[error("no migration of this file was ever begun: there is nothing to take back")]
    NotMigrated,
}
