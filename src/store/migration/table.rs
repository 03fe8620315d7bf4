//! What is migrated: tables, columns and values, and the one encoding that both stores are compared in.

use bytes::BytesMut;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::store::{Result, StoreError};

type SqlError = Box<dyn std::error::Error + Sync + Send>;

/// What is migrated, in an order that respects foreign keys. Not: the heartbeat, which is a proof of
/// life; the counts, which each store makes itself; the fleet's members, which only Postgres has.
pub(in crate::store) const TABLES: [&str; 10] = [
    "lane",
    "task",
    "registration",
    "attempt",
    "outcome_log",
    "redelivery",
    "rewatch",
    "notice",
    "app_ticket",
    "gone_callback",
];

/// A column that both stores have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    /// Whether it is part of the primary key.
    pub(in crate::store) key: bool,
}

/// A value. A truth value is 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, in the order of its columns.
pub(in crate::store) type Row = Vec<Value>;

impl Value {
    /// A value as `SQLite` holds it.
    pub(in crate::store) fn of_sqlite(value: ValueRef<'_>) -> Result<Self> {
        let corrupt = |why: String| StoreError::Corrupt(why);
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Int(number),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text).map_err(|e| corrupt(e.to_string()))?;
                Self::Text(text.to_owned())
            }
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
            ValueRef::Real(number) => return Err(corrupt(format!("{number} is no whole number"))),
        })
    }

    /// As Postgres can hold it: it refuses the one character U+0000, and so its store writes
    /// U+FFFD. Returns whether anything had to be replaced.
    pub(in crate::store) fn make_storable(&mut self) -> bool {
        match self {
            Self::Text(text) if text.contains('\0') => {
                *text = text.replace('\0', "\u{fffd}");
                true
            }
            _ => false,
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, SqlError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *ty == Type::BOOL => (*number != 0).to_sql(ty, out),
            Self::Int(number) => number.to_sql(ty, out),
            Self::Text(text) => text.as_str().to_sql(ty, out),
            Self::Bytes(bytes) => bytes.as_slice().to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::BOOL, Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> std::result::Result<Self, SqlError> {
        Ok(match *ty {
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(Vec::from_sql(ty, raw)?),
            _ => Self::Text(String::from_sql(ty, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, SqlError> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

/// The checksum of a table: SHA-256 over its rows in the order of their keys.
#[derive(Clone, Default)]
pub(in crate::store) struct Checksum {
    hash: Sha256,
    rows: u64,
}

impl Checksum {
    /// Each value is its kind, its length where it has one, and its bytes: two different rows, or
    /// rows split up differently, never read the same.
    pub(in crate::store) fn add(&mut self, row: &[Value]) {
        self.rows += 1;
        for value in row {
            match value {
                Value::Null => self.hash.update([0]),
                Value::Int(number) => {
                    self.hash.update([1]);
                    self.hash.update(number.to_be_bytes());
                }
                Value::Text(text) => self.sized(2, text.as_bytes()),
                Value::Bytes(bytes) => self.sized(3, bytes),
            }
        }
    }

    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// How many rows, and their checksum.
    pub(in crate::store) fn finish(self) -> (u64, [u8; 32]) {
        (self.rows, self.hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(rows: &[&[Value]]) -> [u8; 32] {
        let mut checksum = Checksum::default();
        for row in rows {
            checksum.add(row);
        }
        checksum.finish().1
    }

    #[test]
    fn no_two_contents_have_one_encoding() {
        let text = |text: &str| Value::Text(text.into());
        let contents: [&[&[Value]]; 8] = [
            &[],
            &[&[Value::Null]],
            &[&[text("")]],
            &[&[text("ab"), text("c")]],
            &[&[text("a"), text("bc")]],
            &[&[Value::Bytes(b"a".to_vec()), text("bc")]],
            &[&[Value::Int(0)]],
            &[&[Value::Int(256)]],
        ];
        let all: std::collections::BTreeSet<_> = contents.iter().map(|c| checksum(c)).collect();
        assert_eq!(all.len(), contents.len());
    }

    #[test]
    fn only_what_postgres_refuses_is_replaced() {
        let mut value = Value::Text("a\0b".into());
        assert!(value.make_storable());
        assert_eq!(value, Value::Text("a\u{fffd}b".into()));
        assert!(!value.make_storable());
        assert!(!Value::Bytes(vec![0]).make_storable(), "bytes may hold anything");
    }
}
