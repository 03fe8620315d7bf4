use super::*;

fn quota() -> Quota {
    Quota::new(QuotaLimits::default())
}

/// Sends as early as allowed, `polls` times; replies take `rtt`.
fn send_all(quota: &mut Quota, mut now: Steady, polls: u32, rtt: Duration) -> Vec<Steady> {
    let mut sent = Vec::new();
    let mut open: VecDeque<Steady> = VecDeque::new();
    while sent.len() < polls as usize {
        let earliest = quota.earliest(now);
        let reply = open.front().map(|at| at.after(rtt));
        if let Some(reply) = reply.filter(|reply| *reply <= earliest.max(now)) {
            now = now.max(reply);
            quota.replied(open.pop_front().unwrap(), now);
            continue;
        }
        now = earliest;
        if quota.permits() == 0 {
            quota.reserved(RESERVE_MAX, now);
        }
        quota.spend(now);
        sent.push(now);
        open.push_back(now);
    }
    sent
}

fn most_in_any(sent: &[Steady], window: Duration) -> usize {
    (0..sent.len())
        .map(|first| sent[first..].iter().take_while(|at| at.since(sent[first]) < window).count())
        .max()
        .unwrap_or(0)
}

#[test]
fn no_window_ever_holds_more_than_its_limit_and_little_is_wasted() {
    for rtt in [0_u32, 80, 900] {
        let sent = send_all(&mut quota(), Steady(0), 3_000, Duration::from_millis(rtt.into()));
        assert_eq!(most_in_any(&sent, Duration::from_secs(1)), 50);
        assert_eq!(most_in_any(&sent, Duration::from_secs(60)), 1_000);
        // Every thousand starts a minute after the one before and takes 20 bursts of 50.
        assert!(
            sent[2_999] < Steady(142_500 + 20 * i64::from(rtt)),
            "rtt {rtt}: {:?}",
            sent[2_999]
        );
    }
}

#[test]
fn a_restart_counts_what_may_have_been_spent() {
    let mut quota = quota();
    quota.restore(&[(Steady(0), 500), (Steady(30_000), 480)], Steady(40_000));
    let sent = send_all(&mut quota, Steady(40_000), 21, Duration::ZERO);
    assert_eq!(sent[0], Steady(43_020), "the last reservation may have been sent just now");
    assert_eq!(sent[19], Steady(43_020));
    assert_eq!(sent[20], Steady(90_020), "the first one by the time of the second");
}

/// A lane that is given up with polls under way: they arrive beside its next owner's first ones.
#[test]
fn what_is_under_way_when_a_lane_is_given_up_leaves_the_next_owner_less() {
    let mut quota = quota();
    quota.reserved(RESERVE_MAX, Steady(0));
    (0..3).for_each(|_| quota.spend(Steady(900)));
    let closing = quota.closing(Steady(1_000));
    let mut next = self::quota();
    next.restore(&closing, Steady(1_000));
    let sent = send_all(&mut next, Steady(1_000), 95, Duration::ZERO);
    assert_eq!((sent[46], sent[47]), (Steady(1_000), Steady(2_020)));
    assert_eq!((sent[93], sent[94]), (Steady(2_020), Steady(3_040)), "three may arrive then");
}

#[test]
fn a_graceful_restart_goes_on_at_once_and_no_window_notices() {
    for (pause, rtt) in [(0, 0_u32), (1, 30), (400, 0), (700, 80), (3_000, 0)] {
        let mut quota = quota();
        let rtt = Duration::from_millis(rtt.into());
        let mut sent = send_all(&mut quota, Steady(0), 470, rtt);
        let stopped = sent[469].after(rtt * 2);
        for at in sent[460..].iter().copied() {
            quota.replied(at, stopped);
        }
        let closing = quota.closing(stopped);
        assert!(closing.len() < 60, "{}", closing.len());
        assert_eq!(closing.last().unwrap().0, stopped, "by which clocks are told apart");
        let started = Steady(stopped.0 + pause);
        let mut next = self::quota();
        next.restore(&closing, started);
        let waits = next.earliest(started).since(started);
        assert!(waits < Duration::from_millis(1_020), "{waits:?}");
        if pause >= 700 {
            assert_eq!(next.earliest(started), started, "after {pause} ms");
        }
        sent.extend(send_all(&mut next, started, 700, Duration::ZERO));
        assert_eq!(most_in_any(&sent, Duration::from_secs(1)), 50);
        assert_eq!(most_in_any(&sent, Duration::from_secs(60)), 1_000);
        // 1,170 polls: a minute's thousand, and the rest a minute after the first.
        assert!(sent[999] < Steady(24_000 + pause), "{:?}", sent[999]);
    }
}

