//! Rules of what a running process publishes.

use std::process::{Command, Stdio};
use std::time::Instant;

use ebpf_reader::check::{self, Report, Rule, Target, Verdict};

use super::build::{EXPORT, Running, writer};
use super::{PATIENCE, assert_breaks, options, with};

/// Fault of the writer, the rule that it breaks, what is found, what to do.
pub(crate) const BROKEN: &[(&str, Rule, &str, &str)] = &[
    (
        "record.readable",
        Rule::RecordReadable,
        "the pointer is 0x10",
        "null before the record is freed",
    ),
    (
        "record.tail",
        Rule::RecordReadable,
        "bytes of attributes",
        "after the attributes are written",
    ),
    (
        "record.alignment",
        Rule::RecordAlignment,
        "a record at 0x",
        "align the record",
    ),
    ("record.valid", Rule::RecordValid, ": 2", "write 1 when"),
    (
        "record.size",
        Rule::RecordSize,
        "bytes of attributes",
        "at most 612",
    ),
    (
        "record.ids",
        Rule::RecordIds,
        "a trace id without a span id",
        "both ids or none",
    ),
    (
        "record.flags",
        Rule::RecordFlags,
        "flags 0x01 without ids",
        "clear the trace flags",
    ),
    (
        "attributes.fit",
        Rule::AttributesFit,
        "1 byte after the last",
        "attrs-data-size",
    ),
    (
        "attributes.utf8",
        Rule::AttributesUtf8,
        "the value of key 1",
        "between characters",
    ),
    (
        "attributes.keys",
        Rule::AttributesKeys,
        "key 9, and the map has 2 names",
        "threadlocal.attribute_key_map",
    ),
    (
        "labels.readable",
        Rule::LabelsReadable,
        "the pointer is 0x10",
        "null before",
    ),
    (
        "labels.storage",
        Rule::LabelsReadable,
        "label 0 of the storage at 0x10",
        "null before",
    ),
    (
        "labels.string",
        Rule::LabelsReadable,
        "the value of label 1, 9 bytes at 0x10",
        "null before",
    ),
    (
        "labels.capacity",
        Rule::LabelsCapacity,
        "4 labels in storage for 3",
        "the capacity",
    ),
    (
        "labels.value",
        Rule::LabelsValue,
        "label 3 is a null pointer",
        "key's address to null",
    ),
    (
        "labels.utf8",
        Rule::LabelsUtf8,
        "the value of label 1",
        "between characters",
    ),
    (
        "labels.names",
        Rule::LabelsNames,
        "a label named cpu",
        "another name",
    ),
    (
        "process.mapping",
        Rule::ProcessMapping,
        "2 mappings",
        "unmap",
    ),
    (
        "process.none",
        Rule::ProcessMapping,
        "there is none",
        "process_context::publish",
    ),
    (
        "process.signature",
        Rule::ProcessSignature,
        r"OTEL\x1b[XX",
        "begin the mapping",
    ),
    (
        "process.version",
        Rule::ProcessVersion,
        "version 1",
        "version 2",
    ),
    (
        "process.time",
        Rule::ProcessTime,
        "in the future",
        "CLOCK_BOOTTIME",
    ),
    (
        "process.old",
        Rule::ProcessTime,
        "before the process started",
        "CLOCK_BOOTTIME",
    ),
    (
        "process.changing",
        Rule::ProcessTime,
        "in all",
        "end each update with a timestamp",
    ),
    ("process.size", Rule::ProcessSize, "65537 bytes", "64 KiB"),
    (
        "process.payload",
        Rule::ProcessPayload,
        "at 0x10 cannot be read",
        "keep the payload",
    ),
    (
        "process.message",
        Rule::ProcessMessage,
        "not such a message",
        "ProcessContext {",
    ),
    (
        "process.schema",
        Rule::ProcessSchema,
        "tlsdesc_v9",
        "tlsdesc_v1_dev",
    ),
    (
        "process.keys",
        Rule::ProcessKeys,
        "entry 2 is not a string",
        "an array of at most 256 strings",
    ),
    (
        "process.nokeys",
        Rule::ProcessKeys,
        "there is none",
        "threadlocal.attribute_key_map",
    ),
    (
        "process.growth",
        Rule::ProcessGrowth,
        "index 1 was http.",
        "only append",
    ),
    (
        "process.update",
        Rule::ProcessUpdate,
        "under the timestamp",
        "differs from every earlier one",
    ),
];

fn check(program: &std::path::Path, fault: &str) -> Report {
    let running = Running::start(program, fault);
    check::run(&Target::Pid(running.pid()), &options()).unwrap()
}

#[test]
fn a_good_writer_passes_all() {
    let report = check(&writer(&EXPORT), "");
    assert!(report.passed(), "{report:#?}");
    assert_eq!(with(&report, Verdict::NotApplicable), []);
    assert!(
        report
            .finding(Rule::AttributesFit)
            .unwrap()
            .found
            .contains("the last entry counts")
    );
}

