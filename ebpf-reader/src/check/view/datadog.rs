//! Datadog's profilers: the thread context, with the local root span's id as the attribute of key 0.

use otel_profiling::abi::process_context::ATTRIBUTE_KEY_MAP_KEY;

use super::{View, otel};
use crate::check::observe::Seen;
use crate::text::printable;

/// Names that key 0 may have.
const LOCAL_ROOT: [&str; 2] = ["local_root_span_id", "datadog.local_root_span_id"];

/// What it sees of a process.
pub(super) fn view(view: &mut View, seen: &Seen) {
    otel::view(view, seen, |thread, keys, attributes| {
        let is_named = keys
            .first()
            .is_some_and(|name| LOCAL_ROOT.contains(&name.as_str()));
        match attributes.get(&0) {
            _ if !is_named => {}
            None => thread.miss(format!(
                "no {}: the record has no attribute with key 0",
                LOCAL_ROOT[0]
            )),
            Some(value) if is_span_id(value) => {}
            Some(_) => thread.miss(format!("no {}: not 16 hexadecimal digits", LOCAL_ROOT[0])),
        }
    });
    if !view.follows {
        return;
    }
    match seen.context.keys().and_then(<[_]>::first) {
        Some(name) if LOCAL_ROOT.contains(&name.as_str()) => {}
        Some(name) => view.note(format!(
            "finds no local root spans: key 0 is {}, and not {}",
            printable(name),
            LOCAL_ROOT[0]
        )),
        None => view.note(format!(
            "finds no local root spans: {ATTRIBUTE_KEY_MAP_KEY} is empty, and {} has to be key 0",
            LOCAL_ROOT[0]
        )),
    }
}

fn is_span_id(value: &[u8]) -> bool {
    value.len() == 16 && value.iter().all(u8::is_ascii_hexdigit)
}
