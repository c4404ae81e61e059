//! Pointers in dynamic thread-local storage: found by the thread's vector, whatever that says.

use std::collections::BTreeMap;

use ebpf_reader::sample::{Libc, Locations, Place, Sampler};

use crate::TRACE_ID;
use crate::collect::{collect, count, ebpf, ptrace, samples};
use crate::running::Target;
use crate::target::vectors::{GENERATION, MODULE, OFFSET};

/// What samples of a thread show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Context,
    Nothing,
    Unreadable,
}
use Shown::{Context, Nothing, Unreadable};

fn shows(
    sampler: &mut dyn Sampler,
    target: &Target,
    libc: Libc,
    module: u64,
    expected: &[(&str, Shown)],
) {
    let mut thread_context = target.locations.thread_context;
    let fallback = thread_context.iter().next().expect("a static place");
    thread_context = Place::Dynamic {
        module,
        offset: OFFSET,
        generation: GENERATION,
    }
    .into();
    thread_context.push(fallback);
    let locations = Locations {
        libc,
        thread_context,
        ..Locations::default()
    };
    sampler
        .follow(target.pid(), locations)
        .expect("the target can be followed");
    // What the locations before found may still be on its way.
    collect(sampler, |events| count(events, "current") >= 2);
    let events = collect(sampler, |events| {
        expected.iter().all(|(name, _)| count(events, name) >= 3)
    });
    let mut seen = BTreeMap::new();
    for sample in samples(&events) {
        let shown = match &sample.thread_context {
            Some(context) => {
                assert_eq!(context.trace_id, TRACE_ID);
                assert!(!sample.unreadable);
                Context
            }
            None if sample.unreadable => Unreadable,
            None => Nothing,
        };
        seen.insert(sample.thread_name.to_string_lossy().into_owned(), shown);
    }
    for (name, shown) in expected {
        assert_eq!(seen[*name], *shown, "{name} of {seen:?}");
    }
}

fn follows_vectors(sampler: &mut dyn Sampler, target: &Target) {
    let expected = [
        ("current", Context),
        ("newer", Context),
        ("stale", Nothing),
        ("untouched", Nothing),
        ("zero", Nothing),
        ("second", Context),
        ("stale-second", Context),
        ("small", Nothing),
        ("huge", Context),
        ("wild-block", Unreadable),
        ("kernel-block", Unreadable),
        ("null", Nothing),
        ("unmapped", Unreadable),
        ("kernel", Unreadable),
    ];
    shows(sampler, target, Libc::Glibc, MODULE, &expected);
    // Modules that no vector has: only the one that claims to hold everything is believed, in vain.
    for module in [1 << 40, u64::MAX / 32] {
        let expected = [
            ("current", Nothing),
            ("huge", Unreadable),
            ("null", Nothing),
            ("second", Context),
        ];
        shows(sampler, target, Libc::Glibc, module, &expected);
    }
    // Where musl keeps its vector on aarch64 glibc keeps something else.
    if cfg!(target_arch = "x86_64") {
        let expected = [
            ("musl", Context),
            ("musl-zero", Nothing),
            ("musl-small", Nothing),
            ("null", Nothing),
            ("unmapped", Unreadable),
            ("kernel", Unreadable),
        ];
        shows(sampler, target, Libc::Musl, MODULE, &expected);
    }
}

#[test]
fn ebpf_follows_vectors() {
    let Some(mut sampler) = ebpf() else { return };
    let target = Target::start("vectors");
    follows_vectors(&mut sampler, &target);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_follows_vectors() {
    let target = Target::start("vectors");
    let mut sampler = ptrace();
    follows_vectors(&mut sampler, &target);
    drop(sampler);
    target.finish();
}
