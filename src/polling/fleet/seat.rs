//! What a lane's worker has of the fleet: its lane, until when it may use it, and when to end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Reading, Steady};
use crate::polling::board::Board;
use crate::store::fleet::Claimed;

/// How long polls under way when a lane ends are waited for, where nobody waits for the lane.
const DRAIN: Duration = Duration::from_secs(10);
/// And where another daemon does: most polls take less, and one that is cut off is made again.
const HAND_OVER: Duration = Duration::from_millis(600);
/// What is still being written to a lane that is lost is refused, which is to be counted.
const REFUSED: Duration = Duration::from_secs(2);

/// A lane that is lost may never be used again.
pub(in crate::polling) const NEVER: Steady = Steady(i64::MIN);

/// A worker's place.
pub(in crate::polling) struct Seat {
    /// The lane as its last owner left it.
    pub(in crate::polling) claimed: Claimed,
    /// Told to finish.
    pub(in crate::polling) stop: CancellationToken,
    /// Until when the lane may be used.
    pub(in crate::polling) term: Term,
}

/// Until when a lane may be used, and whether the clocks may be trusted to say so.
#[derive(Clone)]
pub(in crate::polling) struct Term {
    pub(in crate::polling) until: watch::Receiver<Steady>,
    pub(in crate::polling) board: Arc<Board>,
}

impl Term {
    fn holds(&self, now: Reading) -> bool {
        now.steady < *self.until.borrow() && self.board.proof.stands(now)
    }
}

impl Seat {
    /// Whether the lane may be used now.
    pub(in crate::polling) fn is_ours(&self, now: Reading) -> bool {
        self.term.holds(now)
    }

    /// Whether it is another's.
    pub(in crate::polling) fn is_lost(&self) -> bool {
        *self.term.until.borrow() == NEVER
    }

    /// How long the worker may take to finish.
    pub(in crate::polling) fn drain_max(&self) -> Duration {
        match *self.term.until.borrow() {
            NEVER => REFUSED,
            Steady(i64::MAX) => DRAIN,
            Steady(_) => HAND_OVER,
        }
    }
}

/// Goes on with `work` only while the lane is ours. The clock is read before every step: a process
/// that was stopped in the midst of connecting, say, does not send when it wakes. `None`: the lease
/// ran out first.
pub(in crate::polling) async fn fenced<T>(
    mut work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    clock: Arc<dyn Clock>,
    term: Term,
) -> Option<T> {
    poll_fn(|context| {
        if !term.holds(clock.read()) {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use super::*;
    use crate::clock::Timestamp;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }
        fn steady(&self) -> Steady {
            Steady(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn whoever_slept_through_the_end_of_the_lease_does_not_send() {
        let clock = Arc::new(Hand(AtomicI64::new(0)));
        let (until, seen) = watch::channel(Steady(5_500));
        let (connected, connects) = tokio::sync::oneshot::channel::<()>();
        let sent = Arc::new(AtomicBool::new(false));
        let sends = Arc::clone(&sent);
        let poll = Box::pin(async move {
            connects.await.unwrap();
            sends.store(true, Ordering::SeqCst);
        });
        let board = Arc::new(Board::default());
        board.proof.renew(clock.read());
        let term = Term { until: seen, board };
        let poll = tokio::spawn(fenced(poll, clock.clone(), term));
        tokio::task::yield_now().await;
        clock.0.store(5_500, Ordering::SeqCst);
        connected.send(()).unwrap();
        assert_eq!(poll.await.unwrap(), None);
        assert!(!sent.load(Ordering::SeqCst));
        drop(until);
    }
}
