//! A worker on a real store: events in, and what its lane does next.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::progress::Written;
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::config::Polling;
use crate::observability::Metrics;
use crate::polling::board::Board;
use crate::polling::fleet::seat::Term;
use crate::polling::lane::Watched;
use crate::store::Lanes;
use crate::store::fleet::{Alone, Claimed, Member, MemberId};
use crate::store::sqlite::Sqlite;
use crate::task::Kind;

const TASK: TaskId = TaskId(1);

/// A worker whose lane watches one task, and what must outlive it.
async fn worker() -> (Worker, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    let path = directory.path().join("test.db");
    let store = Arc::new(Sqlite::open(&path, clock.clone(), Arc::new(|_, _| {})).unwrap());
    let name = LaneName { account: "default".into(), kind: Kind::HireWebsiteDelivery };
    let now = clock.wall();
    let lane = store.take(&name, now).await.unwrap();
    let store: Arc<dyn crate::store::Store> = store;
    let context = Context {
        follower: Arc::new(()),
        fleet: Arc::new(Alone::new(Arc::clone(&store))),
        store,
        member: Member { id: MemberId(Uuid::nil()), name: "test".into(), since: now },
        upstreams: watch::channel(Arc::new(BTreeMap::new())).1,
        settings: Polling {
            give_up_after: Duration::from_secs(3_600),
            not_found_grace: Duration::from_secs(30),
            poll_worth: Duration::from_millis(10),
        },
        clock: clock.clone(),
        board: Arc::new(Board::default()),
        metrics: Arc::new(Metrics::default()),
        shutdown: tokio_util::sync::CancellationToken::new(),
    };
    let claimed =
        Claimed { lane, lasts: Duration::from_secs(60), took_over: false, reserved_ago: None };
    let stop = tokio_util::sync::CancellationToken::new();
    let until = watch::channel(Steady(i64::MAX)).1;
    let term = Term { until, board: Arc::clone(&context.board) };
    context.board.proof.waive();
    let mut worker = Worker::new(context, name, Seat { claimed, stop, term });
    let now = clock.steady();
    let watched = Watched {
        born: now,
        give_up_at: now.after(Duration::from_secs(3_600)),
        polls: 1,
        last_pending: None,
        not_found_since: None,
    };
    worker.lane.watch(TASK, watched, now);
    (worker, directory)
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("disk full".into())
}

#[tokio::test]
async fn a_failed_write_of_progress_leaves_a_reservation_under_way_alone() {
    let (mut worker, _directory) = worker().await;
    let now = worker.context.clock.steady();
    assert!(matches!(worker.lane.next(now), Step::Reserve { .. }));
    let progress = Written::default();
    worker.happened(Event::ProgressWritten { progress, stored: Err(unavailable()) });
    let later = now.after(Duration::from_secs(60));
    let step = worker.lane.next(later);
    assert!(matches!(step, Step::Wait { .. }), "{step:?}: two reservations under way at once");
    let progress = Written::default();
    worker.happened(Event::Reserved { polls: 8, progress, stored: Err(unavailable()) });
    assert!(matches!(worker.lane.next(later), Step::Reserve { .. }), "its own failure ends it");
}

#[tokio::test]
async fn neither_a_failed_read_nor_an_end_that_is_not_stored_touches_a_reservation() {
    let (mut worker, _directory) = worker().await;
    let now = worker.context.clock.steady();
    assert!(matches!(worker.lane.next(now), Step::Reserve { .. }));
    worker.happened(Event::Loaded(Err(unavailable())));
    worker.happened(Event::Ended { task: TASK, next: Err(unavailable()) });
    let step = worker.lane.next(now.after(Duration::from_secs(60)));
    assert!(matches!(step, Step::Wait { .. }), "{step:?}");
}

#[tokio::test]
async fn progress_that_a_failed_write_held_goes_with_the_next_one() {
    let (mut worker, _directory) = worker().await;
    let now = worker.context.clock.steady();
    worker.unwritten.insert(TASK, now);
    for _ in 0..3 {
        let (checkpoint, progress) = worker.progress_to_write(now);
        assert_eq!(checkpoint.progress.iter().map(|(task, _)| *task).collect::<Vec<_>>(), [TASK]);
        worker.write_progress(now.after(Duration::from_secs(60)));
        assert!(worker.effects.is_empty(), "a second write could overtake the first");
        worker.happened(Event::ProgressWritten { progress, stored: Err(unavailable()) });
    }
    let (_, progress) = worker.progress_to_write(now);
    worker.happened(Event::ProgressWritten { progress, stored: Ok(()) });
    assert_eq!(worker.progress_to_write(now).0.progress, []);
}

#[tokio::test]
async fn what_changes_while_changes_are_read_is_read_after_them() {
    let (mut worker, _directory) = worker().await;
    worker.load();
    worker.happened(Event::Loaded(Ok(Vec::new())));
    worker.happened(Event::Loaded(Ok(Vec::new())));
    assert!(worker.first_load.is_none() && worker.loading == Loading::Idle);
    worker.load();
    worker.load();
    worker.happened(Event::Loaded(Ok(Vec::new())));
    assert!(worker.loading == Loading::UnderWay, "nobody says again that there is something");
    worker.happened(Event::Loaded(Ok(Vec::new())));
    assert!(worker.loading == Loading::Idle);
}

