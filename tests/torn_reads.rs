//! What a profiler reads is always whole: sampled from outside by eBPF while threads attach and detach
//! contexts as fast as they can, and while threads end.
//!
//! Every id is a function of the trace id, so each sample can be checked by itself ([`check`]). The
//! writers run in a process of their own: the test starts itself again. Deliberately wrong writers show
//! that the checks see what they are there for.
//!
//! The two layouts are published one after the other, so a sample may have the thread context of one span
//! and the custom labels of another. That is documented, and each of the two is checked by itself.

#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "torn_reads/allocator.rs"]
mod allocator;
#[path = "torn_reads/check.rs"]
mod check;
#[path = "torn_reads/reader.rs"]
mod reader;
#[path = "torn_reads/writers.rs"]
mod writers;
#[path = "torn_reads/wrong_writers.rs"]
mod wrong_writers;

use reader::sample;

#[test]
fn no_read_is_torn() {
    let Some(tally) = sample("no_read_is_torn", 100_000, writers::hammer) else {
        return;
    };
    tally.assert_whole();
    assert!(2 * tally.with_thread_context > tally.samples, "{tally:?}");
    assert!(2 * tally.with_custom_labels > tally.samples, "{tally:?}");
}

#[test]
fn changing_a_published_record_is_detected() {
    let case = "changing_a_published_record_is_detected";
    let Some(tally) = sample(case, 10_000, wrong_writers::change_while_published) else {
        return;
    };
    assert!(tally.torn_thread_contexts > 0, "{tally:?}");
    assert!(tally.torn_custom_labels > 0, "{tally:?}");
}

#[test]
fn an_ending_thread_publishes_nothing_that_was_freed() {
    let case = "an_ending_thread_publishes_nothing_that_was_freed";
    let Some(tally) = sample(case, 30_000, writers::end_with_forgotten_guards) else {
        return;
    };
    tally.assert_whole();
    // Both parts of the threads' lives were seen: with their contexts, and after them.
    assert!(tally.with_thread_context > 1_000, "{tally:?}");
    assert!(tally.with_custom_labels > 1_000, "{tally:?}");
    assert!(
        tally.samples - tally.with_thread_context > 1_000,
        "{tally:?}"
    );
}

#[test]
fn a_pointer_to_freed_memory_is_detected() {
    let case = "a_pointer_to_freed_memory_is_detected";
    let Some(tally) = sample(case, 10_000, wrong_writers::end_while_published) else {
        return;
    };
    assert!(tally.torn_thread_contexts > 0, "{tally:?}");
}
