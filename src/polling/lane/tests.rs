//! Inputs at given times, and exactly the steps that follow.

mod bounds;
mod expiring;
mod failing;
mod planning;
mod stages;
mod world;

use super::expiry::FINAL_POLL_WAIT;
use super::*;
use crate::outcome::{Ids, Reason};
use crate::source::{AccountProblem, Observation, PollError, TransientClass};

const GRACE: Duration = Duration::from_secs(30);
const TASK: TaskId = TaskId(1);

fn watched(born: i64, give_up_at: i64) -> Watched {
    Watched {
        born: Steady(born),
        give_up_at: Steady(give_up_at),
        polls: 0,
        last_pending: None,
        not_found_since: None,
    }
}

/// A lane with one task, registered at 0, that has reserved polls and is prepared.
fn ready(give_up_at: i64) -> Lane {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    lane.watch(TASK, watched(0, give_up_at), Steady(0));
    assert!(matches!(lane.next(Steady(0)), Step::Reserve { .. }));
    lane.reserved(50, Steady(0));
    let at = wait(&mut lane, Steady(0));
    assert_eq!(lane.next(at), Step::Prepare);
    lane.prepared(Ok(()), at);
    lane
}

/// Its one task says twice that the account cannot poll.
fn suspend(lane: &mut Lane) -> Steady {
    let first = next_poll(lane, Steady(0));
    assert_eq!(lane.replied(TASK, first, Err(suspended()), first), Follows::Nothing);
    assert_eq!(lane.suspended(), None, "one poll's word is not enough");
    let sent = next_poll(lane, first);
    assert_eq!(sent.since(first), Duration::from_secs(1));
    assert_eq!(lane.replied(TASK, sent, Err(suspended()), sent), Follows::Nothing);
    sent
}

/// Until when the lane waits.
fn wait(lane: &mut Lane, now: Steady) -> Steady {
    match lane.next(now) {
        Step::Wait { until: Some(until) } => until,
        step => panic!("expected a wait at {now:?}, got {step:?}"),
    }
}

/// The next poll's time, which must be the lane's next step but for waiting.
fn next_poll(lane: &mut Lane, mut now: Steady) -> Steady {
    loop {
        match lane.next(now) {
            Step::Poll { task } => {
                assert_eq!(task, TASK);
                return now;
            }
            Step::Wait { until: Some(until) } => now = until,
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Prepare => lane.prepared(Ok(()), now),
            step @ (Step::GiveUp { .. } | Step::Wait { until: None }) => {
                panic!("expected a poll at {now:?}, got {step:?}")
            }
        }
    }
}

const PENDING: Result<Observation, PollError> = Ok(Observation::Pending { unknown_status: None });

fn transient() -> PollError {
    PollError::Transient { class: TransientClass::Network, detail: "reset".into() }
}

fn suspended() -> PollError {
    PollError::Account(AccountProblem { reason: "missing_scope", message: "open the scope".into() })
}

#[test]
fn nothing_is_polled_before_its_reservation_is_durable() {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    assert_eq!(lane.next(Steady(0)), Step::Wait { until: None }, "no task, no reservation");
    lane.watch(TASK, watched(0, 3_600_000), Steady(0));
    assert!(matches!(lane.next(Steady(9_000)), Step::Reserve { .. }));
    let step = lane.next(Steady(9_000));
    assert_eq!(step, Step::Wait { until: Some(Steady(3_600_000)) }, "only the deadline");
    lane.not_reserved(Steady(9_000));
    assert_eq!(wait(&mut lane, Steady(9_500)), Steady(10_000), "the store gets a moment");
    assert!(matches!(lane.next(Steady(10_000)), Step::Reserve { .. }));
}

