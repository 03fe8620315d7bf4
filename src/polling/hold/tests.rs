use super::*;

const NONE_UNDER_WAY: usize = 0;

fn problem(reason: &'static str) -> AccountProblem {
    AccountProblem { reason, message: String::new() }
}

fn witness(sent: i64) -> Witness {
    Witness { sent: Steady(sent), again: false, alone: false, proven: false }
}

#[test]
fn polls_that_fail_together_are_one_outage_and_only_lasting_ones_pause_longer() {
    let mut hold = Hold::default();
    for _ in 0..50 {
        hold.failed("reset", Steady(0));
    }
    assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(1_000)));
    hold.failed("reset", Steady(1_000));
    assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(3_000)), "twice as long");
    hold.failed("refused", Steady(3_000));
    assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(7_000)));
    let unanswered = Unanswered { polls: 52, since: Steady(0), error: "refused".into() };
    assert_eq!(hold.unanswered(), Some(&unanswered));
    for _ in 0..50 {
        let Some(opens) = hold.opens(NONE_UNDER_WAY) else { panic!("closed for good") };
        hold.failed("reset", opens);
        assert!(hold.opens(NONE_UNDER_WAY) <= Some(opens.after(FAILING_MAX)));
    }
    hold.clear();
    assert_eq!(hold.unanswered(), None);
    for _ in 0..FAILURES_FREE {
        hold.failed("reset", Steady(9_000));
    }
    assert!(hold.opens(NONE_UNDER_WAY) < Some(Steady(9_000)), "a few in a row are free again");
}

#[test]
fn several_polls_ask_whether_a_failing_upstream_is_back_but_only_one_whether_an_account_is() {
    let mut hold = Hold::default();
    hold.unprepared("no token", Steady(0));
    assert!(hold.opens(FAILING_POLLS - 1).is_some());
    assert_eq!(hold.opens(FAILING_POLLS), None);
    assert_eq!(hold.witnesses_wanted(Steady(0)), 0, "without a token nobody can be asked");
    hold.suspend(problem("missing_scope"), Steady(2_000));
    assert!(hold.opens(0).is_some());
    assert_eq!(hold.opens(1), None);
}

#[test]
fn a_pause_lets_a_few_other_tasks_be_asked_at_once() {
    let mut hold = Hold::default();
    for _ in 0..=FAILURES_FREE {
        assert_eq!(hold.witnesses_wanted(Steady(0)), 0);
        hold.failed("reset", Steady(0));
    }
    for left in (1..=WITNESSES).rev() {
        assert_eq!(hold.witnesses_wanted(Steady(0)), left);
        hold.sent(Steady(0));
    }
    assert_eq!(hold.witnesses_wanted(Steady(0)), 0);
    hold.failed("reset", Steady(1_000));
    assert_eq!(hold.witnesses_wanted(Steady(1_000)), WITNESSES, "in each pause");
    assert_eq!(hold.witnesses_wanted(Steady(3_000)), 0, "once it is open, all may be asked");
}

#[test]
fn an_account_is_suspended_only_when_others_that_were_asked_say_so_too() {
    let mut hold = Hold::default();
    hold.accuse(problem("missing_scope"), witness(0), Steady(100));
    for _ in 0..20 {
        // Under way when the first one said it, registered with it perhaps.
        hold.accuse(problem("missing_scope"), witness(50), Steady(110));
    }
    assert_eq!(hold.witnesses_wanted(Steady(110)), WITNESSES);
    for _ in 1..WITNESSES {
        hold.accuse(problem("missing_scope"), witness(110), Steady(200));
    }
    let again = Witness { again: true, ..witness(150) };
    hold.accuse(problem("missing_scope"), again, Steady(210));
    assert_eq!(hold.suspended(), None);
    hold.accuse(problem("missing_scope"), witness(110), Steady(220));
    assert_eq!(hold.suspended().map(|(_, since)| since), Some(Steady(220)));
}

#[test]
fn where_no_other_can_be_asked_two_say_so_or_one_says_so_twice() {
    let alone = Witness { alone: true, ..witness(0) };
    let mut hold = Hold::default();
    hold.accuse(problem("missing_scope"), alone, Steady(100));
    assert_eq!(hold.suspended(), None);
    hold.accuse(problem("missing_scope"), alone, Steady(110));
    assert!(hold.suspended().is_some(), "two tasks");
    hold.clear();
    hold.accuse(problem("missing_scope"), alone, Steady(200));
    hold.accuse(problem("missing_scope"), Witness { again: true, ..alone }, Steady(1_200));
    assert!(hold.suspended().is_some(), "one task, twice");
}

#[test]
fn a_refused_token_does_not_become_a_loop_of_tokens_and_polls() {
    let mut hold = Hold::default();
    hold.suspend(problem("missing_scope"), Steady(0));
    hold.token_refused(witness(5_000), Steady(5_000));
    hold.token_refused(witness(5_000), Steady(5_010));
    assert!(hold.opens(NONE_UNDER_WAY) >= Some(Steady(6_000)));
}

#[test]
fn tokens_refused_in_one_moment_count_once_and_the_second_moment_casts_doubt() {
    let mut hold = Hold::default();
    for at in [0, 2_999] {
        hold.token_refused(witness(at), Steady(at));
        assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(i64::MIN)), "at {at}");
    }
    hold.token_refused(witness(3_000), Steady(3_000));
    assert_eq!(hold.opens(NONE_UNDER_WAY), Some(Steady(4_000)), "while others are asked");
}
