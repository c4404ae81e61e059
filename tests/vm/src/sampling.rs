//! `ebpf-reader record`: the ids, attributes and labels in its samples are those that the programs publish.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use otel_profiling_vm_tests::{ATTRIBUTE, Published, SERVICE, THREADS, all_records, records};
use serde_json::Value;

use crate::process::{Finished, Writer, json};

/// Samples by eBPF, for so many seconds.
pub(crate) const EBPF: &[&str] = &["record", "--json", "--duration", "2"];

/// Samples by ptrace, for so many seconds.
const PTRACE: &[&str] = &["record", "--json", "--ptrace", "--duration", "2"];

/// Glibc leaves no room in the static block for objects that are loaded later.
const NO_STATIC_TLS: (&str, &str) = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=0");

pub(crate) fn ebpf_thread_context() -> Result<()> {
    thread_context(EBPF)
}

pub(crate) fn ptrace_thread_context() -> Result<()> {
    thread_context(PTRACE)
}

pub(crate) fn ebpf_custom_labels() -> Result<()> {
    custom_labels(EBPF)
}

pub(crate) fn ptrace_custom_labels() -> Result<()> {
    custom_labels(PTRACE)
}

pub(crate) fn ebpf_shared_object() -> Result<()> {
    shared_object(EBPF, &[])
}

pub(crate) fn ebpf_dynamic_tls() -> Result<()> {
    shared_object(EBPF, &[NO_STATIC_TLS])
}

pub(crate) fn ptrace_dynamic_tls() -> Result<()> {
    shared_object(PTRACE, &[NO_STATIC_TLS])
}

/// Threads, each with two traces of its own, by turns.
fn thread_context(mode: &[&str]) -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-writer"))?;
    let report = record(mode, &writer)?;
    all_with_context(&report)?;
    expect_records(&report, &all_records().collect::<Vec<_>>())
}

/// A main thread that publishes by itself and makes no system call.
pub(crate) fn ebpf_main_thread() -> Result<()> {
    let writer = Writer::start(Command::new("vm-writer").arg("main"))?;
    let report = record(EBPF, &writer)?;
    all_with_context(&report)?;
    expect_records(&report, &records(0).collect::<Vec<_>>())
}

/// A program that the reader starts, in a process namespace as containers have them.
pub(crate) fn ebpf_command_in_namespace() -> Result<()> {
    let mut unshare = Command::new("unshare");
    unshare.args(["-p", "-f", "-m", "--mount-proc", "ebpf-reader"]);
    unshare.args(EBPF).args(["--", "vm-writer"]);
    let report = Finished::run(&mut unshare)?.json()?;
    delivered(&report)?;
    let name = report.pointer("/processes/0/name");
    ensure!(name == Some(&"vm-writer".into()), "{report}");
    // Before it publishes, it has samples without a context, which show no other ids.
    expect_records(&report, &all_records().collect::<Vec<_>>())
}

/// A program that nobody has named: all processes are sampled.
pub(crate) fn ebpf_whole_machine() -> Result<()> {
    let _writer = Writer::start(&mut Command::new("vm-writer"))?;
    let report = json(&[EBPF, &["--all"]].concat())?;
    delivered(&report)?;
    let processes = strings(&report, "/processes", &["name"])?;
    ensure!(
        processes.contains(&["vm-writer".to_owned()][..]),
        "{processes:?}"
    );
    expect_records(&report, &all_records().collect::<Vec<_>>())
}

/// Threads that sleep with the first of their records published, and never with another one.
pub(crate) fn ebpf_off_cpu() -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-writer"))?;
    let report = record(&[EBPF, &["--off-cpu"]].concat(), &writer)?;
    expect_records(&report, &all_records().collect::<Vec<_>>())?;
    let sleeping: BTreeSet<_> = (0..THREADS)
        .filter_map(|thread| records(thread).next())
        .map(|record| hex(&record.trace_id))
        .collect();
    for trace in report["traces"].as_array().context("no traces")? {
        let id = trace["trace_id"].as_str().context("no trace id")?;
        let blocked = number(trace, "blocked_ns")? > 0;
        ensure!(blocked == sleeping.contains(id), "{}", report["traces"]);
    }
    Ok(())
}

