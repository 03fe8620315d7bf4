use super::*;

const LIMIT: u32 = 16;
const T0: Steady = Steady(1_000_000);

fn cool_down() -> CoolDown {
    CoolDown::within(&[5, 30, 86_400].map(Duration::from_secs))
}

fn after(breaker: &mut Breaker, pulses: &[Pulse], now: Steady) -> Room {
    for pulse in pulses {
        breaker.started();
        breaker.heard(*pulse, cool_down(), now);
    }
    breaker.room(LIMIT, now)
}

fn at(milliseconds: i64) -> Steady {
    Steady(T0.0 + milliseconds)
}

#[test]
fn a_healthy_origin_gets_1_2_4_8_16_and_never_more_than_its_limit() {
    let mut breaker = Breaker::default();
    assert!(!breaker.proven());
    let mut seen = vec![breaker.room(LIMIT, T0)];
    for _ in 0..6 {
        seen.push(after(&mut breaker, &[Pulse::Alive], T0));
    }
    assert_eq!(seen, [1, 2, 4, 8, 16, 16, 16].map(Room::UpTo));
    assert!(breaker.proven());
    assert_eq!(breaker.room(3, T0), Room::UpTo(3));
    assert_eq!(breaker.room(0, T0), Room::UpTo(1));
}

#[test]
fn the_fifth_failure_in_a_row_opens_it() {
    let mut breaker = Breaker::default();
    assert_eq!(after(&mut breaker, &[Pulse::Failing; 4], T0), Room::UpTo(1));
    assert!(!breaker.is_held());
    assert_eq!(after(&mut breaker, &[Pulse::Failing], T0), Room::NotBefore(at(1_000)));
    assert!(breaker.is_held());
}

#[test]
fn a_success_in_between_starts_the_count_again() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Failing; 4], T0);
    after(&mut breaker, &[Pulse::Alive], T0);
    assert_eq!(breaker.failures_in_a_row(), 0);
    after(&mut breaker, &[Pulse::Failing; 4], T0);
    assert_eq!(breaker.failures_in_a_row(), 4);
    assert!(!breaker.is_held());
}

#[test]
fn fifteen_failures_of_twenty_open_it_even_if_never_five_in_a_row() {
    let mut breaker = Breaker::default();
    let round = [Pulse::Alive, Pulse::Failing, Pulse::Failing, Pulse::Failing, Pulse::Failing];
    // 4 of 5 fail: the 15th failure is the last but one of the fourth round.
    for _ in 0..3 {
        after(&mut breaker, &round, T0);
    }
    after(&mut breaker, &round[..3], T0);
    assert!(!breaker.is_held());
    after(&mut breaker, &[Pulse::Failing], T0);
    assert!(breaker.is_held());
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut breaker = Breaker::default();
    let round = [Pulse::Alive, Pulse::Failing, Pulse::Failing, Pulse::Alive, Pulse::Failing];
    for _ in 0..50 {
        after(&mut breaker, &round, T0);
        assert!(!breaker.is_held(), "three of five is below the share");
    }
}

#[test]
fn it_probes_with_one_and_doubles_the_wait_up_to_a_minute() {
    let mut breaker = Breaker::default();
    let mut now = T0;
    after(&mut breaker, &[Pulse::Failing; 5], now);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let Room::NotBefore(until) = breaker.room(LIMIT, now) else { panic!("not open") };
        waits.push(until.since(now).as_secs());
        assert_eq!(breaker.room(LIMIT, Steady(until.0 - 1)), Room::NotBefore(until));
        now = until;
        assert_eq!(breaker.room(LIMIT, now), Room::UpTo(1));
        breaker.started();
        assert_eq!(breaker.room(LIMIT, now), Room::UpTo(1));
        breaker.heard(Pulse::Failing, cool_down(), now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn an_origin_dead_for_the_whole_schedule_is_probed_quickly_so_that_all_come_to_an_end() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Failing; 12], T0);
    let schedule = T0.after(Duration::from_secs(86_435));
    assert_eq!(
        after(&mut breaker, &[Pulse::Failing], schedule),
        Room::NotBefore(schedule.after(COOL_DOWN_MAX))
    );
    let later = schedule.after(Duration::from_millis(1));
    let quick = Room::NotBefore(later.after(COOL_DOWN_FIRST));
    assert_eq!(after(&mut breaker, &[Pulse::Failing], later), quick);
    after(&mut breaker, &[Pulse::Alive], later);
    after(&mut breaker, &[Pulse::Failing; 6], later);
    let slow = Room::NotBefore(later.after(2 * COOL_DOWN_FIRST));
    assert_eq!(breaker.room(LIMIT, later), slow, "a sign of life starts it anew");
}

