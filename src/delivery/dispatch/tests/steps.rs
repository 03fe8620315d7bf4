//! Single steps, where a history in virtual time would hide what went wrong.

use super::super::queues::StoreHold;
use super::super::receiver::WAKES_MAX;
use super::*;

fn now_at(millis: i64) -> Now {
    Now { wall: Timestamp(1_000_000 + millis), steady: Steady(millis) }
}

const NOW: Now = Now { wall: Timestamp(1_000_000), steady: Steady(0) };

fn row(to: &Destination, id: &str) -> Delivery {
    let row = world::Row { id: id.into(), path: "/", due_at: 0, asked: false };
    World::delivery(to, &row)
}

fn limits(per_origin: u32) -> Limits {
    Limits { per_origin, cool_down: CoolDown::within(&[Duration::from_secs(5)]) }
}

/// A dispatcher that has scanned an empty store, and found that nobody asked for anything.
fn quiet(per_origin: u32) -> Dispatch {
    let mut dispatch = Dispatch::new(limits(per_origin));
    assert!(matches!(dispatch.next(NOW), Step::Scan { .. }));
    dispatch.scanned(DestinationPage::default(), NOW);
    assert_eq!(dispatch.next(NOW), Step::FetchAsked { limit: ASKED_ROWS });
    dispatch.fetched_asked(Vec::new());
    assert!(matches!(dispatch.next(NOW), Step::Wait { .. }));
    dispatch
}

fn waits_until(step: &Step) -> Option<Steady> {
    let Step::Wait { until } = step else { panic!("{step:?}") };
    *until
}

#[test]
fn a_higher_limit_of_an_origin_is_used_at_once() {
    let mut world = World::new();
    world.dispatch.limits = limits(2);
    world.receiver("a", 100, Pulse::Alive);
    world.add("a", "ats", 500, 0);
    world.run(1_000_000 + 450);
    assert_eq!(world.under_way_to("a"), 2);
    let now = world.now();
    world.dispatch.configure(limits(6), now);
    world.run(world.now);
    assert_eq!(world.under_way_to("a"), 6);
}

#[test]
fn what_is_due_later_is_not_read_before() {
    let mut dispatch = quiet(16);
    dispatch
        .scanned(DestinationPage { found: vec![(to("a"), Timestamp(1_007_000))], next: None }, NOW);
    assert_eq!(waits_until(&dispatch.next(NOW)), Some(Steady(7_000)));
}

#[test]
fn a_scan_that_failed_is_repeated_after_half_a_second() {
    let mut dispatch = Dispatch::new(limits(16));
    assert!(matches!(dispatch.next(NOW), Step::Scan { .. }));
    dispatch.scan_failed(NOW);
    assert_eq!(waits_until(&dispatch.next(NOW)), Some(Steady(500)));
    let steps = [dispatch.next(now_at(500)), dispatch.next(now_at(500))];
    assert!(steps.iter().any(|step| matches!(step, Step::Scan { .. })), "{steps:?}");
}

#[test]
fn what_a_person_asked_for_and_could_not_be_read_is_read_after_half_a_second() {
    let mut dispatch = quiet(16);
    dispatch.asked();
    assert!(matches!(dispatch.next(NOW), Step::FetchAsked { .. }));
    dispatch.fetch_asked_failed(NOW);
    assert_eq!(waits_until(&dispatch.next(NOW)), Some(Steady(500)));
    assert!(matches!(dispatch.next(now_at(500)), Step::FetchAsked { .. }));
}

#[test]
fn rows_that_could_not_be_read_are_read_once_the_store_answers_anything() {
    let mut dispatch = Dispatch::new(limits(16));
    assert!(matches!(dispatch.next(NOW), Step::Scan { .. }));
    assert!(matches!(dispatch.next(NOW), Step::FetchAsked { .. }));
    dispatch.fetched_asked(Vec::new());
    dispatch.due(&to("a"), NOW);
    assert!(matches!(dispatch.next(NOW), Step::Fetch { .. }));
    dispatch.fetch_failed(&to("a"), NOW);
    assert_eq!(dispatch.fetching, 0);
    assert_eq!(waits_until(&dispatch.next(NOW)), Some(Steady(500)), "it is left alone");
    dispatch.scanned(DestinationPage::default(), now_at(100));
    let step = dispatch.next(now_at(100));
    assert!(matches!(&step, Step::Fetch { to: there, .. } if *there == to("a")), "{step:?}");
}

