//! What is counted while tasks are under way, being settled, or being given up.

use super::*;

const HOUR: i64 = 3_600_000;

fn lane_of(tasks: i64, give_up_at: i64) -> Lane {
    let mut lane = Lane::new(QuotaLimits::default(), GRACE, Duration::from_millis(10));
    (0..tasks).for_each(|id| lane.watch(TaskId(id), watched(0, give_up_at), Steady(0)));
    lane
}

/// Sends so many polls.
fn poll(lane: &mut Lane, polls: usize) -> Vec<(TaskId, Steady)> {
    let (mut now, mut sent) = (Steady(0), Vec::new());
    while sent.len() < polls {
        match lane.next(now) {
            Step::Poll { task } => sent.push((task, now)),
            Step::Wait { until } => now = until.unwrap(),
            Step::Reserve { polls } => lane.reserved(polls, now),
            Step::Prepare => lane.prepared(Ok(()), now),
            step @ Step::GiveUp { .. } => panic!("{step:?}"),
        }
    }
    sent
}

fn settle(lane: &mut Lane, tasks: &[(TaskId, Steady)]) {
    for (task, sent) in tasks {
        let settled = Ok(Observation::Settled(Outcome::succeeded(Ids::default())));
        assert!(matches!(lane.replied(*task, *sent, settled, *sent), Follows::Settle(_)));
    }
}

#[test]
fn what_an_earlier_owner_may_have_spent_counts() {
    let mut lane = lane_of(1, HOUR);
    lane.restore(&[(Steady(0), 8)], Steady(0));
    assert_eq!(lane.quota().used(Steady(0)), (8, 8));
}

#[test]
fn nothing_is_reserved_while_no_task_waits_for_a_poll() {
    let mut lane = lane_of(5, HOUR);
    let last = poll(&mut lane, 5)[4].1;
    assert!(lane.quota().reservation_wanted().is_some());
    assert_eq!(lane.next(last), Step::Wait { until: Some(Steady(HOUR)) });
}

#[test]
fn outcomes_being_stored_count_until_they_are_stored_or_refused() {
    let mut lane = lane_of(4, HOUR);
    let sent = poll(&mut lane, 4);
    settle(&mut lane, &sent);
    assert_eq!((lane.settling, lane.under_way), (4, 0));
    lane.forget(sent[0].0);
    assert_eq!(lane.settling, 3);
    lane.not_ended(sent[1].0, Steady(5_000));
    assert_eq!(lane.settling, 2);
    assert!(!lane.is_ending(sent[1].0) && lane.is_ending(sent[2].0));
    let again = lane.task_status(sent[1].0).unwrap().next_poll_at;
    assert_eq!(again, Some(Steady(65_000)), "a minute later");
}

#[test]
fn tasks_being_given_up_count_until_that_is_stored_or_refused() {
    let mut lane = lane_of(4, 0);
    let now = Steady(5_000);
    let _ = lane.next(Steady(0));
    let given_up: Vec<TaskId> = std::iter::from_fn(|| match lane.next(now) {
        Step::GiveUp { task } => Some(task),
        _ => None,
    })
    .collect();
    assert_eq!((given_up.len(), lane.giving_up), (4, 4));
    lane.forget(given_up[0]);
    assert_eq!(lane.giving_up, 3);
    lane.gave_up(given_up[1], Some(Steady(HOUR)), now);
    assert_eq!(lane.giving_up, 2);
    lane.not_ended(given_up[2], now);
    assert_eq!(lane.giving_up, 1);
    let ending: Vec<bool> = given_up.iter().map(|task| lane.is_ending(*task)).collect();
    assert_eq!(ending, [false, false, false, true]);
}
