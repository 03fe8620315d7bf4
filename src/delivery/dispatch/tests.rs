mod isolation;
mod steps;
mod world;

use self::world::{SECOND, World, to};
use super::*;

#[test]
fn what_is_due_at_the_start_is_found_by_a_scan_and_all_of_it_is_sent_once() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.add("a", "ats", 500, 0);
    world.run(1_000_000 + 5 * SECOND);
    assert_eq!(world.finished.len(), 500);
    assert_eq!(world.attempts.len(), 500, "none twice");
    assert!(world.fetched_rows_max <= 48, "{} rows at once", world.fetched_rows_max);
}

#[test]
fn what_is_due_by_another_daemons_clock_first_is_found_soon_after() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.run(1_000_000 + 100);
    world.add("a", "ats", 1, world.now + 5);
    world.hint("a");
    world.run(world.now + 1_500);
    assert_eq!(world.finished.len(), 1, "not only by the next scan");
}

#[test]
fn an_origin_is_given_one_two_four_and_at_most_its_limit_at_once() {
    let mut world = World::new();
    world.receiver("a", 100, Pulse::Alive);
    world.add("a", "ats", 500, 0);
    let mut seen = Vec::new();
    for tick in 0..6 {
        world.run(1_000_000 + tick * 100 + 50);
        seen.push(world.under_way_to("a"));
    }
    assert_eq!(seen, [1, 2, 8, 16, 16, 16], "each success doubles it");
}

#[test]
fn a_thousand_hanging_origins_do_not_delay_a_healthy_one() {
    let mut world = World::new();
    for hanging in 0..1_000 {
        let name = format!("hanging{hanging:04}");
        world.receiver(&name, 15 * SECOND, Pulse::Failing);
        world.add(&name, "ats", 50, 0);
    }
    world.receiver("healthy", 10, Pulse::Alive);
    world.add("healthy", "ats", 1, 0);
    // The healthy one is known to be alive, as it is in a daemon that has been running.
    let now = world.now();
    let cool_down = world.dispatch.limits.cool_down;
    world.dispatch.with(&to("healthy"), now, |healthy| {
        healthy.breaker.heard(Pulse::Alive, cool_down, now.steady);
    });
    world.run(1_000_000 + 60 * SECOND);
    let began = world.now;
    let unproven = world.dispatch.unproven.total();
    assert!((200..=UNPROVEN_MAX / 2).contains(&unproven), "{unproven}: half is for other clients");
    world.add("healthy", "ats", 200, began);
    world.hint("healthy");
    world.run(began + SECOND);
    let done = world.finished.iter().filter(|(at, origin, _)| *at > began && origin == "healthy");
    assert_eq!(done.count(), 200);
    let hanging = world.under_way.iter().filter(|(_, to, _)| to.origin.starts_with("hanging"));
    assert_eq!(world.dispatch.unproven.total(), hanging.count(), "places of those that hang");
}

#[test]
fn twenty_hanging_origins_do_not_delay_one_that_is_new() {
    let mut world = World::new();
    for hanging in 0..20 {
        let name = format!("hanging{hanging:02}");
        world.receiver(&name, 15 * SECOND, Pulse::Failing);
        world.add(&name, "ats", 50, 0);
    }
    world.receiver("new", 10, Pulse::Alive);
    world.add("new", "ats", 1, 0);
    world.run(1_000_000 + 20);
    assert_eq!(world.finished.len(), 1);
}

#[test]
fn behind_an_open_breaker_nothing_is_attempted_but_probes() {
    let mut world = World::new();
    world.receiver("down", 10, Pulse::Failing);
    world.add("down", "ats", 1_000, 0);
    world.run(1_000_000 + 30 * SECOND);
    // Five to open it, then probes after cool-downs of 1, 2, 4, 4, … seconds (four fifths of the
    // schedule's 5 s at most), each taking 10 ms.
    let times: Vec<i64> = world.attempts.iter().map(|(at, _, _)| *at).collect();
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..8], [10, 10, 10, 10, 1_010, 2_010, 4_010, 4_010]);
    assert_eq!(times.len(), 13);
    world.receiver("down", 10, Pulse::Alive);
    world.run(1_000_000 + 40 * SECOND);
    assert_eq!(world.finished.len(), 1_000, "and once it is back, everything goes");
}

