//! The watchdog: the service manager hears that the daemon is alive only while every part of it
//! gets on with its work, so that a hang of one part ends in a restart.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::notify::Notifier;
use crate::clock::{Clock, Steady};

/// How often a part that is probed, and does not beat by itself, is probed.
pub const PROBE_EVERY: Duration = Duration::from_secs(2);

/// When a part of the daemon last got on with its work. The part beats; the watchdog reads.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<AtomicI64>);

impl Heartbeat {
    /// The part came round, at `now`.
    pub fn beat(&self, now: Steady) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    fn last(&self) -> Steady {
        Steady(self.0.load(Ordering::Relaxed))
    }
}

/// A part that did not come round within its bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Its name.
    pub name: &'static str,
    /// For how long it has not.
    pub silent: Duration,
}

struct Part {
    name: &'static str,
    bound: Duration,
    last: Box<dyn Fn() -> Option<Steady> + Send + Sync>,
}

/// Every part that must get on, each with its bound.
#[derive(Default)]
pub struct Watchdog {
    parts: Vec<Part>,
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| part.name)).finish()
    }
}

impl Watchdog {
    /// Watches a part that beats at least every `bound`, also while it has nothing to do.
    #[must_use]
    pub fn heartbeat(&mut self, name: &'static str, bound: Duration, now: Steady) -> Heartbeat {
        let heartbeat = Heartbeat(Arc::new(AtomicI64::new(now.0)));
        let reader = heartbeat.clone();
        self.watch(name, bound, move || Some(reader.last()));
        heartbeat
    }

    /// Watches a part whose last sign of life can be asked for, e.g. the oldest `alive_at` on the
    /// lanes' board. `None`: there is nothing of it at the moment, which is fine.
    pub fn watch(
        &mut self,
        name: &'static str,
        bound: Duration,
        last: impl Fn() -> Option<Steady> + Send + Sync + 'static,
    ) {
        self.parts.push(Part { name, bound, last: Box::new(last) });
    }

    /// The parts that are late at `now`; none: all goes well.
    #[must_use]
    pub fn late(&self, now: Steady) -> Vec<Late> {
        self.parts
            .iter()
            .filter_map(|part| {
                let silent = now.since((part.last)()?);
                (silent > part.bound).then_some(Late { name: part.name, silent })
            })
            .collect()
    }

    /// Pings the service manager every half `period` as long as nothing is late, until `end`.
    pub async fn run(
        self,
        notifier: Notifier,
        clock: Arc<dyn Clock>,
        period: Duration,
        end: CancellationToken,
    ) {
        let mut was_late = false;
        while !end.is_cancelled() {
            let late = self.late(clock.steady());
            if late.is_empty() {
                notifier.alive();
            }
            for Late { name, silent } in late.iter().filter(|_| !was_late) {
                let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
                tracing::error!(
                    part = name,
                    silent_ms,
                    "a part of the daemon hangs: no more pings"
                );
            }
            was_late = !late.is_empty();
            tokio::select! {
                () = tokio::time::sleep(period / 2) => {}
                () = end.cancelled() => {}
            }
        }
    }
}

/// Beats for a part that answers when asked (the store's writer, by a durable ping), every
/// [`PROBE_EVERY`], as long as it answers at all: an error is an answer, silence is a hang.
pub async fn keep_probing<P: Future<Output = ()>>(
    heartbeat: Heartbeat,
    clock: Arc<dyn Clock>,
    end: CancellationToken,
    probe: impl Fn() -> P,
) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = probe() => heartbeat.beat(clock.steady()),
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::clock::Timestamp;

    /// A clock that stands where it is put.
    #[derive(Default)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }
        fn steady(&self) -> Steady {
            Steady(self.0.load(Ordering::Relaxed))
        }
    }

    const BOUND: Duration = Duration::from_secs(10);

    #[test]
    fn a_part_is_late_only_past_its_bound() {
        let mut watchdog = Watchdog::default();
        let store = watchdog.heartbeat("store", BOUND, Steady(0));
        watchdog.watch("lanes", BOUND, || None);
        assert_eq!(watchdog.late(Steady(10_000)), []);
        let late = Late { name: "store", silent: Duration::from_millis(10_001) };
        assert_eq!(watchdog.late(Steady(10_001)), [late]);
        store.beat(Steady(10_001));
        assert_eq!(watchdog.late(Steady(10_001)), []);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_stop_while_a_part_hangs_and_go_on_when_it_gets_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let pings = || std::iter::from_fn(|| manager.recv(&mut [0; 64]).ok()).count();

        let clock = Arc::new(Hands::default());
        let mut watchdog = Watchdog::default();
        let delivery = watchdog.heartbeat("delivery", BOUND, Steady(0));
        let end = CancellationToken::new();
        let (notifier, period) = (Notifier::to(&path), Duration::from_secs(2));
        let running = tokio::spawn(watchdog.run(notifier, clock.clone(), period, end.clone()));

        let three_periods = Duration::from_millis(3_500);
        tokio::time::sleep(three_periods).await;
        assert_eq!(pings(), 4, "one at once, then one every half period");
        clock.0.store(60_000, Ordering::Relaxed);
        tokio::time::sleep(three_periods).await;
        assert_eq!(pings(), 0);
        delivery.beat(Steady(60_000));
        tokio::time::sleep(three_periods).await;
        assert!(pings() > 0);
        end.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_answers_lets_its_heart_stop() {
        let clock = Arc::new(Hands::default());
        let mut watchdog = Watchdog::default();
        let store = watchdog.heartbeat("store", BOUND, Steady(0));
        let end = CancellationToken::new();
        let hands = clock.clone();
        let answers_twice = AtomicI64::new(2);
        let probe = || async {
            if answers_twice.fetch_sub(1, Ordering::Relaxed) <= 0 {
                std::future::pending::<()>().await;
            }
            hands.0.fetch_add(5_000, Ordering::Relaxed);
        };
        let probing = keep_probing(store, clock.clone(), end.clone(), probe);
        let _ = tokio::time::timeout(Duration::from_secs(60), probing).await;
        assert_eq!(watchdog.late(Steady(10_000)), []);
        assert_eq!(watchdog.late(Steady(20_001)).len(), 1);
    }
}