/// A program in C with custom labels and nothing else; one of them is the trace id.
fn custom_labels(mode: &[&str]) -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-labels"))?;
    let report = record(mode, &writer)?;
    all_with_context(&report)?;
    let traces = strings(&report, "/traces", &["trace_id"])?;
    let expected = ["a1", "a2"].map(|byte| vec![byte.repeat(16)]);
    ensure!(traces == expected.into(), "traces {traces:?}");
    let values = strings(&report, "/labels/route", &["value"])?;
    let expected = ["/labels/1", "/labels/2"].map(|value| vec![value.to_owned()]);
    ensure!(values == expected.into(), "labels {values:?}");
    Ok(())
}

/// A program in C that loads the symbols in a shared object. Two threads publish, and one uses the CPU without.
fn shared_object(mode: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let writer = Writer::start(
        Command::new("vm-program")
            .args(["open", "/lib/vm-block.so"])
            .envs(environment.iter().copied()),
    )?;
    let report = record(mode, &writer)?;
    let read = strings(&report, "/spans", &["trace_id", "span_id"])?;
    let expected = [b'0', b'1'].map(|digit| {
        let ending_in = |id: &[u8]| hex(&[id, &[digit]].concat());
        vec![ending_in(b"trace-000000000"), ending_in(b"span-00")]
    });
    ensure!(read == expected.into(), "read {read:?}");
    let values = strings(&report, "/labels/thread", &["value"])?;
    let expected = ["custom-0", "custom-1"].map(|value| vec![value.to_owned()]);
    ensure!(values == expected.into(), "labels {values:?}");
    Ok(())
}

/// The process context names the service, and the attributes by its key map.
pub(crate) fn process_context() -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-writer"))?;
    let report = record(EBPF, &writer)?;
    let service = report.pointer("/processes/0/resource/service.name");
    ensure!(service == Some(&SERVICE.into()), "{}", report["processes"]);
    let values = strings(&report, &format!("/labels/{ATTRIBUTE}"), &["value"])?;
    let expected = all_records().map(|record| vec![record.value]).collect();
    ensure!(values == expected, "{ATTRIBUTE} {values:?}");
    Ok(())
}

/// The report of a recording of `writer`, of which nothing is missing.
fn record(mode: &[&str], writer: &Writer) -> Result<Value> {
    let pid = writer.pid();
    let report = json(&[mode, &["--pid", &pid]].concat())?;
    delivered(&report)?;
    Ok(report)
}

/// There are samples; each was delivered, and what was published could be read.
fn delivered(report: &Value) -> Result<()> {
    ensure!(number(report, "samples")? > 0, "no samples: {report}");
    for none in ["lost", "unreadable", "truncated"] {
        ensure!(number(report, none)? == 0, "{none}: {report}");
    }
    Ok(())
}

fn all_with_context(report: &Value) -> Result<()> {
    let (all, with) = (number(report, "samples")?, number(report, "with_context")?);
    ensure!(all == with, "{with} of {all} samples with context");
    Ok(())
}

fn number(report: &Value, name: &str) -> Result<u64> {
    report[name].as_u64().with_context(|| format!("no {name}"))
}

/// All of these records have been read, no others, and never the trace id of one with the span id of another.
fn expect_records(report: &Value, published: &[Published]) -> Result<()> {
    let read = strings(report, "/spans", &["trace_id", "span_id"])?;
    let expected = published
        .iter()
        .map(|record| vec![hex(&record.trace_id), hex(&record.span_id)])
        .collect();
    ensure!(read == expected, "read {read:?}, published {expected:?}");
    Ok(())
}

/// Of the list at `path`, these fields of every entry.
fn strings(report: &Value, path: &str, fields: &[&str]) -> Result<BTreeSet<Vec<String>>> {
    let list = report.pointer(path).and_then(Value::as_array);
    let list = list.with_context(|| format!("no {path} in {report}"))?;
    let field = |entry: &Value, name: &&str| Some(entry.get(name)?.as_str()?.to_owned());
    list.iter()
        .map(|entry| fields.iter().map(|name| field(entry, name)).collect())
        .collect::<Option<_>>()
        .with_context(|| format!("{path} in {report}"))
}

/// An id as the reader prints it.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