#[test]
fn after_an_answer_a_store_that_fails_is_asked_again_as_soon_as_at_first() {
    let mut store = StoreHold::default();
    let mut waits = Vec::new();
    for _ in 0..7 {
        store.failed(Steady(0));
        waits.push(store.until.unwrap().0);
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
    store.answered();
    assert_eq!(store.until, None);
    store.failed(Steady(0));
    assert_eq!(store.until, Some(Steady(500)));
}

#[test]
fn attempts_and_pages_being_read_share_the_limit_of_the_house() {
    for (fetching, full) in [(24, true), (23, false)] {
        let mut dispatch = quiet(16);
        (0..1_000).for_each(|n| dispatch.under_way.take(&format!("client {n}")));
        dispatch.fetching = fetching;
        dispatch.due(&to("a"), NOW);
        assert_eq!(matches!(dispatch.next(NOW), Step::Wait { .. }), full, "{fetching}");
    }
}

#[test]
fn when_half_of_the_house_is_unproven_only_those_that_are_alive_get_more() {
    let mut dispatch = quiet(16);
    (0..512).for_each(|n| dispatch.unproven.take(&format!("client {n}")));
    dispatch.due(&to("new"), NOW);
    assert!(matches!(dispatch.next(NOW), Step::Wait { .. }));
    let cool_down = dispatch.limits.cool_down;
    dispatch.with(&to("alive"), NOW, |receiver| {
        receiver.breaker.heard(Pulse::Alive, cool_down, NOW.steady);
        receiver.due_now();
    });
    let step = dispatch.next(NOW);
    assert!(matches!(&step, Step::Fetch { to: there, .. } if *there == to("alive")), "{step:?}");
}

#[test]
fn nothing_is_read_for_an_origin_that_became_full_before_its_turn() {
    let mut dispatch = quiet(1);
    let (first, second) = (Destination::new("crm", "a"), to("a"));
    dispatch.due(&second, NOW);
    dispatch.asked();
    assert!(matches!(dispatch.next(NOW), Step::FetchAsked { .. }));
    dispatch.fetched_asked(vec![row(&first, "reg_1")]);
    assert!(matches!(dispatch.next(NOW), Step::Attempt { .. }));
    assert!(matches!(dispatch.next(NOW), Step::Wait { .. }));
    dispatch.ended(&first, "reg_1", Pulse::Alive, Ended::Finished, NOW);
    let step = dispatch.next(NOW);
    assert!(matches!(&step, Step::Fetch { to: there, .. } if *there == second), "{step:?}");
}

#[test]
fn what_persons_asked_for_beyond_the_limit_is_read_again_when_an_attempt_is_over() {
    let mut asked = Asked::new();
    asked.look();
    assert!(asked.begin_reading());
    asked.read((0..10).map(|n| row(&to("a"), &format!("reg_{n}"))).collect());
    let taken = std::iter::from_fn(|| asked.take(|_| false)).count();
    assert_eq!(taken, 8, "half of the places");
    assert!(!asked.begin_reading(), "not before a place is free");
    asked.ended("reg_0", "ats", true);
    assert!(asked.begin_reading());
    asked.read(Vec::new());
    asked.look();
    asked.ended("reg_1", "ats", true);
    assert!(asked.begin_reading(), "a new wish is not lost when nothing was left over");
}

#[test]
fn a_time_that_somebody_has_said_needs_no_scan_for_what_is_due_behind_it() {
    for (said, scan) in [(&[true, false][..], false), (&[false, true], false), (&[true], true)] {
        let mut receiver = Receiver::default();
        for by_scan in said {
            receiver.wake_at(Timestamp(5), *by_scan);
        }
        receiver.fire(Timestamp(5));
        assert_eq!(receiver.fetched(Vec::new(), 32, NOW), scan, "{said:?}");
    }
}

#[test]
fn so_many_due_times_are_remembered_and_the_latest_is_forgotten_first() {
    let mut receiver = Receiver::default();
    let max = i64::try_from(WAKES_MAX).unwrap();
    (0..=max).rev().for_each(|at| receiver.wake_at(Timestamp(at), false));
    let mut remembered = Vec::new();
    while let Some(at) = receiver.earliest_wake() {
        remembered.push(at.0);
        receiver.fire(at);
    }
    assert_eq!(remembered, (0..max).collect::<Vec<_>>());
}

#[test]
fn those_that_are_alive_and_those_nobody_can_say_of_take_turns() {
    let mut dispatch = quiet(16);
    let cool_down = dispatch.limits.cool_down;
    for name in ["alive1", "alive2"] {
        dispatch.with(&to(name), NOW, |receiver| {
            receiver.breaker.heard(Pulse::Alive, cool_down, NOW.steady);
            receiver.due_now();
        });
    }
    dispatch.due(&to("new1"), NOW);
    dispatch.due(&to("new2"), NOW);
    let order: Vec<String> = std::iter::from_fn(|| match dispatch.next(NOW) {
        Step::Fetch { to, .. } => Some(to.origin),
        _ => None,
    })
    .collect();
    assert_eq!(order, ["alive1", "new1", "alive2", "new2"]);
}

#[test]
fn what_a_scan_found_due_makes_one_look_for_what_is_due_behind_it() {
    let mut receiver = Receiver::default();
    receiver.found_due();
    assert!(receiver.fetched(Vec::new(), 32, NOW));
}

#[test]
fn what_a_hint_told_of_is_looked_for_a_moment_later_again_among_rows_that_are_due() {
    let fetched = |hinted: bool, asked| {
        let mut receiver = Receiver::default();
        if hinted {
            receiver.due_now();
        }
        receiver.fetched(vec![row(&to("a"), "reg_1")], asked, NOW);
        receiver.earliest_wake()
    };
    assert_eq!(fetched(true, 32), Some(NOW.wall.after(Duration::from_secs(1))));
    assert_eq!(fetched(true, 1), None, "the rest is read anyway");
    assert_eq!(fetched(false, 32), None);
}

#[test]
fn a_page_is_read_again_once_it_is_older_than_a_second() {
    for (age, fresh) in [(1_000, true), (1_001, false)] {
        let mut receiver = Receiver::default();
        receiver.fetched(vec![row(&to("a"), "reg_1")], 32, NOW);
        assert_eq!(receiver.take(Steady(age)).is_some(), fresh);
        assert_eq!(receiver.wants_rows(), !fresh);
    }
    let mut empty = Receiver::default();
    empty.drop_page();
    assert!(!empty.wants_rows());
}

#[test]
fn what_a_person_asked_for_leaves_the_page_and_counts_as_asked_only() {
    let mut receiver = Receiver::default();
    let rows = ["reg_1", "reg_2"].map(|id| row(&to("a"), id));
    receiver.fetched(rows.to_vec(), 32, NOW);
    receiver.begin_asked(&rows[0]);
    assert_eq!(receiver.take(Steady(0)).unwrap().registration_id, "reg_2");
    assert!(!receiver.ended("reg_1").unwrap().unproven);
    assert!(receiver.ended("reg_2").unwrap().unproven);
}

#[test]
fn an_answer_to_an_attempt_from_before_it_opened_is_no_probe_unless_a_person_asked() {
    for asked in [false, true] {
        let mut receiver = Receiver::default();
        let cool_down = limits(16).cool_down;
        for _ in 0..5 {
            receiver.heard(Pulse::Failing, false, cool_down, NOW);
        }
        let turned = receiver.heard(Pulse::Alive, asked, cool_down, NOW);
        assert_eq!(turned, asked.then_some(Turned::Back));
    }
}