#[test]
fn a_recovered_origin_is_ramped_up_gently() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Alive; 6], T0);
    after(&mut breaker, &[Pulse::Failing; 5], T0);
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(after(&mut breaker, &[Pulse::Alive], at(60_000)));
    }
    assert_eq!(seen, [1, 2, 4, 8, 16].map(Room::UpTo));
    after(&mut breaker, &[Pulse::Failing; 4], T0);
    assert!(!breaker.is_held(), "what failed before the recovery does not count");
}

#[test]
fn late_replies_from_before_it_opened_neither_close_it_nor_prolong_it() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Failing; 5], T0);
    breaker.heard(Pulse::Failing, cool_down(), at(500));
    assert_eq!(breaker.room(LIMIT, at(500)), Room::NotBefore(at(1_000)));
    breaker.heard(Pulse::Alive, cool_down(), at(600));
    assert_eq!(breaker.room(LIMIT, at(600)), Room::NotBefore(at(1_000)));
}

#[test]
fn each_failure_halves_what_may_be_under_way() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Alive; 4], T0);
    assert_eq!(after(&mut breaker, &[Pulse::Failing], T0), Room::UpTo(8));
    assert_eq!(after(&mut breaker, &[Pulse::Failing; 3], T0), Room::UpTo(1));
    assert!(!breaker.proven());
}

#[test]
fn an_origin_that_asks_to_be_left_alone_is_for_half_a_minute_at_most() {
    let mut breaker = Breaker::default();
    let wait = |seconds| Pulse::Throttled(Duration::from_secs(seconds));
    after(&mut breaker, &[Pulse::Alive; 4], T0);
    assert_eq!(after(&mut breaker, &[wait(7)], T0), Room::NotBefore(at(7_000)));
    breaker.heard(wait(3), cool_down(), T0);
    assert_eq!(breaker.room(LIMIT, T0), Room::NotBefore(at(7_000)), "the longer wait stands");
    assert!(breaker.proven(), "it answers");
    breaker.heard(wait(3_600), cool_down(), T0);
    assert_eq!(breaker.room(LIMIT, T0), Room::NotBefore(at(30_000)));
    assert_eq!(breaker.room(LIMIT, at(30_000)), Room::UpTo(1));
    assert_eq!(after(&mut breaker, &[Pulse::Alive], at(30_000)), Room::UpTo(1));
}

#[test]
fn an_origin_whose_first_word_is_to_wait_is_alive() {
    let mut breaker = Breaker::default();
    breaker.heard(Pulse::Throttled(Duration::from_secs(1)), cool_down(), T0);
    assert!(breaker.proven() && breaker.is_held());
}

#[test]
fn a_probe_that_is_told_to_wait_does_not_make_the_next_cool_down_shorter() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Failing; 8], T0);
    // Three probes have failed; this one is told to wait, and the next one fails: 16 s.
    after(&mut breaker, &[Pulse::Throttled(Duration::from_secs(1))], T0);
    assert_eq!(after(&mut breaker, &[Pulse::Failing], T0), Room::NotBefore(at(16_000)));
}

#[test]
fn a_probe_that_was_not_made_may_be_made_again_at_once() {
    let mut breaker = Breaker::default();
    after(&mut breaker, &[Pulse::Failing; 5], T0);
    let late = at(1_000);
    breaker.started();
    breaker.heard(Pulse::Unknown, cool_down(), late);
    assert_eq!(breaker.room(LIMIT, late), Room::UpTo(1));
    after(&mut breaker, &[Pulse::Failing], late);
    assert_eq!(breaker.room(LIMIT, late), Room::NotBefore(late.after(Duration::from_secs(2))));
}

#[test]
fn cool_downs_stay_below_the_schedule_so_that_a_lone_delivery_is_never_late() {
    let quick = CoolDown::within(&[Duration::from_millis(100); 12]);
    let after = |cool_down: CoolDown, probes| cool_down.after(probes, Duration::ZERO);
    assert_eq!(after(quick, 0), Duration::from_millis(80));
    assert_eq!(after(quick, 31), Duration::from_millis(80));
    assert_eq!(after(cool_down(), 0), COOL_DOWN_FIRST);
    assert_eq!(after(cool_down(), 99), COOL_DOWN_MAX);
    assert_eq!(after(CoolDown::within(&[]), 99), COOL_DOWN_MAX);
}
