use std::io::Read;
use std::process::Command;

use super::*;
use crate::profile::tests::{BUILD_ID, SPAN, TRACE, two_traces, with_off_cpu};

/// Reads protobuf with nothing of what wrote it: fields as (number, value).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (head, tail) = bytes.split_at(length);
                bytes = tail;
                Value::Bytes(head)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn messages<'a>(bytes: &'a [u8], number: u64) -> Vec<Vec<(u64, Value<'a>)>> {
    let message = |value| match value {
        Value::Bytes(bytes) => fields(bytes),
        Value::Number(_) => panic!("field {number} is a number"),
    };
    fields(bytes)
        .into_iter()
        .filter(|field| field.0 == number)
        .map(|field| message(field.1))
        .collect()
}

fn number(message: &[(u64, Value<'_>)], field: u64) -> u64 {
    match message.iter().find(|(number, _)| *number == field) {
        Some((_, Value::Number(value))) => *value,
        None => 0,
        Some((_, Value::Bytes(_))) => panic!("field {field} is no number"),
    }
}

fn packed(message: &[(u64, Value<'_>)], field: u64) -> Vec<u64> {
    match message.iter().find(|(number, _)| *number == field) {
        Some(&(_, Value::Bytes(mut bytes))) => {
            let mut values = Vec::new();
            while !bytes.is_empty() {
                values.push(varint(&mut bytes));
            }
            values
        }
        other => panic!("field {field}: {other:?}"),
    }
}

fn written() -> Vec<u8> {
    let mut compressed = Vec::new();
    write(
        &two_traces(),
        &Filter::all(),
        LabelStyle::Otel,
        &mut compressed,
    )
    .unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..])
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn an_independent_parser_reads_it_back() {
    let bytes = written();
    let strings: Vec<&str> = fields(&bytes)
        .into_iter()
        .filter_map(|field| match field {
            (6, Value::Bytes(text)) => Some(std::str::from_utf8(text).unwrap()),
            _ => None,
        })
        .collect();
    let string = |message: &[(u64, Value<'_>)], field| {
        strings[usize::try_from(number(message, field)).unwrap()]
    };
    assert_eq!(strings[0], "");

    let types: Vec<_> = messages(&bytes, 1)
        .iter()
        .map(|kind| (string(kind, 1), string(kind, 2)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    let top = fields(&bytes);
    assert_eq!(number(&top, 9), 1_700_000_000_000_000_000);
    assert_eq!(number(&top, 10), 2_000_000_000);
    assert_eq!(number(&top, 12), 10_000_000);

    let samples = messages(&bytes, 2);
    let values: Vec<_> = samples.iter().map(|sample| packed(sample, 2)).collect();
    assert_eq!(values, [[4, 40_000_000], [1, 10_000_000], [2, 20_000_000]]);
    let labels: Vec<Vec<(&str, &str, u64)>> = samples
        .iter()
        .map(|sample| {
            let labels = sample
                .iter()
                .filter(|field| field.0 == 3)
                .map(|field| match field.1 {
                    Value::Bytes(bytes) => fields(bytes),
                    Value::Number(_) => panic!("a label is no number"),
                });
            labels
                .map(|label| (string(&label, 1), string(&label, 2), number(&label, 3)))
                .collect()
        })
        .collect();
    assert_eq!(
        labels[0],
        [
            ("trace_id", TRACE, 0),
            ("span_id", SPAN, 0),
            ("thread.name", "worker", 0),
            ("thread.id", "", 43),
            ("process.pid", "", 42),
            ("process.executable.name", "app", 0),
            ("http.route", "/slow", 0),
        ]
    );
    assert_eq!(labels[2].last(), Some(&("job", "gc", 0)));

    // Every location, mapping and function that is named exists.
    let ids = |field| {
        messages(&bytes, field)
            .iter()
            .map(|message| number(message, 1))
            .collect::<Vec<_>>()
    };
    let (mappings, locations, functions) = (ids(3), ids(4), ids(5));
    assert_eq!(
        (mappings.len(), locations.len(), functions.len()),
        (2, 3, 2)
    );
    for sample in &samples {
        assert!(packed(sample, 1).iter().all(|id| locations.contains(id)));
    }
    let stack = packed(&samples[0], 1);
    let location = messages(&bytes, 4)
        .into_iter()
        .find(|location| number(location, 1) == stack[0])
        .unwrap();
    assert!(mappings.contains(&number(&location, 2)));
    let build_ids: Vec<_> = messages(&bytes, 3)
        .iter()
        .map(|mapping| (string(mapping, 5), string(mapping, 6)))
        .collect();
    assert_eq!(build_ids, [("/opt/app", BUILD_ID), ("/opt/lib.so", "")]);
    let lines: Vec<_> = location
        .iter()
        .filter_map(|field| match field {
            (4, Value::Bytes(line)) => Some(fields(line)),
            _ => None,
        })
        .map(|line| {
            let function = messages(&bytes, 5)
                .into_iter()
                .find(|function| number(function, 1) == number(&line, 1));
            (string(&function.unwrap(), 2), number(&line, 2))
        })
        .collect();
    assert_eq!(lines, [("handle<[u8; 4]>", 12), ("main", 7)]);
}

#[test]
fn labels_do_not_take_the_place_of_others() {
    let mut profile = two_traces();
    let more = [
        ("trace_id", "another"),
        ("empty", ""),
        ("a.b", "1"),
        ("a_b", "2"),
    ];
    let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
    profile.contexts[0].labels.extend(more);
    let labels = |style| {
        let encoded = encode(&profile, &Filter::all(), style);
        let string = |index: i64| encoded.string_table[usize::try_from(index).unwrap()].clone();
        let labels = encoded.sample[0].label.iter();
        labels
            .map(|label| (string(label.key), string(label.str)))
            .filter(|(key, _)| !key.starts_with("process") && !key.starts_with("thread"))
            .collect::<Vec<_>>()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let otel = pairs(&[
        ("trace_id", TRACE),
        ("span_id", SPAN),
        ("http.route", "/slow"),
        ("exported_trace_id", "another"),
        ("a.b", "1"),
        ("a_b", "2"),
    ]);
    assert_eq!(labels(LabelStyle::Otel), otel);
    // Of two names that become one, the first one's value stays.
    let parca = pairs(&[
        ("otel_traceid", TRACE),
        ("otel_spanid", SPAN),
        ("http_route", "/slow"),
        ("trace_id", "another"),
        ("a_b", "1"),
    ]);
    assert_eq!(labels(LabelStyle::Parca), parca);
}

#[test]
fn times_off_the_cpu_have_types_of_their_own() {
    let encoded = encode(&with_off_cpu(), &Filter::all(), LabelStyle::Otel);
    let string = |index: i64| encoded.string_table[usize::try_from(index).unwrap()].as_str();
    let types = encoded.sample_type.iter();
    let types: Vec<_> = types
        .map(|kind| (string(kind.r#type), string(kind.unit)))
        .collect();
    let expected = [
        ("samples", "count"),
        ("cpu", "nanoseconds"),
        ("blocked", "nanoseconds"),
        ("preempted", "nanoseconds"),
    ];
    assert_eq!(types, expected);
    let values: Vec<_> = encoded
        .sample
        .iter()
        .map(|sample| sample.value.clone())
        .collect();
    let expected = [
        [4, 40_000_000, 0, 0],
        [1, 10_000_000, 0, 0],
        [2, 20_000_000, 0, 0],
        [0, 0, 300_000_000, 0],
        [0, 0, 0, 1_000_000],
    ];
    assert_eq!(values, expected);
}

/// Servers that scrape it refuse a profile whose ids are not 1, 2, 3, …, or whose labels have no name.
#[test]
fn ids_are_numbered_from_one() {
    for style in LabelStyle::ALL {
        let encoded = encode(&with_off_cpu(), &Filter::all(), style);
        let mappings = encoded.mapping.iter().map(|mapping| mapping.id);
        let locations = encoded.location.iter().map(|location| location.id);
        let functions = encoded.function.iter().map(|function| function.id);
        for ids in [
            mappings.collect::<Vec<_>>(),
            locations.collect(),
            functions.collect(),
        ] {
            let expected: Vec<_> = (1..).take(ids.len()).collect();
            assert!(!ids.is_empty());
            assert_eq!(ids, expected);
        }
        assert_eq!(encoded.string_table[0], "");
        for sample in &encoded.sample {
            assert_eq!(sample.value.len(), encoded.sample_type.len());
            assert!(sample.label.iter().all(|label| label.key > 0));
        }
    }
}

/// Parca makes labels of text alone.
#[test]
fn numbers_are_text_for_parca() {
    let labels = |style| {
        let encoded = encode(&two_traces(), &Filter::all(), style);
        let string = |index: i64| encoded.string_table[usize::try_from(index).unwrap()].clone();
        let labels = encoded.sample[0].label.iter();
        labels
            .filter(|label| string(label.key).ends_with("_id"))
            .map(|label| (string(label.key), string(label.str), label.num))
            .collect::<Vec<_>>()
    };
    let owned = |labels: &[(&str, &str, i64)]| -> Vec<(String, String, i64)> {
        let labels = labels.iter();
        labels
            .map(|&(key, text, number)| (key.to_owned(), text.to_owned(), number))
            .collect()
    };
    assert_eq!(
        labels(LabelStyle::Parca),
        owned(&[("thread_id", "43", 0), ("process_id", "42", 0)])
    );
    let pyroscope = [
        ("trace_id", TRACE, 0),
        ("span_id", SPAN, 0),
        ("thread_id", "", 43),
        ("process_id", "", 42),
    ];
    assert_eq!(labels(LabelStyle::Pyroscope), owned(&pyroscope));
}

/// Go's own tool, where there is one.
#[test]
fn go_tool_pprof_reads_it() {
    let Ok(version) = Command::new("go").arg("version").output() else {
        eprintln!("skipped: needs go");
        return;
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.pb.gz");
    let file = std::fs::File::create(&path).unwrap();
    write(&two_traces(), &Filter::all(), LabelStyle::Otel, file).unwrap();
    let pprof = |view: &str| {
        let output = Command::new("go")
            .args(["tool", "pprof", "-symbolize=none", view])
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let raw = pprof("-raw");
    assert!(raw.contains("samples/count cpu/nanoseconds"), "{raw}");
    assert!(raw.contains(&format!("trace_id:[{TRACE}]")), "{raw}");
    assert!(raw.contains("handle<[u8; 4]> src/handler.rs:12"), "{raw}");
    assert!(raw.contains(&format!("/opt/app {BUILD_ID}")), "{raw}");
    let tags = pprof("-tags");
    assert!(
        tags.contains("trace_id: Total") && tags.contains(TRACE),
        "{tags}"
    );
}
