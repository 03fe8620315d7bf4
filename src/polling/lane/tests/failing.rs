//! Tasks that fail beside healthy ones: whose fault it is, and what it costs the others.

use super::world::{Says, World};
use super::*;

const RTT: i64 = 100;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60_000;

fn transient_of(class: TransientClass) -> PollError {
    PollError::Transient { class, detail: class.name().into() }
}

/// Every way in which a poll may get no answer.
fn errors() -> Vec<PollError> {
    vec![
        transient_of(TransientClass::Network),
        transient_of(TransientClass::Timeout),
        transient_of(TransientClass::Upstream),
        transient_of(TransientClass::Unreadable),
        suspended(),
        PollError::Token,
        PollError::Quota { reset: Some(Duration::from_secs(1)) },
    ]
}

#[test]
fn whatever_way_ten_tasks_fail_sixty_healthy_ones_are_told_within_six_seconds() {
    for error in errors() {
        for failing_first in [true, false] {
            let mut world = World::new(RTT);
            let mut ten = Vec::new();
            let mut sixty = Vec::new();
            for group in [failing_first, !failing_first] {
                if group {
                    ten.extend((0..10).map(|_| world.add(Says::Fails(error.clone()))));
                } else {
                    let settles = (0..60).map(|n| Says::Settles(5 * SECOND + n * 100));
                    sixty.extend(settles.map(|says| world.add(says)));
                }
            }
            world.run(MINUTE);
            let what = format!("{error:?}, failing first: {failing_first}");
            assert!(world.latest(&sixty) < 6 * SECOND, "{what}: {} ms", world.latest(&sixty));
            assert!(!world.suspended_ever, "{what}");
            let polls = world.polls_of(&ten, 0, MINUTE);
            assert!(polls <= 10 * 10, "{what}: {polls} polls of ten failing tasks in a minute");
            assert_eq!(world.warned.len(), 10, "{what}: each is told of once");
        }
    }
}

#[test]
fn thousands_of_failing_tasks_get_a_quarter_of_the_quota_and_the_others_do_not_notice() {
    let latest = |error: &PollError, failing: usize| {
        let mut world = World::new(RTT);
        let (mut ill, mut healthy) = (Vec::new(), Vec::new());
        for n in 0..27 * 60 {
            world.run(n * SECOND);
            healthy.push(world.add(Says::Settles((n + 8 + n % 5) * SECOND)));
            // A client that registers what does not exist, three a second.
            if n >= 5 * 60 {
                let left = (failing - ill.len()).min(3);
                ill.extend((0..left).map(|_| world.add(Says::Fails(error.clone()))));
            }
        }
        world.run(28 * MINUTE);
        let polls = |n: i64| world.polls_of(&ill, n * MINUTE, (n + 1) * MINUTE);
        let most = (23..27).map(polls).max().unwrap();
        assert!(most <= 250, "{error:?}: {most} polls a minute go to {failing} failing tasks");
        assert!(!world.suspended_ever, "{error:?}");
        assert!(world.warned.len() <= 10 * 24, "{} warnings", world.warned.len());
        world.latest(&healthy[6 * 60..])
    };
    for error in errors() {
        let (none, many) = (latest(&error, 0), latest(&error, 3_000));
        assert!(many < 6 * SECOND, "{error:?}: {none} ms beside none, {many} ms beside 3,000");
    }
}

#[test]
fn one_tasks_account_code_has_another_task_asked_at_once_and_is_warned_of_once() {
    let mut world = World::new(RTT);
    let one = world.add(Says::FailsFrom(20 * SECOND, suspended()));
    let other = world.add(Says::Settles(10 * MINUTE));
    world.run(5 * MINUTE);
    let failed = world.polls.iter().find(|(at, task)| *task == one && *at >= 20 * SECOND).unwrap();
    let said = failed.0 + RTT;
    let asked = world.polls.iter().find(|(at, task)| *task == other && *at + RTT >= said).unwrap();
    assert!(asked.0 - said < 50, "asked {} ms later", asked.0 - said);
    assert!(!world.suspended_ever);
    assert_eq!(world.warned, [one]);
    let status = world.lane.task_status(one).unwrap();
    let failure = status.failure.unwrap();
    assert_eq!(failure.error, suspended());
    assert!((8..=14).contains(&failure.polls), "{failure:?}");
    assert!(status.next_poll_at > Some(Steady(world.now)), "{status:?}");
    assert_eq!(world.lane.task_status(other).unwrap().failure.map(|f| f.polls), None);
}

