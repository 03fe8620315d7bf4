use super::*;

fn of(client: &str) -> Destination {
    Destination::new(client, "gateway")
}

fn done(world: &World, client: &str) -> usize {
    world.finished.iter().filter(|(_, _, id)| id.contains(client)).count()
}

#[test]
fn one_clients_failing_callbacks_hold_up_no_other_client_at_a_shared_gateway() {
    let mut world = World::new();
    world.receiver("gateway", 10, Pulse::Alive);
    world.failing.insert("sick");
    world.add("gateway", "sick", 500, 0);
    world.run(1_000_000 + 10 * SECOND);
    let began = world.now;
    world.add("gateway", "ats", 10, began);
    let now = world.now();
    world.dispatch.due(&of("ats"), now);
    world.run(began + SECOND);
    assert_eq!(done(&world, "ats"), 10);
    let states: Vec<_> = world.dispatch.origins(world.now()).into_iter().collect();
    let states: Vec<_> = states.iter().map(|it| (it.client.as_str(), it.state.name())).collect();
    assert_eq!(states, [("ats", "ok"), ("sick", "held")]);
}

#[test]
fn a_client_that_is_slow_at_a_gateway_leaves_a_place_to_one_that_is_quick() {
    let mut world = World::new();
    world.receiver("gateway", 10 * SECOND, Pulse::Alive);
    world.add("gateway", "slow", 500, 0);
    world.add("gateway", "ats", 1, 0);
    world.run(1_000_000 + 100 * SECOND);
    let under_way = world.under_way_to("gateway");
    assert!((15..=16).contains(&under_way), "{under_way}");
    let began = world.now;
    world.receiver("gateway", 10, Pulse::Alive);
    world.add("gateway", "ats", 10, began);
    let now = world.now();
    world.dispatch.due(&of("ats"), now);
    world.run(began + SECOND);
    assert_eq!(done(&world, "ats"), 11);
}

#[test]
fn a_client_with_a_thousand_hanging_origins_leaves_room_to_another_that_is_new() {
    let mut world = World::new();
    for hanging in 0..1_000 {
        let name = format!("hanging{hanging:04}");
        world.receiver(&name, 15 * SECOND, Pulse::Failing);
        world.add(&name, "flood", 5, 0);
    }
    world.run(1_000_000 + 60 * SECOND);
    let began = world.now;
    for fresh in 0..20 {
        let name = format!("fresh{fresh}");
        world.receiver(&name, 10, Pulse::Alive);
        world.add(&name, "ats", 1, began);
        let now = world.now();
        world.dispatch.due(&to(&name), now);
    }
    world.run(began + SECOND);
    assert_eq!(done(&world, "ats"), 20);
}

#[test]
fn what_a_person_asks_for_goes_out_at_once_whatever_the_breaker_says_and_counts_as_the_probe() {
    let mut world = World::new();
    world.receiver("down", 10, Pulse::Failing);
    world.add("down", "ats", 100, 0);
    world.run(1_000_000 + 30 * SECOND);
    for _ in 0..20 {
        world.run(world.now + 137);
        let began = world.now;
        world.ask(&to("down"));
        world.run(began);
        assert_eq!(world.attempts.last().unwrap().0, began);
    }
    let held = world.dispatch.origins(world.now()).remove(0);
    assert!(held.next_probe_at.unwrap().since(world.now().wall) <= Duration::from_secs(4));
    world.receiver("down", 10, Pulse::Alive);
    let began = world.now;
    world.ask(&to("down"));
    world.run(began + SECOND);
    assert!(
        world.finished.len() > 50,
        "it was accepted, so the rest goes: {}",
        world.finished.len()
    );
}

#[test]
fn what_is_asked_for_while_its_attempt_ends_is_looked_for_again() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Failing);
    world.add("a", "ats", 1, 0);
    world.run(1_000_000);
    let (now, here) = (world.now(), to("a"));
    world.ask(&here);
    assert!(matches!(world.dispatch.next(now), Step::FetchAsked { .. }));
    let stale = world.asked(8);
    // The attempt from before ends while the rows are read, and its record has changed nothing.
    world.under_way.clear();
    world.dispatch.ended(&here, "reg_ats_0", Pulse::Failing, Ended::Changed, now);
    world.dispatch.fetched_asked(stale);
    assert!(matches!(world.dispatch.next(now), Step::FetchAsked { .. }));
    world.dispatch.fetched_asked(world.asked(8));
    assert!(matches!(world.dispatch.next(now), Step::Attempt { .. }));
}

#[test]
fn what_is_asked_for_is_sent_once_although_it_was_next_anyway() {
    let mut world = World::new();
    world.receiver("a", SECOND / 2, Pulse::Alive);
    world.add("a", "ats", 10, 0);
    world.run(1_000_000 + SECOND / 4);
    // The first is under way, and the second has been read with it.
    world.rows.get_mut(&to("a")).unwrap()[1].asked = true;
    world.dispatch.asked();
    world.run(1_000_000 + 20 * SECOND);
    assert_eq!((world.attempts.len(), world.finished.len()), (10, 10));
}

#[test]
fn a_flood_of_what_persons_ask_for_is_bounded_and_holds_up_no_other_client() {
    let mut world = World::new();
    for name in ["hanging", "fine"] {
        world.receiver(name, if name == "fine" { 10 } else { 15 * SECOND }, Pulse::Alive);
    }
    world.add("hanging", "flood", 500, i64::MAX / 2);
    let (flood, fine) = (Destination::new("flood", "hanging"), to("fine"));
    let now = world.now;
    for row in world.rows.get_mut(&flood).unwrap() {
        (row.asked, row.due_at) = (true, now);
    }
    world.dispatch.asked();
    world.run(now + 50);
    let under_way = world.under_way_to("hanging");
    assert!((8..=16).contains(&under_way), "{under_way}");
    world.add("fine", "ats", 1, now);
    world.ask(&fine);
    let began = world.now;
    world.run(began);
    assert_eq!(world.attempts.last().unwrap().1, "fine");
}

#[test]
fn a_callback_that_is_ill_does_not_keep_the_others_of_its_client_from_being_probed() {
    let mut world = World::new();
    world.receiver("a", 10, Pulse::Alive);
    world.add_at("a", "ats", "/ill", 8, 0);
    world.run(1_000_000 + 500);
    assert_eq!(world.dispatch.origins(world.now())[0].state.name(), "held");
    world.add_at("a", "ats", "/well", 1, world.now);
    let began = world.now;
    world.hint("a");
    world.run(began + 3 * SECOND);
    assert_eq!(world.finished.len(), 1, "at the next probe but one");
}

#[test]
fn how_many_destinations_are_remembered_is_bounded_and_shared_between_clients() {
    let mut world = World::new();
    let now = world.now();
    let far = now.wall.after(Duration::from_secs(3_600));
    let of = |client: &'static str| {
        (0..RECEIVERS_MAX).map(move |n| (Destination::new(client, format!("{n}")), far))
    };
    let page = |found| DestinationPage { found, next: None };
    world.dispatch.scanned(page(of("flood").collect()), now);
    assert_eq!(world.dispatch.receivers.len(), RECEIVERS_MAX / 2);
    world.dispatch.scanned(page(of("ats").take(9).collect()), now);
    assert_eq!(world.dispatch.receivers.len(), RECEIVERS_MAX / 2 + 9);
}