#[tokio::test]
async fn progress_that_is_too_much_for_one_write_is_written_by_the_next_ones() {
    let (mut worker, _directory) = worker().await;
    let now = worker.context.clock.steady();
    (1..=2_500).for_each(|task| worker.unwritten.insert(TaskId(task), now));
    for writes in 1..=3 {
        let later = now.after(Duration::from_secs(10 * writes));
        worker.write_progress(later);
        assert_eq!(worker.effects.len(), 1, "the {writes}. write");
        let event = worker.effects.next().await.unwrap();
        worker.happened(event);
    }
    worker.write_progress(now.after(Duration::from_secs(60)));
    assert!(worker.effects.is_empty(), "all is written");
}

#[tokio::test]
async fn a_worker_whose_lease_is_lost_stops_and_leaves_the_board() {
    let (mut worker, _directory) = worker().await;
    worker.show();
    assert_eq!(worker.context.board.read().len(), 1);
    worker.happened(Event::Ended { task: TASK, next: Err(StoreError::LeaseLost) });
    assert!(worker.lost, "another daemon polls the lane now");
    worker.drain().await;
    assert!(worker.context.board.read().is_empty(), "nobody comes round there any more");
}

#[tokio::test]
async fn changes_that_could_not_be_read_are_read_at_the_next_hint() {
    let (mut worker, _directory) = worker().await;
    worker.load();
    worker.happened(Event::Loaded(Err(unavailable())));
    let before = worker.effects.len();
    worker.load();
    assert_eq!(worker.effects.len(), before + 1);
}

fn change(worker: &Worker, version: u64) -> Event {
    let watch = Watch {
        website_id: "7".into(),
        delivery_task_id: "t".into(),
        registered_at: worker.context.clock.wall(),
        give_up_at: worker.context.clock.wall().after(Duration::from_secs(60)),
        progress: crate::store::Progress::default(),
    };
    Event::Loaded(Ok(vec![Change { task: TASK, version, watch: Some(watch) }]))
}

/// A worker that is storing the end of its task, and has read all changes.
async fn ending() -> (Worker, tempfile::TempDir) {
    let (mut worker, directory) = worker().await;
    let now = worker.context.clock.steady();
    let watched = worker.lane.watched(TASK).unwrap().clone();
    worker.lane.forget(TASK);
    worker.lane.watch(TASK, Watched { give_up_at: now, last_pending: Some(now), ..watched }, now);
    let step = worker.lane.next(now);
    assert_eq!(step, Step::GiveUp { task: TASK }, "it was seen pending just now");
    worker.first_load = None;
    (worker, directory)
}

#[tokio::test]
async fn a_task_registered_again_while_its_end_was_being_stored_is_read_again() {
    let (mut worker, _directory) = ending().await;
    let read = change(&worker, 7);
    worker.happened(read);
    assert!(worker.version == 7 && worker.loading == Loading::Idle);
    worker.happened(Event::Ended { task: TASK, next: Ok(None) });
    assert!(worker.version < 7, "that change came too early");
    assert!(worker.loading == Loading::UnderWay);
}

#[tokio::test]
async fn a_change_that_came_too_early_is_read_again_though_others_are_being_read() {
    let (mut worker, _directory) = ending().await;
    let read = change(&worker, 7);
    worker.happened(read);
    worker.load();
    worker.happened(Event::Ended { task: TASK, next: Ok(None) });
    let other = Change { task: TaskId(2), version: 9, watch: None };
    worker.happened(Event::Loaded(Ok(vec![other])));
    assert!(worker.version < 7, "9 was read from 7 on");
    assert!(worker.loading == Loading::UnderWay);
}

#[tokio::test]
async fn what_was_read_before_a_task_ended_does_not_bring_it_back() {
    let (mut worker, _directory) = ending().await;
    worker.load();
    worker.happened(Event::Ended { task: TASK, next: Ok(None) });
    let read = change(&worker, 7);
    worker.happened(read);
    assert!(worker.lane.watched(TASK).is_none(), "it may have been read before");
    assert!(worker.version < 7 && worker.loading == Loading::UnderWay, "read again");
    let read = change(&worker, 7);
    worker.happened(read);
    assert!(worker.lane.watched(TASK).is_some(), "registered again after its end");
}

#[tokio::test]
async fn a_quota_that_a_reload_changed_holds_from_then_on() {
    let (mut worker, _directory) = worker().await;
    let (changed, upstreams) = watch::channel(Arc::new(BTreeMap::new()));
    worker.upstreams = upstreams;
    let quota = crate::config::QuotaLimits { per_second: 3, per_minute: 7 };
    let upstream = Upstream { source: Arc::new(Unasked), quota };
    changed.send_replace(Arc::new([("default".to_owned(), upstream)].into()));
    worker.reconfigure();
    assert_eq!(worker.lane.quota().limits(), quota);
}

struct Unasked;

#[async_trait::async_trait]
impl crate::source::Source for Unasked {
    async fn prepare(&self) -> Result<(), crate::source::PollError> {
        Ok(())
    }

    async fn observe(
        &self,
        _website: &str,
        _task: &str,
    ) -> Result<crate::source::Polled, crate::source::PollError> {
        Err(crate::source::PollError::Token)
    }
}