#[test]
fn an_account_that_cannot_poll_is_suspended_by_a_few_polls_of_many_tasks() {
    for error in [suspended(), PollError::Token] {
        let mut world = World::new(RTT);
        for _ in 0..60 {
            world.add(Says::FailsFrom(MINUTE, error.clone()));
        }
        world.run(MINUTE);
        assert!(!world.suspended_ever);
        world.run(MINUTE + 20 * SECOND);
        assert!(world.lane.suspended().is_some(), "{error:?}");
        let before = world.polls.len();
        world.run(MINUTE + 80 * SECOND);
        assert!(world.polls.len() - before < 10, "{error:?}: {}", world.polls.len() - before);
    }
}

#[test]
fn polls_into_a_suspended_account_are_of_one_task_after_the_other() {
    let mut world = World::new(RTT);
    for _ in 0..20 {
        world.add(Says::Fails(suspended()));
    }
    world.run(10 * MINUTE);
    let late: Vec<TaskId> =
        world.polls.iter().filter(|(at, _)| *at > MINUTE).map(|(_, task)| *task).collect();
    let mut distinct = late.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(late.len() >= 8, "{late:?}");
    assert_eq!(distinct.len(), late.len(), "some are asked twice before others: {late:?}");
}

#[test]
fn after_an_outage_all_tasks_are_polled_as_fast_as_the_quota_allows() {
    let mut world = World::new(RTT);
    let all: Vec<TaskId> = (0..600).map(|_| world.add(Says::Settles(8 * MINUTE))).collect();
    world.outage = Some((5 * MINUTE, 15 * MINUTE, 100));
    world.run(15 * MINUTE);
    let during = world.polls_of(&all, 6 * MINUTE, 15 * MINUTE);
    assert!(during < 9 * 120, "{during} polls in 9 minutes into an upstream that is down");
    world.run(17 * MINUTE);
    let last = *world.told.values().max().unwrap() - 15 * MINUTE;
    assert_eq!(world.told.len(), all.len());
    assert!(last < 50 * SECOND, "36 s of quota took {last} ms");
}

#[test]
fn when_most_polls_failed_for_a_while_all_tasks_are_back_soon_after() {
    let mut world = World::new(RTT);
    let all: Vec<TaskId> = (0..600).map(|_| world.add(Says::Settles(20 * MINUTE))).collect();
    world.outage = Some((5 * MINUTE, 20 * MINUTE, 80));
    world.run(25 * MINUTE);
    assert_eq!(world.told.len(), all.len());
    let late = world.latest(&all);
    assert!(late < 70 * SECOND, "36 s of quota took {late} ms");
}

#[test]
fn a_task_that_is_well_again_is_polled_as_before() {
    let mut world = World::new(RTT);
    let one = world.add(Says::Settles(30 * MINUTE));
    world.add(Says::Settles(60 * MINUTE));
    world.run(MINUTE);
    let sent = Steady(world.now);
    for polls in 0..10 {
        let at = sent.after(Duration::from_secs(100 * polls));
        world.lane.answers += 1;
        world.lane.failing.failed(one, &transient(), world.lane.answers, None, at);
    }
    let wait =
        world.lane.failing.retry_at(one).unwrap().since(sent.after(Duration::from_secs(900)));
    assert_eq!(wait, Duration::from_secs(60), "it doubles up to a minute");
    world.lane.failing.answered(one);
    assert!(world.lane.task_status(one).unwrap().failure.is_none());
}
