use super::*;
use crate::sample::{Label, Labels, ThreadContext};

fn context() -> ProcessContext {
    ProcessContext {
        resource: vec![("service.name".to_owned(), "cart\u{1b}[2J".to_owned())],
        attribute_keys: vec!["http.route".to_owned()],
        ..ProcessContext::default()
    }
}

fn published() -> Published {
    let labels: [(&[u8], &[u8]); 3] = [(b"user", b"1"), (b"user", b"2"), (b"", b"")];
    Published {
        thread_context: Some(ThreadContext {
            trace_id: [0x4b; 16],
            span_id: [7; 8],
            trace_flags: 1,
            attrs_data: b"\x00\x01a\x07\x02\xff\n\x00\x02/b".to_vec(),
        }),
        custom_labels: Labels::from_iter(labels.map(|(key, value)| Label { key, value })),
        unreadable: false,
        truncated: true,
    }
}

fn threads() -> Threads {
    let context = context();
    let with = Thread::new(7, "a\r".to_owned(), &published(), Some(&context));
    let without = Thread::new(8, "idle".to_owned(), &Published::default(), Some(&context));
    let missed = Thread {
        tid: 9,
        not_read: Some(NotRead::Asleep),
        ..Thread::default()
    };
    Threads {
        pid: 7,
        name: "app".to_owned(),
        context: Some(context),
        threads: vec![with, without, missed],
        beyond_limit: 0,
    }
}

#[test]
fn attributes_get_their_names_and_repeated_ones_are_settled() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let thread = Thread::new(7, String::new(), &published(), Some(&context()));
    assert_eq!(
        thread.attributes,
        [pair("http.route", "/b"), pair("#7", "\u{fffd}\n")]
    );
    assert_eq!(thread.custom_labels, [pair("user", "1"), pair("", "")]);
    assert_eq!(thread.trace_flags, Some(1));
    let nameless = Thread::new(7, String::new(), &published(), None);
    assert_eq!(nameless.attributes[0].0, "#0");
}

#[test]
fn the_table_shows_and_obeys_nothing() {
    let threads = threads();
    let table = Table::new(&threads).to_string();
    assert_eq!(
        table,
        "\
process 7 (app), service cart\\u{1b}[2J
    TID  NAME             TRACE ID                          SPAN ID           FLAGS  ATTRIBUTES; LABELS
      7  a\\r              4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b  0707070707070707  01     \
         http.route=/b #7=\u{fffd}\\n ; user=1 = (truncated)
      8  idle             -                                 -                 -
      9                   -                                 -                 -      \
         (not read: asleep in a system call that a stop would end)
3 threads, 1 with a trace, 1 not read"
    );
}

#[test]
fn a_table_that_fits_leaves_out_silent_threads_first() {
    let threads = threads();
    let table = Table::new(&threads).fit(20, 5).to_string();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 20),
        "{table}"
    );
    assert!(lines[2].starts_with("      7  a"), "{table}");
    assert_eq!(lines[3], "(2 more)");
    let none = Table::new(&threads).fit(20, 0).to_string();
    assert_eq!(none.lines().count(), 4, "{none}");
}

#[test]
fn one_json_object_in_one_line() {
    let text = json(&threads());
    assert_eq!(text.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["service"]["name"], "cart\u{1b}[2J");
    assert_eq!(value["not_read"], 1);
    let thread = &value["threads"][0];
    assert_eq!(thread["trace_id"], "4b".repeat(16));
    assert_eq!(thread["attributes"]["http.route"], "/b");
    assert_eq!(thread["custom_labels"]["user"], "1");
    assert_eq!(value["threads"][1]["trace_flags"], serde_json::Value::Null);
    assert!(value["threads"][2]["not_read"].is_string());
    assert!(!text.contains(char::is_control));
}

#[test]
fn who_cannot_be_watched_is_told() {
    assert!(matches!(
        Watch::new(u32::MAX),
        Err(Error::NoSuchProcess { .. })
    ));
    let link = fs::read_link("/proc/thread-self").unwrap();
    let tid = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
    assert!(matches!(Watch::new(tid), Err(Error::NotAProcess { .. })));
}
