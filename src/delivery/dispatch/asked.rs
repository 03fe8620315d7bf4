//! What persons asked to be sent again: at once, whatever breakers say, a few of each client.

use std::collections::{BTreeSet, VecDeque};

use super::shares::Pool;
use crate::store::Delivery;

/// Attempts that persons asked for, under way at once: of all, and so of each client half.
const ASKED_MAX: usize = 16;
/// Rows read of each client: what is beyond waits for those, as any delivery that is due.
pub(super) const ASKED_ROWS: u32 = 8;

#[derive(Debug)]
pub(super) struct Asked {
    /// The store may hold some.
    wanted: bool,
    reading: bool,
    rows: VecDeque<Delivery>,
    /// Some had to wait: look again once one of them is over.
    left: bool,
    /// These rows may be among those that are being read, as they were before.
    ended_while_reading: BTreeSet<String>,
    under_way: Pool,
}

impl Asked {
    pub(super) fn new() -> Self {
        Self {
            wanted: false,
            reading: false,
            rows: VecDeque::new(),
            left: false,
            ended_while_reading: BTreeSet::new(),
            under_way: Pool::new(ASKED_MAX),
        }
    }

    pub(super) fn look(&mut self) {
        self.wanted = true;
    }

    /// Whether to read them now.
    pub(super) fn begin_reading(&mut self) -> bool {
        let now = self.wanted && !self.reading && self.rows.is_empty();
        if now {
            (self.wanted, self.reading, self.left) = (false, true, false);
            self.ended_while_reading.clear();
        }
        now
    }

    pub(super) fn read(&mut self, rows: Vec<Delivery>) {
        self.reading = false;
        let ended = &self.ended_while_reading;
        let (stale, rows): (VecDeque<_>, VecDeque<_>) =
            rows.into_iter().partition(|row| ended.contains(&row.registration_id));
        self.rows = rows;
        // A person may have asked again while the attempt was under way.
        self.wanted |= !stale.is_empty();
    }

    pub(super) fn not_read(&mut self) {
        (self.reading, self.wanted) = (false, true);
    }

    /// The next to attempt, of those that are not `under_way` already.
    pub(super) fn take(&mut self, under_way: impl Fn(&Delivery) -> bool) -> Option<Delivery> {
        while let Some(row) = self.rows.pop_front() {
            if under_way(&row) || !self.under_way.admits(&row.client) {
                self.left = true;
                continue;
            }
            self.under_way.take(&row.client);
            return Some(row);
        }
        None
    }

    /// An attempt is over; `asked`: one of these.
    pub(super) fn ended(&mut self, registration_id: &str, client: &str, asked: bool) {
        if self.reading {
            self.ended_while_reading.insert(registration_id.to_owned());
        }
        if asked {
            self.under_way.give_back(client);
        }
        self.wanted |= self.left;
    }
}
