//! What is under way, and what is still known, has an end.

use super::*;

/// Plays a store and an upstream that answer at once, until `until`; `answer` says what to a poll.
/// Returns the tasks that were polled.
fn play(lane: &mut Lane, until: Steady, answer: fn() -> Observation) -> Vec<TaskId> {
    let (mut now, mut polled) = (Steady(0), Vec::new());
    while now < until {
        match lane.next(now) {
            Step::Poll { task } => {
                polled.push(task);
                lane.replied(task, now, Ok(answer()), now);
            }
            Step::Wait { until: at } => now = at.unwrap_or(until).max(now.after(MOMENT)),
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Prepare => lane.prepared(Ok(()), now),
            Step::GiveUp { task } => lane.gave_up(task, None, now),
        }
    }
    polled
}

const MOMENT: Duration = Duration::from_millis(1);

fn succeeded() -> Observation {
    Observation::Settled(Outcome::succeeded(Ids::default()))
}

#[test]
fn outcomes_that_are_not_stored_yet_are_bounded_as_polls_are() {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    for task in 0..400 {
        lane.watch(TaskId(task), watched(0, 3_600_000), Steady(0));
    }
    let polled = play(&mut lane, Steady(600_000), succeeded);
    assert_eq!(polled.len(), 256, "the store has taken none of them");
    for task in &polled {
        lane.gave_up(*task, None, Steady(600_000));
    }
    let more = play(&mut lane, Steady(1_200_000), succeeded);
    assert_eq!(more.len(), 144, "now the others");
}

#[test]
fn a_task_that_is_forgotten_while_its_final_poll_is_due_is_not_polled() {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    lane.watch(TASK, watched(0, 60_000), Steady(0));
    lane.watch(TaskId(2), watched(0, 3_600_000), Steady(0));
    assert!(matches!(lane.next(Steady(60_000)), Step::Reserve { .. }));
    lane.reserved(50, Steady(60_000));
    assert_eq!(lane.next(Steady(60_000)), Step::Prepare, "its final poll is due");
    lane.forget(TASK);
    lane.prepared(Ok(()), Steady(60_000));
    let pending = || Observation::Pending { unknown_status: None };
    let polled = play(&mut lane, Steady(600_000), pending);
    let forgotten = polled.iter().filter(|task| **task == TASK).count();
    assert_eq!((forgotten, polled.is_empty()), (0, false));
}

#[test]
fn a_deadline_that_comes_nearer_ends_the_task_then() {
    let mut lane = ready(3_600_000);
    lane.watch(TASK, watched(0, 90_000), Steady(0));
    let mut now = Steady(0);
    loop {
        match lane.next(now) {
            Step::GiveUp { .. } => break,
            Step::Poll { .. } => drop(lane.replied(TASK, now, PENDING, now)),
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Wait { until } => now = until.unwrap().max(now.after(MOMENT)),
            Step::Prepare => lane.prepared(Ok(()), now),
        }
        assert!(now < Steady(95_000), "it is told at its own deadline, not at the first one");
    }
    assert!(now >= Steady(90_000), "{now:?}");
}

#[test]
fn a_task_past_its_deadline_that_has_got_a_later_one_is_polled_on() {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    lane.watch(TASK, watched(0, 60_000), Steady(0));
    assert!(matches!(lane.next(Steady(60_000)), Step::Reserve { .. }));
    lane.reserved(50, Steady(60_000));
    assert_eq!(lane.next(Steady(60_000)), Step::Prepare, "its final poll is due");
    // Whoever gave up first has cancelled; somebody else waits for longer.
    lane.watch(TASK, watched(0, 3_600_000), Steady(60_000));
    lane.prepared(Ok(()), Steady(60_000));
    let pending = || Observation::Pending { unknown_status: None };
    let polled = play(&mut lane, Steady(600_000), pending);
    assert!(!polled.is_empty() && lane.watched(TASK).is_some());
}
