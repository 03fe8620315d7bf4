//! Learning off the path of the polls: what a lane is to learn is handed to its shell, which works
//! it out in small steps and hands it back. Until then the lane goes by what it knew.

use std::sync::Arc;

use super::table::{PRICES, Table};
use crate::polling::estimate::lesson::Lesson;

/// Rows of the table solved beforehand on each side of the price: it rarely moves further before
/// the next table. Any other row is solved when it is asked for.
const ROWS_AROUND: usize = 2;

/// An estimate and its table in the making.
#[derive(Debug)]
pub struct Study {
    lesson: Lesson,
    table: Option<Arc<Table>>,
    /// The next row to solve, and the one after the last.
    row: usize,
    end: usize,
}

impl Study {
    /// What follows from the lesson, with the table's rows around the price's.
    #[must_use]
    pub fn new(lesson: Lesson, row: usize) -> Self {
        let (row, end) = (row.saturating_sub(ROWS_AROUND), (row + ROWS_AROUND + 1).min(PRICES));
        Self { lesson, table: None, row, end }
    }

    /// Works for well under a millisecond; whether all is done.
    pub fn step(&mut self) -> bool {
        let Some(table) = &self.table else {
            self.table = self.lesson.step().map(|life| Arc::new(Table::new(life)));
            return false;
        };
        if self.row < self.end {
            let _ = table.row(self.row);
            self.row += 1;
        }
        self.row >= self.end
    }

    /// Works until all is done.
    #[must_use]
    pub fn finished(mut self) -> Self {
        while !self.step() {}
        self
    }

    /// What was learned, if it is finished.
    pub(super) fn outcome(self) -> Option<(Lesson, Arc<Table>)> {
        self.table.map(|table| (self.lesson, table))
    }
}
