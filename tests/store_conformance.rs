//! What every store promises, one suite for all of them: a database is one line at the bottom.

mod store_conformance {
    pub mod deliveries;
    pub mod fixture;
    pub mod notices;
    pub mod redeliveries;
    pub mod registrations;
    pub mod rewatches;
    pub mod tasks;
    pub mod tickets;
}

#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "other test binaries use more of it")]
mod postgres_cluster;

use store_conformance::{
    deliveries, fixture, notices, redeliveries, registrations, rewatches, tasks, tickets,
};

/// Runs every claim against one database.
macro_rules! conformance {
    ($database:ident: $open:path; $($suite:ident { $($claim:ident)* })*) => {
        mod $database {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $claim() {
                    super::$suite::$claim($open()).await;
                }
            )*)*
        }
    };
}

macro_rules! every_claim {
    ($database:ident: $open:path) => {
        conformance! { $database: $open;
            registrations {
                a_registration_reads_back_as_it_was_stored
                registering_again_returns_the_first_one_unless_it_was_cancelled
                a_batch_is_answered_in_order
                lists_are_newest_first_and_filtered
                cancelling_ends_watching_and_delivering_but_nothing_else
                registering_a_settled_task_is_due_at_once_without_a_poll
                only_finished_registrations_are_pruned
                every_state_is_counted_as_registrations_come_and_go
                a_list_looks_at_no_more_rows_than_its_bound_and_says_where_it_goes_on
            }
            tasks {
                a_task_with_several_registrations_is_watched_once
                changes_tell_what_is_new_and_what_nobody_waits_for
                a_first_load_in_pages_misses_nothing_that_changes_meanwhile
                an_outcome_reaches_every_registration_in_one_commit
                an_outcome_is_set_once
                a_deadline_ends_only_the_registrations_whose_time_is_over
                a_checkpoint_survives_a_change_of_owner
                a_lost_lease_changes_nothing
                outcomes_are_numbered_in_the_order_in_which_they_were_stored
                hints_come_after_the_commit
            }
            deliveries {
                the_longest_due_delivery_comes_first
                an_attempt_is_logged_with_what_follows_from_it
                an_attempt_recorded_twice_changes_the_registration_once
                an_attempt_on_a_cancelled_registration_only_reaches_the_log
                a_redelivery_starts_the_schedule_again_with_the_same_bytes
                a_round_begins_with_its_first_attempt_and_a_redelivery_begins_another
                a_round_that_began_by_a_clock_set_back_since_begins_with_the_next_attempt
                what_others_wait_for_at_a_gone_callback_is_watched_and_kept
                what_waits_for_a_gone_callback_ends_step_by_step
                a_gone_callback_is_told_again_once_somebody_asks_or_it_accepts
                destinations_are_told_once_with_their_earliest_due_time
                destinations_are_walked_a_bounded_page_at_a_time
                what_a_person_asks_for_is_told_apart_until_it_is_attempted
                whoever_asks_while_an_attempt_is_under_way_is_not_answered_by_that_one
                what_is_under_way_can_be_put_off_and_is_recorded_all_the_same
            }
            notices {
                there_is_one_notice_a_client_and_subject_until_it_is_over
            }
            tickets {
                a_tickets_place_is_taken_by_a_newer_one_only
            }
            redeliveries {
                a_bulk_redelivery_is_worked_off_in_steps_and_each_is_made_due_once
                a_bulk_redelivery_touches_only_what_fits_its_filter
                a_cancelled_bulk_redelivery_goes_no_further
                a_step_of_a_bulk_redelivery_looks_at_a_bounded_number
                what_is_old_is_forgotten_in_small_steps_and_nothing_else
            }
            rewatches {
                what_ended_unresolved_can_be_registered_again_and_is_watched_from_the_start
                a_task_that_is_watched_keeps_what_is_known_of_it
                a_bulk_rewatch_finds_what_fits_page_by_page
                a_page_that_was_not_worked_off_comes_again_as_it_was_registered
                clients_take_turns_with_their_bulk_rewatches
            }
        }
    };
}

every_claim!(sqlite: super::fixture::sqlite);
every_claim!(postgres: super::fixture::postgres);