#[test]
fn a_crash_loop_burns_little_and_a_busy_lane_writes_rarely() {
    let mut spent = Vec::new();
    for life in 0..20 {
        let mut quota = quota();
        let now = Steady(life * 200);
        quota.restore(&spent, now);
        let polls = quota.reservation_wanted().unwrap();
        spent = quota.reservations_with(polls, now);
    }
    let burnt: u32 = spent.iter().map(|(_, polls)| polls).sum();
    assert!(burnt <= 160, "{burnt} of 1000 burnt by twenty lives that sent nothing");
    let mut quota = quota();
    let mut writes = 0;
    for poll in 0..1_000 {
        let now = Steady(poll * 60);
        if let Some(polls) = quota.reservation_wanted() {
            quota.reserved(polls, now);
            writes += 1;
        }
        quota.spend(now);
        quota.replied(now, now);
    }
    assert!(writes <= 30, "{writes} writes for a minute's thousand polls");
}

#[test]
fn a_refusal_cuts_the_share_that_is_used_and_quiet_minutes_give_it_back() {
    let mut quota = quota();
    quota.refused(Duration::from_secs(1), Steady(0));
    quota.refused(Duration::from_secs(1), Steady(500));
    let _ = quota.earliest(Steady(2_000));
    assert_eq!(quota.room(Steady(2_000), Duration::ZERO), 700);
    let _ = quota.earliest(Steady(120_000));
    assert_eq!(quota.room(Steady(120_000), Duration::ZERO), 800);
    let _ = quota.earliest(Steady(600_000));
    assert_eq!(quota.room(Steady(600_000), Duration::ZERO), 1_000);
}

#[test]
fn a_refusal_closes_the_quota_until_the_reset() {
    let mut quota = quota();
    quota.refused(Duration::from_secs(7), Steady(1_000));
    assert_eq!(quota.earliest(Steady(2_000)), Steady(8_000));
    assert_eq!(quota.earliest(Steady(9_000)), Steady(9_000));
}

#[test]
fn what_had_not_arrived_when_more_was_reserved_counts_as_spent_later() {
    let mut quota = quota();
    quota.reserved(8, Steady(0));
    for _ in 0..6 {
        quota.spend(Steady(10));
    }
    // Of eight, four have arrived, two are under way and two are left.
    for _ in 0..4 {
        quota.replied(Steady(10), Steady(100));
    }
    let stored = quota.reservations_with(8, Steady(1_000));
    assert_eq!(stored, [(Steady(0), 4), (Steady(1_000), 12)]);
    quota.reserved(8, Steady(1_000));
    assert_eq!(
        quota.reservations_with(8, Steady(2_000))[1..],
        [(Steady(1_000), 0), (Steady(2_000), 20)]
    );
    let mut next = self::quota();
    next.restore(&stored, Steady(5_000));
    assert_eq!(next.used(Steady(5_000)), (12, 16));
}

#[test]
fn a_poll_ages_from_its_reply_or_from_when_it_has_certainly_arrived() {
    let full = |replied: i64| {
        let mut quota = quota();
        quota.reserved(RESERVE_MAX, Steady(0));
        (0..50).for_each(|_| quota.spend(Steady(0)));
        (0..50).for_each(|_| quota.replied(Steady(0), Steady(replied)));
        quota.earliest(Steady(replied))
    };
    assert_eq!(full(0), Steady(1_020));
    assert_eq!(full(900), Steady(1_920), "it may have arrived just before its reply was sent");
    assert_eq!(full(2_000), Steady(3_020));
    assert_eq!(full(2_500), Steady(3_020), "by two seconds it has arrived");
    assert_eq!(full(9_000), Steady(9_000));
}

