//! The threads of a process as one JSON object.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Threads;
use crate::process_context::ProcessContext;

/// One JSON object in one line: the process, its service, and its threads.
pub fn json(threads: &Threads) -> String {
    let service = threads.context.as_ref().and_then(ProcessContext::service);
    let object = Process {
        pid: threads.pid,
        name: &threads.name,
        service: service.map(|service| Service {
            name: service.name,
            version: service.version,
            instance: service.instance,
        }),
        threads: threads
            .threads
            .iter()
            .map(|thread| Thread {
                tid: thread.tid,
                name: &thread.name,
                trace_id: thread.trace_id.map(|id| id.to_string()),
                span_id: thread.span_id.map(|id| id.to_string()),
                trace_flags: thread.trace_flags,
                attributes: object(&thread.attributes),
                custom_labels: object(&thread.custom_labels),
                unreadable: thread.unreadable,
                truncated: thread.truncated,
                not_read: thread.not_read.map(super::NotRead::reason),
            })
            .collect(),
        not_read: threads.not_read(),
    };
    // Strings, numbers and lists of them: there is nothing that JSON could not hold.
    serde_json::to_string(&object).unwrap_or_default()
}

fn object(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect()
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    name: &'a str,
    service: Option<Service<'a>>,
    threads: Vec<Thread<'a>>,
    /// How many threads could not be read.
    not_read: usize,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    version: Option<&'a str>,
    instance: Option<&'a str>,
}

#[derive(Serialize)]
struct Thread<'a> {
    tid: u32,
    name: &'a str,
    trace_id: Option<String>,
    span_id: Option<String>,
    trace_flags: Option<u8>,
    attributes: Map<String, Value>,
    custom_labels: Map<String, Value>,
    unreadable: bool,
    truncated: bool,
    /// Why the thread could not be read, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_read: Option<&'static str>,
}
