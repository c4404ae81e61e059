//! What each reader would see of the same process.

use std::path::Path;

use ebpf_reader::check::{self, Reader, Target, View};

use super::build::{EXPORT, Running, writer};
use super::options;

fn view(program: &Path, fault: &str, reader: Reader) -> View {
    let running = Running::start(program, fault);
    let report = check::run(&Target::Pid(running.pid()), &options().reader(reader)).unwrap();
    report.view.unwrap()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn parca_sees_labels_and_cuts_them() {
    let seen = view(&writer(&EXPORT), "", Reader::Parca);
    assert!(seen.follows, "{seen:#?}");
    assert_eq!(seen.threads.len(), 2);
    for thread in &seen.threads {
        assert_eq!(
            thread.sees,
            [
                pair("otel_traceid", &"a".repeat(32)),
                pair("route", "/checkout"),
                pair("empty", "")
            ]
        );
        assert!(thread.misses.is_empty(), "{thread:?}");
    }

    let seen = view(&writer(&EXPORT), "view.cut", Reader::Parca);
    let thread = &seen.threads[0];
    assert_eq!(
        thread.sees,
        [
            pair("otel_traceid", &"a".repeat(32)),
            pair("a.key.that.is.longer.than", "/checkout"),
            pair(
                "long",
                "a value that is longer than the bytes that Parca Agen"
            ),
            pair("a", "c"),
            pair("esc\\u{1b}[31m", "\\u{1b}]0;title\\u{7}"),
            pair("more", "more"),
        ]
    );
    let misses = thread.misses.join("\n");
    for expected in [
        "1 label after the first 10",
        "a.key.that.is.longer.than: the key is cut from 37 to 25 bytes",
        "long: the value is cut from 67 to 53 bytes",
        "a: the key is cut at a zero byte",
        "a: the value is cut at a zero byte",
        "more is there already",
    ] {
        assert!(misses.contains(expected), "{expected}: {misses}");
    }

    let seen = view(&writer(&EXPORT), "labels.names", Reader::Parca);
    assert!(seen.threads[0].misses[0].contains("cpu clashes"));
}

#[test]
fn parca_looks_in_few_places() {
    let notes = |program: &Path| {
        let options = options().reader(Reader::Parca);
        let report = check::run(&Target::File(program.to_owned()), &options).unwrap();
        let view = report.view.unwrap();
        (view.follows, view.notes.join("\n"))
    };
    let (follows, found) = notes(&writer(&[&EXPORT[..], &["-DNO_LABELS"]].concat()));
    assert!(
        !follows && found.contains("finds no custom_labels_current_set"),
        "{found}"
    );
    let (follows, found) = notes(&writer(&EXPORT[..2]));
    assert!(
        !follows && found.contains("custom_labels_abi_version is not"),
        "{found}"
    );

    let descriptors = if cfg!(target_arch = "x86_64") {
        "-mtls-dialect=gnu2"
    } else {
        "-mtls-dialect=desc"
    };
    let shared = writer(&["-shared", "-fPIC", descriptors]);
    let (follows, found) = notes(&shared);
    assert!(
        !follows && found.contains("named libcustomlabels*.so"),
        "{found}"
    );
    let named = shared.with_file_name("libcustomlabels_test.so");
    std::fs::copy(&shared, &named).unwrap();
    assert!(notes(&named).0);
    let plain = writer(&["-shared", "-fPIC", "-ftls-model=initial-exec"]);
    std::fs::copy(&plain, &named).unwrap();
    let (follows, found) = notes(&named);
    assert!(
        !follows && found.contains("no TLSDESC relocation"),
        "{found}"
    );
}

#[test]
fn otel_sees_records_with_names() {
    let seen = view(&writer(&EXPORT), "", Reader::Otel);
    assert!(seen.follows && seen.threads.len() == 2, "{seen:#?}");
    assert_eq!(
        seen.threads[0].sees,
        [
            pair("trace_id", &"aa".repeat(16)),
            pair("span_id", &"bb".repeat(8)),
            pair("trace_flags", "01"),
            pair("local_root_span_id", "0123456789abcdef"),
            // Of a repeated key the last entry counts.
            pair("http.route", "/checkout"),
        ]
    );
    for (fault, expected) in [
        ("attributes.keys", "key 9 has no name"),
        ("attributes.utf8", "http.route: the value is not UTF-8"),
        ("record.valid", "the record is not valid (2)"),
        ("record.readable", "the record cannot be read"),
        ("record.size", "bytes of attributes after the first 612"),
    ] {
        let seen = view(&writer(&EXPORT), fault, Reader::Otel);
        let misses = seen.threads[0].misses.join("\n");
        assert!(misses.contains(expected), "{fault}: {misses}");
    }
    for (fault, expected) in [
        ("process.none", "waits for a process context"),
        ("process.schema", "does not know the schema tlsdesc_v9"),
        ("process.nokeys", "waits for threadlocal.attribute_key_map"),
    ] {
        let seen = view(&writer(&EXPORT), fault, Reader::Otel);
        assert!(!seen.follows && seen.threads.is_empty(), "{fault}");
        assert!(
            seen.notes.join("\n").contains(expected),
            "{fault}: {seen:?}"
        );
    }
}

#[test]
fn datadog_wants_the_local_root_span_first() {
    let seen = view(&writer(&EXPORT), "", Reader::Datadog);
    assert!(seen.follows, "{seen:#?}");
    assert_eq!(
        seen.threads[0].sees[3],
        pair("local_root_span_id", "0123456789abcdef")
    );
    assert!(seen.threads[0].misses.is_empty());
}

#[test]
fn a_process_without_contexts_right_now() {
    let seen = view(&writer(&EXPORT), "nothing", Reader::Otel);
    assert!(seen.follows && seen.threads.is_empty());
    assert!(
        seen.notes
            .contains(&"no thread had published anything".to_owned())
    );
}
