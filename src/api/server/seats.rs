//! Who sits idle: when every place is taken, one of the address with the most idle connections makes
//! way, the longest idle first; one that no client has shown its token on goes before any that one
//! has.
//!
//! Otherwise a thousand sockets that say nothing would keep everybody out until their timeout. A
//! proxy before the daemon is one address with many connections: it loses some of its idle ones when
//! every place is taken, and nothing else.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::peer::Peer;

/// The idle connections.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    next: u64,
    /// Of strangers and of clients, by peer, the longest idle first.
    of: BTreeMap<(bool, Peer), BTreeMap<u64, CancellationToken>>,
}

impl Idle {
    fn remove(&mut self, (of, since): Place) {
        if let Some(idle) = self.of.get_mut(&of) {
            idle.remove(&since);
            if idle.is_empty() {
                self.of.remove(&of);
            }
        }
    }

    /// Whose turn it is to make way.
    fn first_to_leave(&mut self) -> Option<CancellationToken> {
        let most = |((known, _), idle): &(&(bool, Peer), &BTreeMap<u64, CancellationToken>)| {
            (*known, Reverse(idle.len()), idle.keys().next().copied())
        };
        let (of, idle) = self.of.iter().min_by_key(most)?;
        let (since, asked_to_leave) = idle.first_key_value()?;
        let (place, asked_to_leave) = ((*of, *since), asked_to_leave.clone());
        self.remove(place);
        Some(asked_to_leave)
    }
}

/// Whether a client has shown its token here, whose it is, and when it became idle.
type Place = ((bool, Peer), u64);

/// One connection's seat. Idle from the start: it has asked for nothing yet.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    peer: Peer,
    key: Mutex<Option<Place>>,
    known: AtomicBool,
    asked_to_leave: CancellationToken,
}

impl Seats {
    /// A seat for a new connection.
    pub(super) fn take(self: &Arc<Self>, peer: Peer) -> Seat {
        let seat = Seat {
            seats: self.clone(),
            peer,
            key: Mutex::default(),
            known: AtomicBool::new(false),
            asked_to_leave: CancellationToken::new(),
        };
        seat.idle();
        seat
    }

    /// Asks one to leave, if one is idle.
    pub(super) fn ask_one_to_leave(&self) {
        let first = lock(&self.0).first_to_leave();
        if let Some(asked_to_leave) = first {
            asked_to_leave.cancel();
        }
    }
}

impl Seat {
    /// It has a request: it may stay.
    pub(super) fn busy(&self) {
        let key = lock(&self.key).take();
        if let Some(key) = key {
            lock(&self.seats.0).remove(key);
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
            let of = (self.known.load(Ordering::Relaxed), self.peer);
            let since = idle.next;
            idle.of.entry(of).or_default().insert(since, self.asked_to_leave.clone());
            (of, since)
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

    fn peer(last: u8) -> Peer {
        Peer::of(Some([192, 0, 2, last].into()))
    }

    #[test]
    fn the_address_with_the_most_idle_connections_makes_way() {
        let seats = Arc::new(Seats::default());
        let proxy: Vec<Seat> = (0..3).map(|_| seats.take(Peer::of(None))).collect();
        let other = seats.take(peer(1));
        let greedy: Vec<Seat> = (0..5).map(|_| seats.take(peer(2))).collect();
        let left = |of: &[Seat]| of.iter().filter(|it| it.asked_to_leave.is_cancelled()).count();
        for _ in 0..2 {
            seats.ask_one_to_leave();
        }
        assert_eq!((left(&proxy), left(&greedy)), (0, 2));
        assert!(greedy[0].asked_to_leave.is_cancelled() && greedy[1].asked_to_leave.is_cancelled());
        for _ in 0..4 {
            seats.ask_one_to_leave();
        }
        assert_eq!((left(&proxy), left(&greedy)), (2, 4), "they take turns");
        assert!(!other.asked_to_leave.is_cancelled());
    }

    #[test]
    fn the_longest_idle_leaves_first_and_the_busy_stay() {
        let seats = Arc::new(Seats::default());
        let (first, second, third) =
            (seats.take(peer(1)), seats.take(peer(1)), seats.take(peer(1)));
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
        let client = seats.take(peer(1));
        client.busy();
        client.known();
        client.idle();
        let stranger = seats.take(peer(2));
        seats.ask_one_to_leave();
        assert!(stranger.asked_to_leave.is_cancelled() && !client.asked_to_leave.is_cancelled());
        seats.ask_one_to_leave();
        assert!(client.asked_to_leave.is_cancelled());
    }

    #[test]
    fn a_connection_that_ended_is_forgotten() {
        let seats = Arc::new(Seats::default());
        drop(seats.take(peer(1)));
        assert!(lock(&seats.0).of.is_empty());
    }
}
