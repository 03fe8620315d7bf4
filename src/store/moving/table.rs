//! What moves: every table with its columns, in an order that respects foreign keys.

/// Rows read, or written, at once: a registration with its body is some kilobytes, so a page is a
/// few megabytes, and a batch is far below the database's deadline for a statement.
pub(in crate::store) const PAGE_ROWS: usize = 500;

/// How a column is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Int,
    /// 0 or 1 in `SQLite`, a truth value in Postgres.
    Flag,
    Text,
    Bytes,
}

impl Kind {
    /// The name of an array of it in Postgres.
    pub(in crate::store) const fn array(self) -> &'static str {
        match self {
            Self::Int => "bigint[]",
            Self::Flag => "boolean[]",
            Self::Text => "text[]",
            Self::Bytes => "bytea[]",
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) kind: Kind,
    /// How `SQLite` says it, where it keeps it elsewhere.
    pub(in crate::store) derived: Option<&'static str>,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    /// The first of them are its key.
    pub(in crate::store) columns: &'static [Column],
    /// How many.
    pub(in crate::store) key: usize,
    /// Whether its key is given out by the database.
    pub(in crate::store) numbered: bool,
}

impl Table {
    /// The names of its columns, as SQL.
    pub(in crate::store) fn names(&self) -> String {
        list(self.columns, |column| column.name)
    }

    /// Its columns as `SQLite` says them.
    pub(in crate::store) fn derived(&self) -> String {
        list(self.columns, |column| column.derived.unwrap_or(column.name))
    }

    /// The names of its key's columns.
    pub(in crate::store) fn keys(&self) -> String {
        list(&self.columns[..self.key], |column| column.name)
    }
}

fn list(columns: &[Column], of: impl Fn(&Column) -> &str) -> String {
    columns.iter().map(of).collect::<Vec<_>>().join(", ")
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, derived: None }
}
const fn int(name: &'static str) -> Column {
    column(name, Kind::Int)
}
const fn flag(name: &'static str) -> Column {
    column(name, Kind::Flag)
}
const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}
const fn bytes(name: &'static str) -> Column {
    column(name, Kind::Bytes)
}
const fn table(name: &'static str, key: usize, columns: &'static [Column]) -> Table {
    Table { name, columns, key, numbered: false }
}

/// Everything but the heartbeat, which is a proof of life and not a memory, the counts, which each
/// store makes itself, and the fleet's members and owners, which only Postgres has.
pub(in crate::store) const TABLES: [Table; 10] = [
    Table { numbered: true, ..table("lane", 1, LANE) },
    Table { numbered: true, ..table("task", 1, TASK) },
    table("registration", 1, REGISTRATION),
    table("attempt", 2, ATTEMPT),
    table("outcome_log", 1, &[text("client"), int("position")]),
    table("redelivery", 1, REDELIVERY),
    table("rewatch", 1, REWATCH),
    table("notice", 2, NOTICE),
    table("app_ticket", 1, &[text("app_id"), text("ticket"), int("at")]),
    table("gone_callback", 2, &[text("client"), text("callback_url"), int("since")]),
];

const LANE: &[Column] = &[
    int("id"),
    text("account"),
    text("kind"),
    int("epoch"),
    int("version"),
    text("reservations"),
    bytes("memory"),
];

const TASK: &[Column] = &[
    int("id"),
    int("lane"),
    text("website_id"),
    text("delivery_task_id"),
    flag("watched"),
    int("version"),
    int("registered_at"),
    int("polls"),
    int("last_pending_at"),
    int("not_found_since"),
    int("settled_at"),
    text("log_id"),
    text("outcome"),
    int("last_polled_at"),
    text("last_answer"),
];

const REGISTRATION: &[Column] = &[
    text("id"),
    text("client"),
    int("task"),
    Column {
        name: "lane",
        kind: Kind::Int,
        derived: Some("(SELECT lane FROM task WHERE task.id = registration.task)"),
    },
    text("callback_url"),
    text("callback_origin"),
    text("callback_host"),
    text("metadata"),
    text("state"),
    int("created_at"),
    int("give_up_at"),
    bytes("body"),
    int("outcome_position"),
    int("attempts"),
    int("round"),
    int("next_attempt_at"),
    int("last_status"),
    text("last_error"),
    int("finished_at"),
    int("first_attempt_at"),
    text("unresolved"),
    int("unresolved_at"),
    int("asked"),
];

const ATTEMPT: &[Column] = &[
    text("registration"),
    int("number"),
    int("at"),
    int("duration_ms"),
    int("status"),
    text("error"),
    text("reply_excerpt"),
    text("verdict"),
    int("connect_ms"),
    int("first_byte_ms"),
    text("error_class"),
    text("reason"),
];

const REDELIVERY: &[Column] = &[
    text("id"),
    text("owner"),
    text("client"),
    text("of_state"),
    int("since"),
    int("until"),
    text("callback_host"),
    text("state"),
    int("created_at"),
    int("finished_at"),
    int("matched"),
    int("done"),
    text("after"),
    int("stepped_at"),
    int("after_at"),
    text("after_id"),
];

const REWATCH: &[Column] = &[
    text("id"),
    text("owner"),
    text("client"),
    text("account"),
    text("reason"),
    int("since"),
    int("until"),
    text("state"),
    int("created_at"),
    int("finished_at"),
    int("matched"),
    int("done"),
    int("after_at"),
    text("after_id"),
    int("stepped_at"),
];

const NOTICE: &[Column] = &[
    text("client"),
    text("subject"),
    flag("raised"),
    int("since"),
    int("at"),
    text("id"),
    bytes("body"),
    int("attempts"),
    int("next_attempt_at"),
];
