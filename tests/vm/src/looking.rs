//! `ebpf-reader threads` and `check`: a process without sampling it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use otel_profiling_vm_tests::{ATTRIBUTE, SERVICE, THREADS, records};
use serde_json::Value;

use crate::process::{Writer, json};
use crate::sampling::hex;

/// How often to look again at most.
const LOOKS: usize = 10;

/// Every thread is listed, each with one of its own records or, the main thread, with none.
pub(crate) fn threads() -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-writer"))?;
    let look = || json(&["threads", "--json", &writer.pid()]);
    let mut report = look()?;
    // A thread that waits for memory is not looked at, and says so.
    for _ in 0..LOOKS {
        if report["not_read"] == 0 {
            break;
        }
        report = look()?;
    }
    let service = report.pointer("/service/name");
    ensure!(service == Some(&SERVICE.into()), "{report}");
    let threads = report["threads"].as_array().context("no threads")?;
    ensure!(threads.len() == usize::from(THREADS) + 1, "{report}");
    for thread in threads {
        let read = (
            &thread["trace_id"],
            &thread["span_id"],
            &thread["attributes"][ATTRIBUTE],
        );
        let name = thread["name"].as_str().context("no name")?;
        let publishes = match name.strip_prefix("writer-") {
            Some(number) => records(number.parse()?).any(|record| {
                let ids = (hex(&record.trace_id), hex(&record.span_id));
                read == (&ids.0.into(), &ids.1.into(), &record.value.into())
            }),
            None => read == (&Value::Null, &Value::Null, &Value::Null),
        };
        ensure!(publishes, "{thread}");
        ensure!(thread["unreadable"] == false, "{thread}");
    }
    let names: BTreeSet<_> = threads
        .iter()
        .filter_map(|thread| thread["name"].as_str())
        .collect();
    ensure!(names.len() == threads.len(), "{report}");
    Ok(())
}

/// All rules pass in a program that publishes all there is.
pub(crate) fn check() -> Result<()> {
    let writer = Writer::start(&mut Command::new("vm-writer"))?;
    let report = json(&["check", "--json", &writer.pid()])?;
    let count = |verdict| report[verdict].as_u64();
    ensure!(
        count("passed") > Some(0) && count("failed") == Some(0),
        "{report}"
    );
    Ok(())
}
