//! What every store promises, on both engines.
#![allow(clippy::unwrap_used)]

mod reads;
#[path = "../support/mod.rs"]
mod support;
mod watches;
mod writes;

/// Runs each test on the memory engine and on redb.
macro_rules! contract {
    ($($part:ident: $($name:ident)*;)*) => {
        mod memory {
            $($(#[tokio::test]
            async fn $name() {
                crate::$part::$name(crate::support::Bed::memory()).await;
            })*)*
        }
        mod redb {
            $($(#[tokio::test]
            async fn $name() {
                crate::$part::$name(crate::support::Bed::redb()).await;
            })*)*
        }
    };
}

contract! {
    writes:
        revisions_are_consecutive_and_an_acknowledged_write_is_read
        a_write_happens_only_if_the_key_is_as_expected
        an_update_keeps_the_revision_that_created_the_key
        a_delete_has_its_own_revision_and_its_value_is_encoded_with_it
        concurrent_committers_get_distinct_consecutive_revisions
        of_many_racing_creators_of_one_key_one_wins
        a_dropped_commit_happens_or_not_but_never_half
        close_finishes_what_is_queued_and_refuses_the_rest
        a_panic_while_encoding_fails_that_write_alone
        the_inline_writer_commits_without_waiting;
    reads:
        below_the_floor_watch_list_and_continued_pages_say_compacted
        a_list_at_a_revision_shows_that_revision
        pages_are_cut_from_one_revision_while_others_write
        a_page_says_how_many_keys_follow
        counts_follow_creates_and_deletes
        history_is_bounded_in_bytes_and_fresh_history_is_kept;
    watches:
        a_watch_gets_the_events_of_its_prefix_in_order
        a_watch_resumes_after_any_revision_that_is_not_compacted
        a_watch_of_a_quiet_resource_resumes_although_others_were_compacted
        a_sleeping_watcher_outlives_the_compaction_of_what_does_not_concern_it
        a_watcher_that_is_overrun_is_told_so
        an_event_wakes_no_watcher_of_another_cluster_or_resource
        a_list_and_its_watch_leave_no_gap_and_no_double
        a_thousand_slow_watchers_all_get_everything_and_hold_nothing
        a_prefix_over_several_resources_lists_and_watches_all_of_them;
}

const PODS: &str = "core/pods/";

fn pod(cluster: &str, name: &str) -> String {
    format!("core/pods/{cluster}/default/{name}")
}
