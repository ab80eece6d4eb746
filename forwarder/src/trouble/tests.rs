use super::*;

const WAIT: std::time::Duration = std::time::Duration::from_secs(60);

fn key(number: u64) -> LeaseKey {
    LeaseKey(number)
}

fn keys(count: u64) -> Vec<LeaseKey> {
    (0..count).map(LeaseKey).collect()
}

fn error() -> SinkEnd {
    SinkEnd::Error("no".into())
}

fn closed() -> SinkEnd {
    SinkEnd::Closed("end of stream".into())
}

/// A link whose last session ended by ERROR with `count` batches in flight, in a new session.
fn after_error(count: u64) -> Trouble {
    let mut trouble = Trouble::new();
    trouble.session_ended(&error(), &keys(count));
    trouble.session_began();
    trouble
}

/// One more session: `neighbours` are confirmed, then `culprit` is refused alone.
fn refuse(trouble: &mut Trouble, neighbours: u64, culprit: LeaseKey) {
    trouble.session_began();
    trouble.admit(culprit);
    (0..neighbours).for_each(|number| trouble.confirmed(key(1000 + number)));
    trouble.session_ended(&error(), &[culprit]);
}

/// Whether `culprit` is set aside once one more neighbour was confirmed in a new session.
fn is_set_aside(trouble: &mut Trouble, culprit: LeaseKey) -> bool {
    trouble.session_began();
    assert!(!matches!(trouble.admit(culprit), Admission::SetAside(_)));
    trouble.confirmed(key(2000));
    matches!(trouble.admit(culprit), Admission::SetAside(_))
}

#[test]
fn without_trouble_the_window_is_the_sinks_own() {
    let mut trouble = Trouble::new();
    assert_eq!(trouble.window(), usize::MAX);
    trouble.session_ended(&closed(), &[]);
    assert_eq!(trouble.window(), usize::MAX);
    assert_eq!(trouble.admit(key(1)), Admission::Send);
}

#[test]
fn after_silence_the_window_starts_at_one_and_doubles_each_round() {
    let mut trouble = Trouble::new();
    trouble.session_ended(&SinkEnd::Silent(WAIT), &keys(50));
    trouble.session_began();
    for expected in [1, 2, 4, 8, 16] {
        assert_eq!(trouble.window(), expected);
        keys(expected as u64).into_iter().for_each(|key| trouble.confirmed(key));
    }
}

#[test]
fn after_an_error_or_a_close_with_receipts_open_batches_go_alone_until_as_many_are_confirmed() {
    for end in [error(), closed()] {
        let mut trouble = Trouble::new();
        trouble.session_ended(&end, &keys(3));
        trouble.session_began();
        for number in 0..3 {
            assert_eq!(trouble.window(), 1);
            trouble.confirmed(key(number));
        }
        assert_eq!(trouble.window(), 1);
        trouble.confirmed(key(3));
        assert_eq!(trouble.window(), 2);
    }
}

/// The session of a link that carries well is cut with `count` batches in flight, and another begins.
fn after_cut(trouble: &mut Trouble, count: u64) {
    keys(count + 1).into_iter().for_each(|key| trouble.confirmed(key));
    trouble.session_ended(&closed(), &keys(count));
    trouble.session_began();
}

#[test]
fn a_cut_does_not_make_a_link_slow_that_carries() {
    let mut trouble = Trouble::new();
    for _ in 0..3 {
        trouble.session_began();
        after_cut(&mut trouble, 200);
        assert_eq!(trouble.window(), usize::MAX);
    }
}

#[test]
fn a_second_close_over_the_same_batches_does() {
    let mut trouble = Trouble::new();
    after_cut(&mut trouble, 200);
    keys(199).into_iter().for_each(|key| trouble.confirmed(key));
    trouble.session_ended(&closed(), &keys(2));
    assert_eq!(trouble.window(), 1);
}

#[test]
fn after_a_cut_an_error_is_still_one() {
    let mut trouble = Trouble::new();
    after_cut(&mut trouble, 200);
    trouble.session_ended(&error(), &keys(2));
    assert_eq!(trouble.window(), 1);
}

#[test]
fn a_wide_window_does_not_make_the_link_slow_for_long() {
    let mut trouble = after_error(100_000);
    (0..200).for_each(|number| trouble.confirmed(key(number)));
    assert!(trouble.window() > 100);
}

#[test]
fn a_batch_that_was_in_flight_with_others_is_not_suspected() {
    let mut trouble = Trouble::new();
    trouble.session_ended(&error(), &[key(1)]);
    assert_eq!(trouble.admit(key(1)), Admission::Send, "the window was wide then");
    let mut trouble = after_error(5);
    trouble.session_ended(&error(), &[key(1), key(2)]);
    assert_eq!(trouble.admit(key(1)), Admission::Send);
}

#[test]
fn a_suspect_is_held_until_neighbours_are_confirmed_more_each_time() {
    let mut trouble = after_error(5);
    trouble.session_ended(&error(), &[key(7)]);
    for (counted, needed) in [(0, 1), (1, 2), (2, 4)] {
        trouble.session_began();
        for number in 0..needed {
            assert_eq!(trouble.admit(key(7)), Admission::Hold, "after {counted} refusals");
            assert_eq!(trouble.window(), 1);
            trouble.confirmed(key(100 + number));
        }
        assert_eq!(trouble.admit(key(7)), Admission::Send);
        trouble.session_ended(&error(), &[key(7)]);
    }
    trouble.session_began();
    assert_eq!(trouble.admit(key(7)), Admission::Hold);
    trouble.confirmed(key(200));
    let Admission::SetAside(reason) = trouble.admit(key(7)) else {
        panic!("not set aside");
    };
    assert_eq!(reason, "refused 3 times alone while others were taken: no");
    trouble.cleared(key(7));
    assert_eq!(trouble.admit(key(7)), Admission::Send);
}

