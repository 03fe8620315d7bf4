//! Who sits idle: when every place is taken, the connection that has been idle longest makes way;
//! one that no client has shown its token on goes before any that one has.
//!
//! Otherwise a thousand sockets that say nothing would keep everybody out until their timeout.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The idle connections: strangers' first, then the longest idle first.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    since: BTreeMap<Place, CancellationToken>,
}

/// Whether a client has shown its token here, and when it became idle.
type Place = (bool, u64);

/// One connection's seat. Idle from the start: it has asked for nothing yet.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Mutex<Option<Place>>,
    known: AtomicBool,
    asked_to_leave: CancellationToken,
}

impl Seats {
    /// A seat for a new connection.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        let seat = Seat {
            seats: self.clone(),
            key: Mutex::default(),
            known: AtomicBool::new(false),
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

    /// A client has shown its token here.
    pub(super) fn known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Its request is answered.
    pub(super) fn idle(&self) {
        let key = {
            let mut idle = lock(&self.seats.0);
            idle.next += 1;
            let key = (self.known.load(Ordering::Relaxed), idle.next);
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
    fn a_stranger_leaves_before_a_client_that_has_been_idle_longer() {
        let seats = Arc::new(Seats::default());
        let client = seats.take();
        client.busy();
        client.known();
        client.idle();
        let stranger = seats.take();
        seats.ask_one_to_leave();
        assert!(stranger.asked_to_leave.is_cancelled() && !client.asked_to_leave.is_cancelled());
        seats.ask_one_to_leave();
        assert!(client.asked_to_leave.is_cancelled());
    }

    #[test]
    fn a_connection_that_ended_is_forgotten() {
        let seats = Arc::new(Seats::default());
        drop(seats.take());
        assert!(lock(&seats.0).since.is_empty());
    }
}
