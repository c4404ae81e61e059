//! Hostile writers next to a good one, all of them followed by one recording with eBPF: whatever they publish, map,
//! name or do to their files, the good one's samples are right, and the reader keeps its rate and its size.
//!
//! The programs are this very test binary, started again: see [`writer`] and the modules below it. Needs CAP_BPF and
//! CAP_PERFMON; where a process has them, it has to pass.

mod files;
mod good;
mod publish;
mod recording;
mod writer;

use self::recording::{Recorded, Writers, missing};

/// Samples a second.
const FREQUENCY_HZ: f64 = 997.0;
/// Rounds of the good writer for which a recording goes on.
const ROUNDS: usize = 40;
/// The largest that the reader may become, in KiB.
const MAX_RESIDENT: i64 = 200 << 10;

/// Also the way into the programs: the tests start this binary with this test's name.
#[test]
fn writer() {
    if let Ok(kind) = std::env::var(writer::VARIABLE) {
        writer::run(&kind);
    }
    assert!(std::env::var_os(writer::VARIABLE).is_none());
}

/// What has to hold whoever else is recorded.
fn check(recorded: &Recorded) {
    let messages = &recorded.messages;
    assert!(recorded.status.success(), "{messages}");
    assert!(!messages.contains("panicked"), "{messages}");
    recorded.has_no_control_characters();
    assert!(
        recorded.max_resident_kib < MAX_RESIDENT,
        "{} KiB resident; {messages}",
        recorded.max_resident_kib
    );

    // The good one is followed after all others, whose files are looked at first: some rounds go by.
    // Each round of the good one has a trace of its own, and it has told how much CPU time each took. The first and
    // the last round that were seen were not recorded from beginning to end.
    let rounds = recorded.rounds_of_the_good_one();
    assert!(
        rounds.len() > ROUNDS / 5,
        "{} rounds; {messages}",
        rounds.len()
    );
    let whole = &rounds[1..rounds.len() - 1];
    // About fifty samples each: where the thread is scheduled in and out all the time, some more or fewer.
    let (mut samples, mut seconds) = (0, 0.0);
    for round in whole {
        samples += round.samples;
        seconds += round.cpu.as_secs_f64();
        let rate = round.samples as f64 / round.cpu.as_secs_f64() / FREQUENCY_HZ;
        assert!(
            (0.6..1.4).contains(&rate),
            "{rate} in {round:?}; {} samples, {}",
            samples,
            recorded.last_line()
        );
    }
    let rate = f64::from(samples) / seconds / FREQUENCY_HZ;
    assert!(
        (0.95..1.05).contains(&rate),
        "{rate} of the rate; {messages}"
    );
}

fn run(hostile: &[&str]) -> Option<Recorded> {
    if let Some(missing) = missing() {
        eprintln!("skipped: {missing}");
        return None;
    }
    let writers = Writers::start(hostile);
    let recorded = writers.record(ROUNDS);
    if recorded.messages.contains("needs CAP_BPF and CAP_PERFMON") {
        eprintln!("skipped: needs CAP_BPF and CAP_PERFMON");
        return None;
    }
    check(&recorded);
    Some(recorded)
}

#[test]
fn pointers_to_anywhere_and_names_of_anything() {
    if let Some(recorded) = run(&["pointers"]) {
        assert!(recorded.unreadable() > 0, "{}", recorded.table);
    }
}

#[test]
fn always_something_new() {
    run(&["flood"]);
}

#[test]
fn process_contexts_and_mappings_without_measure() {
    run(&["changing-context", "huge-context", "mappings"]);
}

#[test]
fn files_that_are_huge_or_change_while_they_are_read() {
    run(&["sparse", "truncates"]);
}

#[test]
fn all_of_them_at_once() {
    run(&[
        "pointers",
        "flood",
        "changing-context",
        "huge-context",
        "mappings",
        "sparse",
        "truncates",
    ]);
}