#[test]
fn a_refusal_without_a_confirmed_neighbour_counts_for_nothing() {
    let mut trouble = after_error(5);
    (0..20).for_each(|_| refuse(&mut trouble, 0, key(7)));
    assert!(!is_set_aside(&mut trouble, key(7)));
}

#[test]
fn two_refusals_are_too_few_and_three_are_enough() {
    let mut trouble = after_error(5);
    refuse(&mut trouble, 1, key(7));
    refuse(&mut trouble, 2, key(7));
    assert!(!is_set_aside(&mut trouble, key(7)));
    refuse(&mut trouble, 4, key(7));
    assert!(is_set_aside(&mut trouble, key(7)));
}

#[test]
fn when_another_is_refused_too_the_counts_start_again() {
    let mut trouble = after_error(5);
    (0..3).for_each(|_| refuse(&mut trouble, 1, key(7)));
    refuse(&mut trouble, 0, key(8));
    assert!(!is_set_aside(&mut trouble, key(7)));
    (0..3).for_each(|_| refuse(&mut trouble, 4, key(7)));
    assert!(is_set_aside(&mut trouble, key(7)));
}

#[test]
fn a_suspect_that_is_confirmed_is_cleared_and_the_window_grows_to_full() {
    let mut trouble = after_error(1);
    refuse(&mut trouble, 0, key(7));
    trouble.session_began();
    trouble.confirmed(key(8));
    assert_eq!(trouble.admit(key(7)), Admission::Send);
    trouble.confirmed(key(7));
    assert_eq!(trouble.admit(key(7)), Admission::Send);
    (0..500).for_each(|number| trouble.confirmed(key(number)));
    assert!(trouble.window() > 400);
}

#[test]
fn silence_accuses_nobody() {
    let mut trouble = after_error(5);
    (0..5).for_each(|_| trouble.session_ended(&SinkEnd::Silent(WAIT), &[key(7)]));
    assert_eq!(trouble.admit(key(7)), Admission::Send);
    assert!(!trouble.is_refused());
}

#[test]
fn an_upstream_that_falls_silent_takes_no_more_whatever_it_took_before() {
    let check = |confirmed: u64, end: SinkEnd, in_flight: u64, expected: bool| {
        let mut trouble = Trouble::new();
        trouble.session_began();
        (0..confirmed).for_each(|number| trouble.confirmed(key(100 + number)));
        trouble.session_ended(&end, &keys(in_flight));
        assert_eq!(trouble.took_no_more(), expected, "{confirmed} {end} {in_flight}");
    };
    check(0, closed(), 1, true);
    check(0, SinkEnd::Silent(WAIT), 1, true);
    check(1, SinkEnd::Silent(WAIT), 1, true);
    check(1, SinkEnd::Silent(WAIT), 0, false);
    check(1, closed(), 1, false);
    check(0, closed(), 0, false);
}

#[test]
fn a_suspect_that_never_comes_back_does_not_hold_the_link_up() {
    let mut trouble = after_error(1);
    refuse(&mut trouble, 0, key(7));
    trouble.session_began();
    (0..FORGET_AFTER + 2).for_each(|number| trouble.confirmed(key(100 + number)));
    assert!(trouble.window() > 1);
}

#[test]
fn a_suspect_that_is_held_is_not_forgotten() {
    let mut trouble = after_error(1);
    refuse(&mut trouble, 0, key(7));
    trouble.session_began();
    trouble.admit(key(7));
    (0..FORGET_AFTER + 2).for_each(|number| trouble.confirmed(key(100 + number)));
    assert_eq!(trouble.window(), 1);
}

#[test]
fn if_every_batch_is_refused_the_link_is_refused_until_one_is_taken() {
    let mut trouble = Trouble::new();
    for number in 0..10 {
        assert_eq!(trouble.is_refused(), number >= u64::from(FRUITLESS_MAX));
        trouble.session_began();
        trouble.session_ended(&closed(), &[key(number)]);
    }
    trouble.session_began();
    assert!(trouble.is_refused());
    trouble.confirmed(key(99));
    assert!(!trouble.is_refused());
}

#[test]
fn suspects_are_bounded() {
    let mut trouble = after_error(1);
    (0..1000).for_each(|number| refuse(&mut trouble, 0, key(number)));
    assert_eq!(trouble.suspects.len(), SUSPECTS_MAX);
}

#[test]
fn an_unsuspecting_link_keeps_its_window_and_suspects_nobody() {
    let mut trouble = Trouble::unsuspecting();
    for end in [error(), closed(), SinkEnd::Silent(WAIT)] {
        (0..9).for_each(|_| trouble.session_ended(&end, &[key(7)]));
    }
    assert_eq!(trouble.window(), usize::MAX);
    assert_eq!(trouble.admit(key(7)), Admission::Send);
    assert!(!trouble.is_refused());
}
