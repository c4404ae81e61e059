//! Records, read back as a profiler reads them.

use proptest::prelude::*;

use super::bytes::Attribute;
use super::*;
use crate::abi::thread_context::attributes;
use crate::published::{read_custom_labels, read_thread_context};

fn ids(byte: u8) -> SpanIds {
    SpanIds::new([byte; 16], [byte; 8], 1).unwrap()
}

type Labels = Vec<(String, String)>;

/// Attributes by name, and labels, as a reader finds them.
fn read(record: &Record) -> (Vec<(&'static str, String)>, Labels) {
    let pointers = record.bytes().pointers();
    // SAFETY: `record` is alive, so its pointers lead to its own bytes.
    let (context, labels) = unsafe {
        (
            read_thread_context(pointers.thread_context),
            read_custom_labels(pointers.custom_labels),
        )
    };
    let context = context.expect("the thread context is on by default");
    assert_eq!(context.ids, record.ids());
    assert_eq!(context.attrs_data, record.bytes().attrs_data());
    let attributes = attributes(&context.attrs_data)
        .map(|(key, value)| {
            let key = AttributeKey::from_index(key).expect("a key of the map");
            (
                key.name(),
                String::from_utf8(value.to_vec()).expect("whole characters"),
            )
        })
        .collect();
    (attributes, labels)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keys(count: usize) -> Vec<AttributeKey> {
    (0..count)
        .map(|n| AttributeKey::new(&format!("test.key.{n}")).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn both_layouts_hold_the_ids(
        trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>(), flags in any::<u8>(),
    ) {
        let Some(ids) = SpanIds::new(trace_id, span_id, flags) else { return Ok(()) };
        let (attributes, labels) = read(&Record::new(ids));
        prop_assert!(attributes.is_empty());
        let expected = [("otel_traceid", hex(&trace_id)), ("otel_spanid", hex(&span_id))];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value)).into();
        prop_assert_eq!(labels, if cfg!(feature = "custom-labels") { expected } else { Vec::new() });
    }

    #[test]
    fn whatever_the_attributes_are_readers_find_whole_characters_within_their_limits(
        values in prop::collection::vec(".{0,300}", 0..20),
    ) {
        let keys = keys(values.len());
        let given: Vec<Attribute<'_>> =
            keys.iter().copied().zip(values.iter().map(String::as_str)).collect();
        let (attributes, labels) = read(&Record::with_attributes(ids(1), &given));
        let size: usize = attributes.iter().map(|(_, value)| 2 + value.len()).sum();
        prop_assert!(size <= 612);
        for (name, value) in &attributes {
            let (_, given) = given.iter().find(|(key, _)| key.name() == *name).unwrap();
            prop_assert!(given.starts_with(value.as_str()));
            prop_assert!(value.len() == given.len() || (252..=255).contains(&value.len()));
        }
        if cfg!(feature = "custom-labels") {
            prop_assert_eq!(labels.len(), (2 + attributes.len()).min(10));
            prop_assert_eq!(&labels[0].1, &hex(&[1; 16]));
            prop_assert_eq!(&labels[1].1, &hex(&[1; 8]));
            for ((label, cut), (name, value)) in labels[2..].iter().zip(&attributes) {
                prop_assert_eq!(label, name);
                prop_assert!(value.starts_with(cut.as_str()));
                prop_assert!(cut.len() <= 53 && (cut.len() == value.len() || cut.len() >= 50));
            }
        }
    }
}

#[test]
fn what_is_cut_or_left_out_is_counted() {
    let keys = keys(12);
    let before = crate::counters();
    let long = "é".repeat(200);
    let mut given = vec![(keys[0], long.as_str())];
    given.extend(
        keys[1..]
            .iter()
            .map(|&key| (key, "0123456789012345678901234567890123456789")),
    );
    let (attributes, _) = read(&Record::with_attributes(ids(2), &given));
    assert_eq!(
        attributes[0].1.len(),
        254,
        "an odd byte would split a character"
    );
    assert_eq!(attributes.len(), 1 + (612 - 256) / 42);
    let after = crate::counters();
    assert!(after.values_cut > before.values_cut);
    assert!(after.labels_cut > before.labels_cut);
    assert!(after.attributes_dropped >= before.attributes_dropped + 3);
}

#[test]
fn records_start_at_even_addresses() {
    let key = keys(1)[0];
    for record in (0..64).map(|n| Record::with_attributes(ids(1), &[(key, &"x".repeat(n * 9))])) {
        assert_eq!(record.bytes().pointers().thread_context.addr() % 2, 0);
    }
}

#[test]
fn a_zero_id_is_not_a_span() {
    assert_eq!(SpanIds::new([0; 16], [1; 8], 1), None);
    assert_eq!(SpanIds::new([1; 16], [0; 8], 1), None);
}

#[test]
fn earlier_versions_of_a_context_s_record_live_and_their_number_ends() {
    let key = keys(1)[0];
    let mut record = Box::new(ContextRecord::new(Some(ids(3))));
    record.link();
    let seen = |record: &ContextRecord| {
        // SAFETY: all versions live as long as the record.
        let context = unsafe { read_thread_context(record.pointers().thread_context) };
        context.expect("a record").attrs_data
    };
    assert_eq!(seen(&record), []);
    let plain = record.pointers();
    let dropped = crate::counters().updates_dropped;
    for version in 0..20_u8 {
        record.replace(&[(key, &version.to_string())]);
    }
    assert_eq!(
        seen(&record),
        [key.index(), 2, b'1', b'5'],
        "the newest of those that fit"
    );
    assert!(crate::counters().updates_dropped >= dropped + 4);
    // SAFETY: as above.
    let first = unsafe { read_thread_context(plain.thread_context) };
    assert_eq!(first.expect("a record").attrs_data, []);
}
