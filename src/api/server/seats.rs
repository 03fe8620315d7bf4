//! Who sits idle: when every place is taken, the connection that has been idle longest makes way.
//!
//! Otherwise a thousand sockets that say nothing would keep everybody out until their timeout.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The idle connections, the longest idle first.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    since: BTreeMap<u64, CancellationToken>,
}

/// One connection's seat. Idle from the start: it has asked for nothing yet.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Mutex<Option<u64>>,
    asked_to_leave: CancellationToken,
}

impl Seats {
    /// A seat for a new connection.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        let seat = Seat {
            seats: self.clone(),
            key: Mutex::default(),
            asked_to_leave: CancellationToken::new(),
        };
        seat.idle();
        seat
    }

    /// Asks the connection that has been idle longest to leave, if one is idle.
    pub(super) fn ask_one_to_leave(&self) {
        let longest = lock(&self.0).since.pop_first();
        if let Some((_, asked_to_leave)) = longest {
            asked_to_leave.cancel();
        }
    }
}

impl Seat {
    /// It has a request: it may stay.
    pub(super) fn busy(&self) {
        let key = lock(&self.key).take();
        if let Some(key) = key {
            lock(&self.seats.0).since.remove(&key);
        }
    }

    /// Its request is answered.
    pub(super) fn idle(&self) {
        let key = {
            let mut idle = lock(&self.seats.0);
            idle.next += 1;
            let key = idle.next;
            idle.since.insert(key, self.asked_to_leave.clone());
            key
        };
        *lock(&self.key) = Some(key);
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        lock(&self.key).is_none()
    }

    /// Returns when it is asked to leave.
    pub(super) async fn asked_to_leave(&self) {
        self.asked_to_leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.busy();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_leaves_first_and_the_busy_stay() {
        let seats = Arc::new(Seats::default());
        let (first, second, third) = (seats.take(), seats.take(), seats.take());
        first.busy();
        second.busy();
        second.idle();
        seats.ask_one_to_leave();
        assert!(third.asked_to_leave.is_cancelled() && !second.asked_to_leave.is_cancelled());
        drop(third);
        seats.ask_one_to_leave();
        assert!(second.asked_to_leave.is_cancelled() && !second.is_busy());
        seats.ask_one_to_leave();
        assert!(first.is_busy() && !first.asked_to_leave.is_cancelled());
        first.idle();
        seats.ask_one_to_leave();
        assert!(first.asked_to_leave.is_cancelled());
    }

    #[test]
    fn a_connection_that_ended_is_forgotten() {
        let seats = Arc::new(Seats::default());
        drop(seats.take());
        assert!(lock(&seats.0).since.is_empty());
    }
}