#[test]
fn a_task_under_way_is_not_polled_again() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    assert_eq!(lane.next(sent.after(GRACE)), Step::Wait { until: Some(Steady(3_600_000)) });
    assert_eq!(lane.replied(TASK, sent, PENDING, sent.after(GRACE)), Follows::Nothing);
    next_poll(&mut lane, sent.after(GRACE));
    let seen = lane.watched(TASK).unwrap();
    assert_eq!((seen.polls, seen.last_pending), (1, Some(sent)), "it was pending when asked");
}

#[test]
fn a_settled_task_is_not_polled_while_its_outcome_is_being_stored() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    let outcome = Outcome::succeeded(Ids::default());
    let follows = lane.replied(TASK, sent, Ok(Observation::Settled(outcome.clone())), sent);
    assert_eq!(follows, Follows::Settle(Box::new(outcome)));
    assert_eq!(lane.next(Steady(3_000_000)), Step::Wait { until: Some(Steady(3_600_000)) });
    lane.forget(TASK);
    assert_eq!(lane.next(Steady(3_700_000)), Step::Wait { until: None });
}

#[test]
fn an_unknown_task_is_believed_only_after_the_grace() {
    let mut lane = ready(3_600_000);
    let first = next_poll(&mut lane, Steady(0));
    let mut sent = first;
    loop {
        let follows = lane.replied(TASK, sent, Ok(Observation::NotFound), sent);
        if let Follows::Settle(outcome) = follows {
            assert_eq!(*outcome, Outcome::unresolved(Reason::TaskNotFound));
            break;
        }
        sent = next_poll(&mut lane, sent);
    }
    assert_eq!(sent.since(first), GRACE, "confirmed exactly when the grace is over");
    assert_eq!(lane.watched(TASK).unwrap().polls, 5);
}

#[test]
fn a_task_seen_pending_meanwhile_starts_the_grace_anew() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    lane.replied(TASK, sent, Ok(Observation::NotFound), sent);
    let sent = next_poll(&mut lane, sent);
    lane.replied(TASK, sent, PENDING, sent);
    assert_eq!(lane.watched(TASK).unwrap().not_found_since, None);
    let late = sent.after(GRACE);
    let sent = next_poll(&mut lane, late);
    assert_eq!(lane.replied(TASK, sent, Ok(Observation::NotFound), sent), Follows::Nothing);
}

#[test]
fn a_deadline_gets_one_last_look_and_then_ends_the_task() {
    let mut lane = ready(60_000);
    let (mut now, mut looked) = (Steady(0), Steady(0));
    loop {
        match lane.next(now) {
            Step::Poll { task } => {
                lane.replied(task, now, PENDING, now);
                looked = now;
            }
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Wait { until: Some(until) } => now = until,
            step => {
                assert_eq!(step, Step::GiveUp { task: TASK });
                break;
            }
        }
    }
    assert_eq!(now, Steady(60_000));
    assert!(looked >= Steady(59_500), "the last look is taken at the deadline, or just before");
    assert_eq!(lane.next(now), Step::Wait { until: None }, "its end is being stored");
    lane.gave_up(TASK, Some(Steady(90_000)), now);
    let sent = next_poll(&mut lane, now);
    assert!(sent < Steady(90_000), "the others go on waiting");
}

#[test]
fn a_deadline_passes_even_if_no_poll_can_be_had() {
    let mut lane = ready(60_000);
    let mut now = suspend(&mut lane);
    loop {
        match lane.next(now) {
            Step::GiveUp { task } => {
                assert_eq!(task, TASK);
                break;
            }
            Step::Prepare => lane.prepared(Err(suspended()), now),
            Step::Wait { until: Some(until) } => now = until,
            step => panic!("unexpected {step:?}"),
        }
    }
    assert_eq!(now, Steady(60_000).after(FINAL_POLL_WAIT));
}