#[test]
fn room_and_pace_and_spacing_follow_from_the_limits_and_what_is_used_of_them() {
    let mut quota = quota();
    quota.restore(&[(Steady(0), 10), (Steady(0), 5)], Steady(30_000));
    assert_eq!(quota.room(Steady(30_000), Duration::ZERO), 985);
    assert_eq!(quota.room(Steady(30_000), Duration::from_millis(30_020)), 995);
    assert_eq!(quota.room(Steady(30_000), Duration::from_millis(62_020)), 1_000);
    assert!((quota.pace() - 50.0).abs() < f64::EPSILON);
    assert_eq!(quota.spacing(4), MINUTE / 250);
    quota.set_limits(QuotaLimits { per_second: 2, per_minute: 1_000 });
    assert_eq!(quota.spacing(4), SECOND * 2);
}

#[test]
fn each_refusal_ten_seconds_after_the_last_cut_cuts_again() {
    let mut quota = quota();
    for (at, room) in [(0, 700), (9_999, 700), (10_000, 490), (10_001, 490)] {
        quota.refused(Duration::ZERO, Steady(at));
        assert_eq!(quota.room(Steady(at), Duration::ZERO), room, "at {at}");
    }
}

#[test]
fn more_is_reserved_once_less_than_half_is_left() {
    let mut quota = quota();
    quota.reserved(RESERVE_FIRST, Steady(0));
    (0..4).for_each(|_| quota.spend(Steady(0)));
    assert_eq!(quota.reservation_wanted(), None);
    quota.spend(Steady(0));
    assert_eq!(quota.reservation_wanted(), Some(RESERVE_FIRST));
}

#[test]
fn reservations_grow_while_they_follow_each_other_soon_and_shrink_after_a_pause() {
    let mut quota = quota();
    let mut steps = Vec::new();
    for at in [0, 1_999, 3_998, 5_998, 20_997, 35_997, 50_997] {
        quota.reserved(0, Steady(at));
        steps.push(quota.step);
    }
    assert_eq!(steps, [8, 16, 32, 32, 32, 16, 8]);
}

#[test]
fn what_is_carried_over_is_taken_from_the_latest_reservation_first() {
    let mut quota = quota();
    for at in [0, 1_000] {
        quota.reserved(8 - quota.permits(), Steady(at));
        (0..6).for_each(|_| quota.spend(Steady(at)));
        (0..6).for_each(|_| quota.replied(Steady(at), Steady(at)));
    }
    let stored = quota.reservations_with(8, Steady(2_000));
    assert_eq!(stored, [(Steady(0), 6), (Steady(1_000), 6), (Steady(2_000), 10)]);
}

#[test]
fn what_was_spent_is_written_down_in_groups_of_a_quarter_second_and_a_minute_long() {
    let mut quota = quota();
    quota.reserved(4, Steady(0));
    for at in [0, 20, 269, 270] {
        quota.spend(Steady(at));
        quota.replied(Steady(at), Steady(at));
    }
    let closing = quota.closing(Steady(60_020));
    let wanted = [(20, 2), (269, 1), (270, 0), (60_020, 0)];
    assert_eq!(closing, wanted.map(|(at, polls)| (Steady(at), polls)));
}

#[test]
fn a_poll_whose_reply_hangs_counts_as_under_way_then_as_arrived_after_two_seconds() {
    let mut quota = quota();
    quota.reserved(RESERVE_MAX, Steady(0));
    (0..50).for_each(|_| quota.spend(Steady(0)));
    assert_eq!(quota.earliest(Steady(2_000)), Steady(3_020));
    quota.reserved(1, Steady(2_500));
    quota.spend(Steady(2_500));
    assert_eq!(quota.used(Steady(2_500)), (51, 51));
}
