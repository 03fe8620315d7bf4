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

/// How often work that waits is looked after, and what was stopped or slept beyond that which ends
/// it: less than the time within which a poll counts as arrived.
const AWAKE_EVERY: Duration = Duration::from_millis(500);
const ASLEEP_MIN: Duration = Duration::from_secs(1);

/// Goes on with `work` only while the lane is ours and this process runs. The clock is read before
/// every step: a process that was stopped or asleep in the midst of connecting, say, does not send
/// when it wakes, when its quota has forgotten the poll or another daemon has the lane. `None`: it
/// does not go on.
pub(in crate::polling) async fn fenced<T>(
    mut work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
    clock: Arc<dyn Clock>,
    term: Term,
) -> Option<T> {
    let mut awake = tokio::time::interval(AWAKE_EVERY);
    let mut last = clock.steady();
    poll_fn(|context| {
        let now = clock.read();
        let gap = now.steady.since(std::mem::replace(&mut last, now.steady));
        if gap > ASLEEP_MIN || !term.holds(now) {
            return Poll::Ready(None);
        }
        while awake.poll_tick(context).is_ready() {}
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
            Timestamp(self.0.load(Ordering::SeqCst))
        }
        fn steady(&self) -> Steady {
            Steady(self.0.load(Ordering::SeqCst))
        }
    }

    /// Whether a poll that was connecting is sent once the clock shows `woken`.
    async fn is_sent(from: i64, until: Steady, woken: i64) -> bool {
        let clock = Arc::new(Hand(AtomicI64::new(from)));
        let (_until, seen) = watch::channel(until);
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
        clock.0.store(woken, Ordering::SeqCst);
        connected.send(()).unwrap();
        let done = poll.await.unwrap();
        assert_eq!(done.is_some(), sent.load(Ordering::SeqCst));
        done.is_some()
    }

    #[tokio::test]
    async fn whoever_slept_through_the_end_of_the_lease_does_not_send() {
        assert!(is_sent(5_000, Steady(5_500), 5_499).await);
        assert!(!is_sent(5_000, Steady(5_500), 5_500).await);
    }

    /// Alone on its store: no lease ends, but the quota has taken the poll for arrived meanwhile.
    #[tokio::test]
    async fn whoever_was_stopped_or_asleep_while_connecting_does_not_send() {
        assert!(is_sent(0, Steady(i64::MAX), 1_000).await);
        assert!(!is_sent(0, Steady(i64::MAX), 1_001).await);
    }
}