#[test]
fn an_account_problem_suspends_the_lane_visibly_and_settles_nothing() {
    let mut lane = ready(3_600_000);
    let sent = suspend(&mut lane);
    let (problem, since) = lane.suspended().unwrap();
    assert_eq!((problem.reason, since), ("missing_scope", sent));
    let mut waits = Vec::new();
    let mut now = sent;
    for _ in 0..8 {
        let until = wait(&mut lane, now);
        waits.push(until.since(now).as_secs());
        now = until;
        assert_eq!(lane.next(now), Step::Prepare);
        lane.prepared(Err(suspended()), now);
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60, 60], "it backs off");
    let sent = next_poll(&mut lane, now);
    lane.replied(TASK, sent, PENDING, sent);
    assert_eq!(lane.suspended(), None, "the first answer ends it");
}

#[test]
fn a_held_lane_probes_with_one_poll() {
    let mut lane = ready(3_600_000);
    let mut now = suspend(&mut lane);
    lane.watch(TaskId(2), watched(0, 3_600_000), now);
    let mut polls = 0;
    while now < Steady(60_000) {
        match lane.next(now) {
            Step::Poll { .. } => polls += 1,
            Step::Prepare => lane.prepared(Ok(()), now),
            Step::Wait { until } => now = until.unwrap(),
            step => panic!("unexpected {step:?}"),
        }
    }
    assert_eq!(polls, 1, "the second waits for the first one's answer");
}

#[test]
fn one_refused_token_is_replaced_and_a_second_in_a_row_suspends() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    lane.replied(TASK, sent, Err(PollError::Token), sent);
    assert_eq!(lane.suspended(), None);
    let sent = next_poll(&mut lane, sent);
    assert!(sent <= Steady(2_000), "it goes on at once: {sent:?}");
    let later = sent.after(Duration::from_secs(4));
    lane.replied(TASK, sent, Err(PollError::Token), later);
    assert_eq!(lane.suspended().unwrap().0.reason, "token_refused");
}

#[test]
fn a_failing_upstream_slows_the_lane_down_and_suspends_nothing() {
    let mut lane = ready(3_600_000);
    let mut now = Steady(0);
    let mut polls = 0;
    while now < Steady(120_000) {
        now = next_poll(&mut lane, now);
        polls += 1;
        assert_eq!(lane.replied(TASK, now, Err(transient()), now), Follows::Nothing);
    }
    assert_eq!(lane.suspended(), None);
    let unanswered = lane.unanswered().unwrap();
    assert_eq!((unanswered.polls, unanswered.error.as_str()), (polls, "reset"));
    assert!((20..40).contains(&polls), "{polls} polls in two minutes of failure");
    assert_eq!(lane.watched(TASK).unwrap().polls, 0, "a poll without an answer observed nothing");
}

#[test]
fn a_foreign_429_is_waited_out() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    let reset = Some(Duration::from_secs(20));
    lane.replied(TASK, sent, Err(PollError::Quota { reset }), sent);
    assert_eq!(next_poll(&mut lane, sent).since(sent), Duration::from_secs(20));
}

#[test]
fn a_task_that_nobody_waits_for_is_not_polled() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    lane.forget(TASK);
    let late = Ok(Observation::Settled(Outcome::succeeded(Ids::default())));
    assert_eq!(lane.replied(TASK, sent, late, sent), Follows::Nothing);
    assert_eq!(lane.next(Steady(100_000)), Step::Wait { until: None });
}

#[test]
fn an_answer_to_a_task_that_was_watched_anew_meanwhile_does_not_plan_it_twice() {
    let mut lane = ready(3_600_000);
    let sent = next_poll(&mut lane, Steady(0));
    lane.forget(TASK);
    lane.watch(TASK, watched(1_000, 3_600_000), Steady(1_000));
    lane.replied(TASK, sent, PENDING, Steady(1_100));
    let sent = next_poll(&mut lane, Steady(1_100));
    lane.replied(TASK, sent, PENDING, sent);
    let again = next_poll(&mut lane, sent);
    assert!(again > sent, "a second plan of it would be due at once");
}
