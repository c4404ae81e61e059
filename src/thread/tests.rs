//! What a thread publishes, read back on it, through everything that changes it.

use super::floor::floor;
use super::*;
use crate::published;

fn record(byte: u8) -> Record {
    Record::new(SpanIds::new([byte; 16], [byte; 8], 1).unwrap())
}

fn context_record(byte: u8) -> Box<ContextRecord> {
    let mut record = Box::new(ContextRecord::new(Some(record(byte).ids())));
    record.link();
    record
}

fn seen() -> Option<u8> {
    published::thread_context().map(|context| context.ids.trace_id()[0])
}

#[test]
fn floors_nest_and_are_restored() {
    if !block::SUPPORTED {
        return;
    }
    let (outer, inner) = (record(1), record(2));
    assert_eq!(seen(), None);
    outer.publish_while(|| {
        assert_eq!(seen(), Some(1));
        inner.publish_while(|| assert_eq!(seen(), Some(2)));
        assert_eq!(seen(), Some(1));
        let panicked = std::panic::catch_unwind(|| inner.publish_while(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(seen(), Some(1));
    });
    assert_eq!(seen(), None);
    assert_eq!(published::custom_labels(), []);
}

#[test]
fn a_scope_ends_what_was_published_inside_it() {
    if !block::SUPPORTED {
        return;
    }
    assert!(!record(1).publish_for_rest_of_scope(), "there is no scope");
    record(1).publish_while(|| {
        publish_scope(|| {
            assert_eq!(seen(), Some(1));
            assert!(record(2).publish_for_rest_of_scope());
            assert_eq!(seen(), Some(2));
            record(3).publish_while(|| {
                assert!(record(4).publish_for_rest_of_scope());
                assert_eq!(seen(), Some(4));
                assert_eq!(
                    floor().map(|(record, shown)| (record.ids().span_id()[0], shown)),
                    Some((4, true))
                );
            });
            assert_eq!(seen(), Some(2));
            publish_scope(|| assert!(record(5).publish_for_rest_of_scope()));
            assert_eq!(seen(), Some(2));
        });
        assert_eq!(seen(), Some(1));
    });
    assert_eq!(seen(), None);
}

#[test]
fn a_context_inside_a_floor_is_published_instead_of_it() {
    if !block::SUPPORTED {
        return;
    }
    std::thread::spawn(|| {
        let (context, floor, child) = (context_record(1), record(2), context_record(3));
        let enter = |record: Option<&ContextRecord>| {
            // SAFETY: all records live until the thread is about to end.
            unsafe { set_current(record.map_or(ptr::null(), ptr::from_ref), true) }
        };
        enter(Some(&context));
        floor.publish_while(|| {
            assert_eq!(seen(), Some(2), "the floor was set inside the context");
            enter(Some(&child));
            assert_eq!(seen(), Some(3));
            enter(None);
            assert_eq!(seen(), Some(2), "a context without a span shows the floor");
            enter(Some(&context));
            assert_eq!(
                seen(),
                Some(2),
                "back in the context in which the floor was set"
            );
        });
        assert_eq!(seen(), Some(1));
        enter(None);
        assert_eq!(seen(), None);
    })
    .join()
    .unwrap();
}

#[test]
fn nothing_is_published_after_the_guard_is_gone() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            assert_eq!(seen(), None, "the exit guard goes first");
            let (context, record) = (context_record(7), record(7));
            // SAFETY: the record outlives the next call.
            unsafe { set_current(ptr::from_ref(&*context), true) };
            assert_eq!(seen(), None, "the thread is closed");
            // SAFETY: null is always allowed.
            unsafe { set_current(ptr::null(), false) };
            if block::SUPPORTED {
                record.publish_while(|| assert_eq!(seen(), Some(7)));
            }
        }
    }
    thread_local! {
        static LATE: Late = const { Late };
    }
    std::thread::spawn(|| {
        LATE.with(|_| ());
        // SAFETY: a leaked record lives for ever.
        unsafe { set_current(ptr::from_ref(Box::leak(context_record(1))), true) };
    })
    .join()
    .unwrap();
}
