use std::collections::BTreeMap;

use super::*;

const SECOND: i64 = 1_000;

/// A store of due rows and receivers that answer after a while, in virtual time.
struct World {
    dispatch: Dispatch,
    now: i64,
    /// origin → (id, client, due at)
    rows: BTreeMap<String, Vec<(String, &'static str, i64)>>,
    /// (ends at, origin, id)
    under_way: Vec<(i64, String, String)>,
    /// origin → (how long an attempt takes, what it says)
    receivers: BTreeMap<String, (i64, Pulse)>,
    /// (at, origin, id), in order
    attempts: Vec<(i64, String, String)>,
    finished: Vec<(i64, String, String)>,
    scans: usize,
    fetched_rows_max: usize,
    store_is_up: bool,
}

impl World {
    fn new() -> Self {
        let cool_down = CoolDown::within(&[Duration::from_secs(5); 100]);
        Self {
            dispatch: Dispatch::new(Limits { per_origin: 16, cool_down }),
            now: 1_000_000,
            rows: BTreeMap::new(),
            under_way: Vec::new(),
            receivers: BTreeMap::new(),
            attempts: Vec::new(),
            finished: Vec::new(),
            scans: 0,
            fetched_rows_max: 0,
            store_is_up: true,
        }
    }

    fn now(&self) -> Now {
        // The two scales differ, so that mixing them up shows.
        Now { wall: Timestamp(self.now), steady: Steady(self.now - 777_777) }
    }

    fn receiver(&mut self, origin: &str, takes: i64, pulse: Pulse) {
        self.receivers.insert(origin.to_owned(), (takes, pulse));
    }

    fn add(&mut self, origin: &str, client: &'static str, count: usize, due_at: i64) {
        let rows = self.rows.entry(origin.to_owned()).or_default();
        for _ in 0..count {
            rows.push((format!("reg_{client}_{}", rows.len()), client, due_at));
        }
        rows.sort_by_key(|(_, _, due_at)| *due_at);
    }

    fn hint(&mut self, origin: &str) {
        let now = self.now();
        self.dispatch.due(origin, now);
    }

    fn due(&self, origin: &str, limit: u32) -> Vec<Delivery> {
        let rows = self.rows.get(origin).into_iter().flatten();
        rows.filter(|(_, _, due_at)| *due_at <= self.now)
            .take(limit as usize)
            .map(|(id, client, due_at)| Delivery {
                registration_id: id.clone(),
                client: (*client).to_owned(),
                callback_url: origin.to_owned(),
                body: Vec::new(),
                attempts: 0,
                round: 0,
                first_attempt_at: None,
                due_at: Timestamp(*due_at),
            })
            .collect()
    }

    /// Runs to `until`, performing every step.
    fn run(&mut self, until: i64) {
        loop {
            let wait = self.steps();
            let ends = self.under_way.iter().map(|(at, _, _)| *at).min();
            let wakes = wait.map(|until| until.0 + 777_777);
            let next = [ends, wakes].into_iter().flatten().min().unwrap_or(i64::MAX);
            if next > until {
                self.now = until;
                return;
            }
            assert!(next >= self.now, "time goes forward");
            self.now = next;
            self.end_attempts();
        }
    }

    fn steps(&mut self) -> Option<Steady> {
        for _ in 0..100_000 {
            let now = self.now();
            match self.dispatch.next(now) {
                Step::Wait { until } => return until,
                Step::Scan if self.store_is_up => {
                    self.scans += 1;
                    let earliest = |rows: &Vec<(String, &str, i64)>| {
                        rows.iter().map(|(_, _, due_at)| Timestamp(*due_at)).min()
                    };
                    let found = self.rows.iter();
                    let found =
                        found.filter_map(|(name, rows)| Some((name.clone(), earliest(rows)?)));
                    self.dispatch.scanned(found.collect(), now);
                }
                Step::Scan => self.dispatch.scan_failed(now),
                Step::Fetch { origin, limit } if self.store_is_up => {
                    let rows = self.due(&origin, limit);
                    self.fetched_rows_max = self.fetched_rows_max.max(rows.len());
                    self.dispatch.fetched(&origin, rows, limit, now);
                }
                Step::Fetch { origin, .. } => self.dispatch.fetch_failed(&origin, now),
                Step::Attempt { origin, delivery } => {
                    let takes = self.receivers[&origin].0;
                    let id = delivery.registration_id;
                    let twice = self.under_way.iter().any(|(_, o, i)| *o == origin && *i == id);
                    assert!(!twice, "{id} is attempted twice at once");
                    self.attempts.push((self.now, origin.clone(), id.clone()));
                    self.under_way.push((self.now + takes, origin, id));
                }
            }
        }
        panic!("it never waits");
    }

    /// A success finishes a row; a failure makes it due again in five seconds.
    fn end_attempts(&mut self) {
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _, _)| *at <= self.now);
        self.under_way = rest;
        for (_, origin, id) in over {
            let pulse = self.receivers[&origin].1;
            let rows = self.rows.get_mut(&origin).unwrap();
            let ended = if pulse == Pulse::Alive {
                rows.retain(|(row, _, _)| *row != id);
                self.finished.push((self.now, origin.clone(), id.clone()));
                Ended::Finished
            } else {
                let at = self.now + 5 * SECOND;
                rows.iter_mut().filter(|(row, _, _)| *row == id).for_each(|row| row.2 = at);
                rows.sort_by_key(|(_, _, due_at)| *due_at);
                Ended::DueAgain(Timestamp(at))
            };
            let now = self.now();
            self.dispatch.ended(&origin, &id, pulse, ended, now);
        }
    }

    fn under_way_to(&self, origin: &str) -> usize {
        self.under_way.iter().filter(|(_, other, _)| other == origin).count()
    }
}

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
    world.dispatch.origin("healthy").breaker.heard(Pulse::Alive, cool_down, now.steady);
    world.run(1_000_000 + 60 * SECOND);
    let began = world.now;
    assert!(world.dispatch.unproven <= UNPROVEN_MAX && world.dispatch.unproven > 400);
    world.add("healthy", "ats", 200, began);
    world.hint("healthy");
    world.run(began + SECOND);
    let done = world.finished.iter().filter(|(at, origin, _)| *at > began && origin == "healthy");
    assert_eq!(done.count(), 200);
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
    let stale = world.due("a", 9);
    world.dispatch.origin("a").drop_page();
    let asked = world.dispatch.origin("a").fetch(16, now.steady);
    world.dispatch.fetching += 1;
    world.dispatch.ended("a", "reg_ats_0", Pulse::Alive, Ended::Finished, now);
    world.dispatch.fetched("a", stale, asked.max(9), now);
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
    world.dispatch.ended("a", "reg_ats_0", Pulse::Alive, Ended::Changed, now);
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
    assert!(world.dispatch.origins.len() <= IDLE_MAX);
    assert!(world.dispatch.alarms.is_empty() && world.dispatch.cooling.is_empty());
    assert_eq!((world.dispatch.under_way, world.dispatch.unproven), (0, 0));
}
