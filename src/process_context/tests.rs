//! Publication as a reader sees it. The context belongs to the whole process, so these tests take turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::mapping::{self, Mapping};
use super::read_back::{Snapshot, snapshot};
use super::*;

pub(super) mod fork;
mod steps;

/// Held by a test while it publishes or forks. Nothing is published when it begins and when it ends.
pub(crate) struct Alone {
    _turn: MutexGuard<'static, ()>,
}

pub(crate) fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    withdraw();
    Alone { _turn: turn }
}

impl Drop for Alone {
    fn drop(&mut self) {
        withdraw();
    }
}

fn named(name: &str) -> ProcessContext {
    ProcessContext::new().resource("service.name", name)
}

fn read() -> Snapshot {
    snapshot().expect("a reader finds the context")
}

fn assert_nothing_found() {
    let found = snapshot();
    assert!(matches!(found, Err(ReadBackError::NotFound)), "{found:?}");
}

#[test]
fn a_reader_finds_what_is_published() {
    let _alone = alone();
    assert!(!is_published());
    assert_nothing_found();
    let context = named("checkout").attribute_keys(["http.route"]);
    let before = mapping::boot_time();
    publish(&context).expect("publishes");
    assert!(is_published());
    assert_eq!(read_back().expect("reads"), context);
    let published_at = read().published_at;
    assert!((before..=mapping::boot_time()).contains(&published_at));
}

#[test]
fn publishing_again_replaces_and_keeps_one_mapping() {
    let _alone = alone();
    publish(&named("a")).expect("publishes");
    let first = read();
    publish(&named("b")).expect("publishes");
    let second = read();
    assert_eq!(read_back().expect("reads"), named("b"));
    assert_eq!(second.mapping, first.mapping);
    assert!(second.published_at > first.published_at);
    // The same again is nothing new for readers.
    publish(&named("b")).expect("publishes");
    assert_eq!(read(), second);
}

#[test]
fn withdrawing_removes_the_mapping() {
    let _alone = alone();
    assert!(!withdraw());
    publish(&named("a")).expect("publishes");
    let first = read();
    assert!(withdraw());
    assert!(!is_published());
    assert_nothing_found();
    publish(&named("a")).expect("publishes again");
    assert!(read().published_at > first.published_at);
}

#[test]
fn what_is_refused_leaves_the_earlier_context_published() {
    let _alone = alone();
    publish(&named("a")).expect("publishes");
    let before = read();
    let refused = publish(&named(&"x".repeat(65 * 1024)));
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
    let refused = update_with(|context| context.attribute("threadlocal.schema_version", "x"));
    assert!(matches!(
        refused,
        Err(PublishError::ReservedAttribute { .. })
    ));
    assert_eq!(read(), before);
    update_with(|context| context.resource("more", true)).expect("the refused change is forgotten");
    assert_eq!(
        read_back().expect("reads"),
        named("a").resource("more", true)
    );
}

#[test]
fn a_panic_in_a_change_leaves_the_earlier_context_published() {
    let _alone = alone();
    publish(&named("a")).expect("publishes");
    let panicked = thread::spawn(|| update_with(|_| panic!("in a change"))).join();
    assert!(panicked.is_err());
    assert_eq!(read_back().expect("reads"), named("a"));
    publish(&named("b")).expect("publishes");
    assert_eq!(read_back().expect("reads"), named("b"));
}

#[test]
fn no_writer_loses_another_ones_change() {
    let _alone = alone();
    let (writers, changes) = (4, 50);
    thread::scope(|scope| {
        for writer in 0..writers {
            scope.spawn(move || {
                for change in 0..changes {
                    let key = format!("{writer}.{change}");
                    update_with(|context| context.resource(key, change)).expect("updates");
                }
            });
        }
    });
    let context = read_back().expect("reads");
    assert_eq!(context.resource_attributes().len(), 4 * 50);
    for writer in 0..writers {
        for change in 0..changes {
            let value = context.resource_value(&format!("{writer}.{change}"));
            assert_eq!(value, Some(&change.into()));
        }
    }
}

/// A context whose parts must agree: the length and the letter of one attribute follow from the other.
fn checked(number: i64) -> ProcessContext {
    let letter = char::from(b'a' + (number % 26) as u8).to_string();
    // From a few bytes to sizes that the allocator gives back to the kernel when freed.
    let text = letter.repeat(1 + (number * 7919 % 60_000) as usize);
    ProcessContext::new()
        .resource("number", number)
        .resource("text", text)
}

#[test]
fn a_reader_never_sees_half_an_update() {
    let _alone = alone();
    publish(&checked(0)).expect("publishes");
    let done = AtomicBool::new(false);
    let (reads, numbers) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut numbers, mut last_time) = (0_u64, 0_u64, 0);
            while !done.load(Ordering::Relaxed) {
                let snapshot = match snapshot() {
                    Ok(snapshot) => snapshot,
                    Err(ReadBackError::Changing) => continue,
                    Err(error) => panic!("{error}"),
                };
                let context = message::decode(&snapshot.payload).expect("a whole message");
                let Some(&Value::I64(number)) = context.resource_value("number") else {
                    panic!("no number in {context:?}");
                };
                assert_eq!(context, checked(number));
                assert!(snapshot.published_at >= last_time);
                numbers += u64::from(snapshot.published_at != last_time);
                last_time = snapshot.published_at;
                reads += 1;
            }
            (reads, numbers)
        });
        let end = Instant::now() + Duration::from_secs(2);
        for number in 1.. {
            publish(&checked(number)).expect("publishes");
            if Instant::now() > end {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().expect("the reader found no torn payload")
    });
    assert!(
        reads >= 100 && numbers >= 50,
        "{reads} reads of {numbers} contexts"
    );
}

#[test]
fn without_memfd_the_mapping_is_anonymous() {
    let _alone = alone();
    let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
    match Mapping::create(refused) {
        Ok(mut mapping) => {
            mapping.publish(message::encode(&named("a")).expect("fits"), 7);
            assert_eq!(read().name, "[anon:OTEL_CTX]");
            assert_eq!(read().published_at, 7);
            assert_eq!(read_back().expect("reads"), named("a"));
            mapping.withdraw();
        }
        // A kernel without names for mappings.
        Err(PublishError::Nameless { memfd, naming }) => {
            assert_eq!(memfd.raw_os_error(), Some(libc::EPERM));
            assert_eq!(naming.raw_os_error(), Some(libc::EINVAL));
        }
        Err(other) => panic!("{other}"),
    }
    assert_nothing_found();
}

#[test]
fn with_memfd_either_name_is_found() {
    let _alone = alone();
    publish(&named("a")).expect("publishes");
    let name = read().name;
    assert!(
        ["[anon_shmem:OTEL_CTX]", "/memfd:OTEL_CTX"].contains(&&*name),
        "{name}"
    );
}

#[test]
fn two_publishers_are_noticed() {
    let _alone = alone();
    publish(&named("a")).expect("publishes");
    let other = Mapping::create(mapping::memfd).expect("maps");
    let found = read_back();
    assert!(
        matches!(found, Err(ReadBackError::Several { count: 2 })),
        "{found:?}"
    );
    drop(other);
    assert_eq!(read_back().expect("reads"), named("a"));
}

#[test]
fn a_change_in_progress_is_not_read() {
    let _alone = alone();
    let mapping = Mapping::create(mapping::memfd).expect("maps");
    assert!(matches!(snapshot(), Err(ReadBackError::Changing)));
    mapping.withdraw();
    assert_nothing_found();
}
