use super::*;
use crate::source::{AccountProblem, TransientClass};

const MINUTE: i64 = 60_000;

/// A poll of this task gets no answer, at a time at which another task is answered.
fn fail_with(failing: &mut Failing, task: i64, error: &PollError, answers: u64, now: i64) -> Fault {
    failing.failed(TaskId(task), error, answers, Some(Steady(now)), Steady(now))
}

fn fail(failing: &mut Failing, task: i64, answers: u64, now: i64) -> Fault {
    let error = PollError::Transient { class: TransientClass::Network, detail: "reset".into() };
    fail_with(failing, task, &error, answers, now)
}

/// A task that has failed so often by itself, the last time then, and waits for its retry.
fn own(failing: &mut Failing, task: i64, strikes: u64, now: i64) {
    for answers in 0..=strikes {
        fail(failing, task, answers, now);
    }
    failing.retry(TaskId(task));
}

fn warned(failing: &mut Failing) -> Vec<(i64, u64)> {
    failing.warnings().iter().map(|warning| (warning.task.0, warning.unsaid)).collect()
}

#[test]
fn a_failure_is_a_tasks_own_if_others_were_answered_since_its_last_or_at_least_lately() {
    let mut failing = Failing::default();
    assert_eq!(fail(&mut failing, 1, 1, 0), Fault::Unknown { again: false });
    assert_eq!(fail(&mut failing, 1, 1, 0), Fault::Unknown { again: true }, "no strike yet");
    assert_eq!(fail(&mut failing, 1, 2, 1_000), Fault::Own);
    let error = PollError::Token;
    let mut silent = |now| failing.failed(TaskId(1), &error, 2, Some(Steady(1_000)), Steady(now));
    assert_eq!(silent(1_000 + MINUTE - 1), Fault::Own);
    assert_eq!(silent(1_000 + MINUTE), Fault::Unknown { again: true });
}

#[test]
fn those_that_failed_least_often_go_first_and_every_fourth_is_the_one_that_is_longest_due() {
    let mut failing = Failing::default();
    own(&mut failing, 1, 3, 0);
    own(&mut failing, 2, 2, 5_000);
    (10..20).for_each(|task| own(&mut failing, task, 1, 20_000));
    assert_eq!(failing.first_own(Steady(7_999)), Some((Steady(8_000), TaskId(1))));
    let spacing = Duration::from_secs(2);
    let mut order = Vec::new();
    for n in 0..8 {
        let now = Steady(30_000 + n * 2_000);
        let (at, task) = failing.first_own(now.before(spacing)).unwrap();
        assert!(n == 0 || at == now, "the share of the quota");
        failing.sent(task, spacing, now);
        order.push(task.0);
    }
    assert_eq!(order, [10, 11, 12, 1, 13, 14, 15, 2]);
}

#[test]
fn a_task_that_failed_by_itself_and_is_answered_lets_two_others_be_retried_at_once() {
    let mut failing = Failing::default();
    (1..=5).for_each(|task| own(&mut failing, task, 1, 0));
    fail(&mut failing, 9, 1, 0);
    failing.answered(TaskId(9));
    assert_eq!(failing.first_own(Steady(0)), Some((Steady(2_000), TaskId(1))), "9 had no strike");
    failing.answered(TaskId(1));
    for task in [2, 3] {
        assert_eq!(failing.first_own(Steady(0)), Some((Steady(0), TaskId(task))));
        failing.sent(TaskId(task), Duration::from_secs(10), Steady(0));
    }
    assert_eq!(failing.first_own(Steady(0)), Some((Steady(2_000), TaskId(4))));
    // No more is earned than there are to retry.
    (6..=8).for_each(|task| own(&mut failing, task, 1, 0));
    (4..=8).for_each(|task| failing.answered(TaskId(task)));
    own(&mut failing, 10, 1, 0);
    assert_eq!(failing.first_own(Steady(0)), Some((Steady(2_000), TaskId(10))));
}

#[test]
fn a_task_that_is_forgotten_leaves_nothing() {
    let mut failing = Failing::default();
    own(&mut failing, 1, 99, 0);
    assert_eq!((failing.waiting(), failing.count_own()), (1, 1));
    failing.forget(TaskId(1));
    assert_eq!((failing.waiting(), failing.count_own()), (0, 0));
    assert!(failing.get(TaskId(1)).is_none());
}

#[test]
fn a_person_hears_of_a_task_at_its_third_failure_once() {
    let mut failing = Failing::default();
    for (strikes, wanted) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 0)] {
        fail(&mut failing, 1, strikes, 0);
        assert_eq!(failing.warnings().len(), wanted, "{strikes}");
    }
}

#[test]
fn a_person_hears_of_ten_tasks_a_minute_and_how_many_more_there_were() {
    let mut failing = Failing::default();
    let problem = AccountProblem { reason: "missing_scope", message: String::new() };
    let mut accuse = |tasks: std::ops::Range<i64>, now| {
        for task in tasks {
            fail_with(&mut failing, task, &PollError::Account(problem.clone()), 1, now);
            fail_with(&mut failing, task, &PollError::Account(problem.clone()), 2, now);
        }
        warned(&mut failing)
    };
    assert_eq!(accuse(0..13, 0), (0..10).map(|task| (task, 0)).collect::<Vec<_>>());
    assert_eq!(accuse(13..14, MINUTE - 1), []);
    assert_eq!(accuse(14..15, MINUTE), [(14, 4)]);
    assert_eq!(accuse(15..30, MINUTE), (15..24).map(|task| (task, 0)).collect::<Vec<_>>());
}