#[test]
fn an_origin_says_how_it_is_doing() {
    let mut world = World::new();
    world.receiver("down", 10, Pulse::Failing);
    world.receiver("fine", 10, Pulse::Alive);
    world.add("down", "ats", 9, 0);
    world.add("fine", "ats", 1, 0);
    world.run(1_000_000 + 25);
    let words = |world: &World| -> Vec<&'static str> {
        world.dispatch.origins(world.now()).iter().map(|it| it.state.name()).collect()
    };
    assert_eq!(words(&world), ["unproven", "ok"]);
    world.run(1_000_000 + 500);
    assert_eq!(words(&world), ["held", "ok"]);
    let down = world.dispatch.origins(world.now()).remove(0);
    // The fifth failure, after 5 × 10 ms, opened it for a second.
    assert_eq!(down.held_since, Some(Timestamp(1_000_050)));
    assert_eq!(down.next_probe_at, Some(Timestamp(1_001_050)));
    assert_eq!((down.failures_in_a_row, down.room, down.under_way), (5, 0, 0));
    world.receiver("down", 10, Pulse::Alive);
    world.run(1_000_000 + 2_000);
    assert_eq!(words(&world), ["ok", "ok"]);
    assert_eq!(world.dispatch.origins(world.now())[0].held_since, None);
}

#[test]
fn a_lone_delivery_keeps_its_schedule_however_often_it_fails() {
    let mut world = World::new();
    world.receiver("down", 10, Pulse::Failing);
    world.add("down", "ats", 1, 0);
    world.run(1_000_000 + 100 * SECOND);
    let times: Vec<i64> = world.attempts.iter().map(|(at, _, _)| *at).collect();
    assert!(times.len() >= 19);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 5 * SECOND + 10), "{times:?}");
}

#[test]
fn clients_at_one_origin_share_it() {
    let mut world = World::new();
    world.receiver("a", 100, Pulse::Alive);
    world.add("a", "flood", 12, 0);
    world.add("a", "ats", 3, 1);
    world.run(1_000_000 + 350);
    let finished: Vec<&str> = world.finished.iter().map(|(_, _, id)| id.as_str()).collect();
    assert!(finished.iter().filter(|id| id.contains("ats")).count() >= 2, "{finished:?}");
}

#[test]
fn origins_take_turns() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.receiver(name, 10, Pulse::Alive);
        world.add(name, "ats", 10, 0);
    }
    world.run(1_000_000 + 5);
    let first: Vec<&str> = world.attempts.iter().map(|(_, origin, _)| origin.as_str()).collect();
    assert_eq!(first, ["a", "b", "c"]);
}

#[test]
fn a_row_due_later_is_sent_when_it_is_due_even_if_only_the_store_knew() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    for due_in in [2, 9, 21] {
        world.add("a", "ats", 1, 1_000_000 + due_in * SECOND);
    }
    world.run(1_000_000 + 25 * SECOND);
    let late: Vec<i64> = world.attempts.iter().map(|(at, _, _)| at - 1_000_000).collect();
    assert_eq!(late, [2 * SECOND, 9 * SECOND, 21 * SECOND]);
}

#[test]
fn without_hints_a_new_row_is_found_by_the_next_scan() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.run(1_000_000 + SECOND);
    world.add("a", "ats", 1, 1_001_000);
    world.run(1_000_000 + 31 * SECOND);
    assert_eq!(world.finished.len(), 1);
    assert!(world.scans <= 3, "{} scans", world.scans);
}

#[test]
fn lost_hints_lead_to_a_scan_at_once() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.run(1_000_000 + SECOND);
    world.add("a", "ats", 1, 1_001_000);
    world.dispatch.rescan();
    world.run(1_000_000 + SECOND + 10);
    assert_eq!(world.finished.len(), 1);
}