#[test]
fn each_fault_breaks_just_one_rule() {
    let program = writer(&EXPORT);
    for &(fault, rule, found, fix) in BROKEN {
        println!("{fault}");
        let begin = Instant::now();
        let running = Running::start(&program, fault);
        let report = loop {
            let report = check::run(&Target::Pid(running.pid()), &options()).unwrap();
            // Whether a change falls into the observation is a matter of time.
            let may_miss = matches!(rule, Rule::ProcessGrowth | Rule::ProcessUpdate);
            if !may_miss || !report.passed() || begin.elapsed() > PATIENCE {
                break report;
            }
        };
        assert_breaks(&report, rule, found, fix);
    }
}

/// Each pointer alone, because both lie in the block that was moved.
#[test]
fn an_address_that_the_process_does_not_agree_with() {
    for (without, rule) in [
        ("-DNO_LABELS", Rule::ContextAddress),
        ("-DNO_CONTEXT", Rule::LabelsAddress),
    ] {
        let program = writer(&[&EXPORT[..], &[without]].concat());
        assert!(check(&program, "").passed());
        assert_breaks(
            &check(&program, "address"),
            rule,
            "by the thread's vector it is 0x",
            "PT_TLS",
        );
    }
}

/// A small program that loads the writer as a shared object, early or late.
#[test]
fn a_writer_in_a_shared_object_passes_all() {
    let models: &[&str] = if cfg!(target_arch = "x86_64") {
        &[
            "-mtls-dialect=gnu2",
            "-mtls-dialect=gnu",
            "-ftls-model=initial-exec",
        ]
    } else {
        &[
            "-mtls-dialect=desc",
            "-mtls-dialect=trad",
            "-ftls-model=initial-exec",
        ]
    };
    for model in models {
        let shared = writer(&["-shared", "-fPIC", "-Dmain=writer", model]);
        let shared = shared.to_str().unwrap();
        let linked = writer(&[
            "-DLOADER",
            shared,
            &format!("-Wl,-rpath,{}", folder(shared)),
        ]);
        let late = writer(&["-DLOADER", &format!("-DLATE=\"{shared}\""), "-ldl"]);
        for program in [linked, late] {
            for tunables in ["", "glibc.rtld.optional_static_tls=0"] {
                // There is no static block left for what insists on it.
                if model.ends_with("initial-exec") && !tunables.is_empty() {
                    continue;
                }
                let running = Running::start_with(&program, "", &[("GLIBC_TUNABLES", tunables)]);
                let report = check::run(&Target::Pid(running.pid()), &options()).unwrap();
                assert!(report.passed(), "{model} {tunables} {report:#?}");
                for rule in [
                    Rule::ContextSymbol,
                    Rule::LabelsReadable,
                    Rule::AttributesKeys,
                ] {
                    assert_eq!(
                        report.finding(rule).unwrap().verdict,
                        Verdict::Passed,
                        "{rule}"
                    );
                }
            }
        }
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}

#[test]
fn updates_as_they_should_be_are_no_fault() {
    let running = Running::start(&writer(&EXPORT), "updates");
    let begin = Instant::now();
    loop {
        let report = check::run(&Target::Pid(running.pid()), &options()).unwrap();
        assert!(report.passed(), "{report:#?}");
        let updates = &report.finding(Rule::ProcessUpdate).unwrap().found;
        if !updates.starts_with("no update") {
            break;
        }
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[test]
fn a_process_that_publishes_nothing_right_now_passes() {
    let report = check(&writer(&EXPORT), "nothing");
    assert!(report.passed(), "{report:#?}");
    let finding = report.finding(Rule::RecordIds).unwrap();
    assert_eq!(finding.verdict, Verdict::NotApplicable);
    assert_eq!(finding.found, "no thread had published a record");
}

/// The way into the Rust writer: the test below starts this binary with this test's name.
#[test]
fn rust_writer() {
    use otel_profiling::process_context::{self, ProcessContext};
    use otel_profiling::{AttributeKey, Record, SpanIds};

    if std::env::var_os("CHECK_TEST_WRITER").is_none() {
        return;
    }
    process_context::publish(&ProcessContext::new().resource("service.name", "rust")).unwrap();
    let route = AttributeKey::new("http.route").unwrap();
    let ids = SpanIds::new([1; 16], [2; 8], 1).unwrap();
    Record::with_attributes(ids, &[(route, "/users/{id}")]).publish_while(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
    });
}

#[test]
fn a_rust_writer_passes_all() {
    if otel_profiling::self_check().is_err_and(|error| error.to_string().contains(".dynsym")) {
        println!("skipped: needs a linker that exports the symbols by itself, such as rust-lld");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::rust_writer", "--nocapture"])
        .env("CHECK_TEST_WRITER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let report = loop {
        let report = check::run(&Target::Pid(child.id()), &options()).unwrap();
        let published =
            report.finding(Rule::AttributesKeys).unwrap().verdict != Verdict::NotApplicable;
        if published || begin.elapsed() > PATIENCE {
            break report;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(with(&report, Verdict::NotApplicable), []);
}
