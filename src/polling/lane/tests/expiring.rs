//! Tasks whose time is over, alone and by the ten thousand.

use std::time::Instant;

use super::world::{Says, World};
use super::*;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60_000;
const RTT: i64 = 5;

#[test]
fn a_failing_task_past_its_deadline_is_not_polled_at_the_speed_of_the_round_trip() {
    let mut world = World::new(RTT);
    let healthy = world.add(Says::Settles(10 * MINUTE));
    let failing = world.add_until(MINUTE, Says::Fails(transient()));
    world.run(2 * MINUTE);
    let polls = world.polls_of(&[failing], MINUTE, 2 * MINUTE);
    assert_eq!(polls, 1, "its final poll: its wait is longer than what is left");
    let ended = world.given_up[&failing] - MINUTE;
    assert!((5_000..5_100).contains(&ended), "{ended} ms after its deadline");
    assert!(world.polls_of(&[healthy], MINUTE, 2 * MINUTE) > 0);
}

#[test]
fn a_final_poll_that_fails_for_the_first_time_is_retried_until_the_wait_is_over() {
    let mut world = World::new(RTT);
    let id = world.add_until(MINUTE, Says::Settles(10 * MINUTE));
    world.outage = Some((MINUTE - 3 * SECOND, 2 * MINUTE, 100));
    world.run(2 * MINUTE);
    let polls = world.polls_of(&[id], MINUTE, 2 * MINUTE);
    assert!((2..=5).contains(&polls), "{polls} polls after the deadline");
    assert!((65_000..65_100).contains(&world.given_up[&id]), "{:?}", world.given_up);
}

#[test]
fn a_final_poll_that_finds_it_settled_is_its_outcome() {
    let mut world = World::new(RTT);
    let id = world.add_until(MINUTE, Says::Settles(MINUTE - 600));
    world.run(2 * MINUTE);
    assert!(world.told.contains_key(&id) && world.given_up.is_empty());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long the work takes is what is tested")]
fn forty_thousand_that_expire_together_end_in_order_few_at_a_time_and_take_little_work() {
    const TASKS: usize = 40_000;
    let mut world = World::new(RTT);
    let all: Vec<TaskId> =
        (0..TASKS).map(|_| world.add_until(MINUTE, Says::Settles(100 * MINUTE))).collect();
    let other = world.add(Says::Settles(MINUTE + 2 * SECOND));
    world.run(MINUTE - 1);
    let begun = Instant::now();
    world.run(2 * MINUTE);
    let took = begun.elapsed();
    assert_eq!(world.given_up.len(), all.len());
    let last = world.given_up.values().max().unwrap() - MINUTE;
    assert!(last < 15 * SECOND, "the last one ended {last} ms after its deadline");
    assert!(took < Duration::from_secs(20), "{took:?}: a step costs more the more there are");
    let late = world.told[&other] - (MINUTE + 2 * SECOND);
    assert!(late < 15 * SECOND, "another task is told {late} ms after it settled");
}

#[test]
fn one_step_works_on_a_few_expired_tasks_however_many_there_are() {
    let mut lane = ready(3_600_000);
    for id in 10..10_010 {
        lane.watch(TaskId(id), watched(0, 1_000), Steady(0));
    }
    // The first calls find some each; the lane asks to be called again at once.
    let mut calls = 0;
    while lane.deadlines.wake_at() == Some(Steady(1_000)) {
        let before = lane.deadlines.finals();
        let step = lane.next(Steady(1_000));
        calls += 1;
        if let Step::Reserve { polls } = step {
            lane.reserved(polls, Steady(1_000));
        }
        assert!(lane.deadlines.finals() - before <= expiry::EXPIRED_MAX);
    }
    assert!(calls >= 10_000 / expiry::EXPIRED_MAX, "{calls} calls");
}

#[test]
fn an_end_that_the_store_cannot_take_holds_up_no_other() {
    // Nothing is reserved, so that no final poll can be had.
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    for id in 0..=i64::try_from(expiry::GIVE_UPS_MAX).unwrap() {
        lane.watch(TaskId(id), watched(0, 1_000), Steady(0));
    }
    let over = Steady(1_000).after(FINAL_POLL_WAIT);
    let mut given_up = Vec::new();
    for now in [Steady(1_000), over] {
        for _ in 0..100 {
            if let Step::GiveUp { task } = lane.next(now) {
                given_up.push(task);
            }
        }
    }
    assert_eq!(given_up.len(), expiry::GIVE_UPS_MAX, "as many at once");
    for task in &given_up {
        lane.not_ended(*task, over);
    }
    assert!(matches!(lane.next(over), Step::GiveUp { task } if !given_up.contains(&task)));
    let later = over.after(END_AGAIN);
    assert!(matches!(lane.next(later), Step::GiveUp { .. }), "and the others are tried again");
}