#[test]
fn a_scan_goes_on_where_it_was_interrupted_and_begins_anew_where_hints_were_lost() {
    let mut world = World::new();
    let place = |n: i32| DestinationPlace::after(&Destination::new("ats", n.to_string()));
    let page = |n| DestinationPage { found: Vec::new(), next: Some(place(n)) };
    let scan = |dispatch: &mut Dispatch, now| match dispatch.next(now) {
        Step::FetchAsked { .. } => {
            dispatch.fetched_asked(Vec::new());
            dispatch.next(now)
        }
        step => step,
    };
    let at = |after| Step::Scan { after };
    let mut now = world.now();
    assert_eq!(scan(&mut world.dispatch, now), at(DestinationPlace::default()));
    world.dispatch.scanned(page(1), now);
    assert_eq!(scan(&mut world.dispatch, now), at(place(1)));
    world.dispatch.scan_failed(now);
    now.steady = now.steady.after(Duration::from_secs(1));
    assert_eq!(scan(&mut world.dispatch, now), at(place(1)), "read again");
    world.dispatch.rescan();
    world.dispatch.scanned(page(2), now);
    assert_eq!(scan(&mut world.dispatch, now), at(place(2)), "to the end first");
    world.dispatch.scanned(DestinationPage::default(), now);
    assert_eq!(scan(&mut world.dispatch, now), at(DestinationPlace::default()));
    world.dispatch.scanned(DestinationPage::default(), now);
    assert!(matches!(scan(&mut world.dispatch, now), Step::Wait { .. }));
}

#[test]
fn a_store_that_fails_is_left_alone_for_longer_and_longer() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.store_is_up = false;
    world.add("a", "ats", 3, 0);
    world.hint("a");
    let mut tries = 0;
    for _ in 0..60 {
        world.run(world.now + SECOND);
        tries = world.dispatch.store.failures;
    }
    assert!((7..=12).contains(&tries), "{tries} tries in a minute");
    world.store_is_up = true;
    world.run(world.now + 16 * SECOND);
    assert_eq!(world.finished.len(), 3);
}

#[test]
fn a_row_that_ended_while_its_page_was_read_is_not_sent_again() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.add("a", "ats", 2, 0);
    world.run(1_000_000 + 5);
    let now = world.now();
    // The second page is asked for while the first row is under way, and holds it.
    world.hint("a");
    let stale = world.due(&to("a"), 9);
    let receiver = world.dispatch.receivers.get_mut(&to("a")).unwrap();
    receiver.drop_page();
    let asked = receiver.fetch(16, now.steady);
    world.dispatch.fetching += 1;
    world.dispatch.ended(&to("a"), "reg_ats_0", Pulse::Alive, Ended::Finished, now);
    world.dispatch.fetched(&to("a"), stale, asked.max(9), now);
    let mut sent = Vec::new();
    while let Step::Attempt { delivery, .. } = world.dispatch.next(now) {
        sent.push(delivery.registration_id);
    }
    assert_eq!(sent, ["reg_ats_1"]);
}

#[test]
fn a_row_that_changed_under_way_is_looked_at_again() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.add("a", "ats", 1, 0);
    world.run(1_000_000 + 5);
    let now = world.now();
    world.dispatch.ended(&to("a"), "reg_ats_0", Pulse::Alive, Ended::Changed, now);
    assert!(matches!(world.dispatch.next(now), Step::Fetch { .. }));
}

#[test]
fn what_it_remembers_of_idle_origins_is_bounded() {
    let mut world = World::new();
    for index in 0..IDLE_MAX + 100 {
        let name = format!("origin{index:05}");
        world.receiver(&name, 1, Pulse::Alive);
        world.add(&name, "ats", 1, 0);
    }
    world.run(1_000_000 + 60 * SECOND);
    assert_eq!(world.finished.len(), IDLE_MAX + 100);
    assert_eq!(world.dispatch.receivers.len(), IDLE_MAX);
    assert_eq!(world.dispatch.origins.len(), IDLE_MAX);
    assert!(world.dispatch.alarms.is_empty() && world.dispatch.cooling.is_empty());
    assert_eq!((world.dispatch.under_way.total(), world.dispatch.unproven.total()), (0, 0));
}
