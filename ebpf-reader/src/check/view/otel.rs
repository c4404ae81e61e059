//! The OpenTelemetry eBPF profiler: the thread context, once the process context says how to read it.

use std::collections::BTreeMap;

use otel_profiling::abi::process_context::{
    ATTRIBUTE_KEY_MAP_KEY, SCHEMA_VERSION, SCHEMA_VERSION_KEY,
};
use otel_profiling::abi::thread_context::{MAX_ATTRS_SIZE, VALID, attributes};

use super::{ThreadView, View, hex};
use crate::check::module::Module;
use crate::check::observe::{Seen, ThreadLook};
use crate::check::thread::RawRecord;
use crate::check::{plural, signed};
use crate::elf::{Machine, Pointer};
use crate::sample::Place;
use crate::text::printable;

/// What it sees of a process; `more` adds what another reader makes of a record's attributes.
pub(super) fn view(
    view: &mut View,
    seen: &Seen,
    more: impl Fn(&mut ThreadView, &[String], &BTreeMap<u8, &[u8]>),
) {
    let found = find(view, &seen.modules) && seen.has(Pointer::ThreadContext);
    let keys = match (seen.context.schema(), seen.context.keys()) {
        (Some(SCHEMA_VERSION), Some(keys)) => keys,
        (Some(SCHEMA_VERSION), None) => {
            view.note(format!(
                "waits for {ATTRIBUTE_KEY_MAP_KEY} in the process context"
            ));
            return;
        }
        (Some(other), _) => {
            view.note(format!("does not know the schema {}", printable(other)));
            return;
        }
        (None, _) => {
            view.note(format!(
                "waits for a process context with {SCHEMA_VERSION_KEY}"
            ));
            return;
        }
    };
    view.note(format!(
        "finds the process context, {}",
        plural(keys.len() as u64, "attribute key")
    ));
    if !found {
        return;
    }
    view.follows = true;
    let threads = seen.threads.values().filter_map(|thread| {
        let record = thread.record.as_ref()?;
        Some(read(thread, record, keys, &more))
    });
    view.threads.extend(threads);
}

/// Whether it finds the symbol, in whichever module.
pub(super) fn find(view: &mut View, modules: &[Module]) -> bool {
    let pointer = Pointer::ThreadContext;
    let mut found = false;
    for module in modules {
        let Some(offset) = module.elf.tls_offset(pointer) else {
            continue;
        };
        let name = &module.name;
        let is_used = module
            .references
            .iter()
            .any(|reference| reference.pointer == pointer);
        let static_offset = || {
            let tls = module.elf.tls?;
            // Its own arithmetic, without regard to the address of the segment.
            let offset = match module.elf.machine {
                Machine::X86_64 => {
                    offset.wrapping_sub(tls.memsz.checked_next_multiple_of(tls.align)?)
                }
                Machine::Aarch64 => {
                    offset.wrapping_add(16_u64.checked_next_multiple_of(tls.align)?)
                }
            };
            Some(offset.cast_signed())
        };
        if is_used {
            found = true;
            view.note(format!(
                "finds {} in {name} by its relocation",
                pointer.symbol()
            ));
        } else if !module.is_executable {
            view.note(format!(
                "leaves {name} out: no relocation in it leads to the symbol"
            ));
        } else if module.elf.dynamic.is_none() {
            found = true;
            view.note(format!(
                "finds {} in the .symtab of {name}",
                pointer.symbol()
            ));
        } else if let Some(offset) = static_offset() {
            if module.elf.main_executable_place(pointer) == Some(Place::Static { offset }) {
                found = true;
                view.note(format!(
                    "finds {} of {name} at thread pointer {}",
                    pointer.symbol(),
                    signed(offset)
                ));
            } else {
                view.note(format!(
                    "computes thread pointer {} for {name}, which is wrong: it does not know of a PT_TLS whose address is \
                     not aligned",
                    signed(offset)
                ));
            }
        }
    }
    if !found && view.notes.is_empty() {
        view.note(format!("finds no {} in .dynsym", pointer.symbol()));
    }
    found
}

/// What it reads of a record.
fn read(
    thread: &ThreadLook,
    record: &RawRecord,
    keys: &[String],
    more: &impl Fn(&mut ThreadView, &[String], &BTreeMap<u8, &[u8]>),
) -> ThreadView {
    let mut view = ThreadView::of(thread);
    if record.header.is_none() {
        view.miss("the record cannot be read");
        return view;
    }
    if record.valid() != VALID {
        view.miss(format!("the record is not valid ({})", record.valid()));
        return view;
    }
    if record.trace_id() != [0; 16] {
        view.see("trace_id", hex(&record.trace_id()));
        view.see("span_id", hex(&record.span_id()));
        view.see("trace_flags", hex(&[record.trace_flags()]));
    }
    let size = usize::from(record.attrs_size());
    if size > MAX_ATTRS_SIZE {
        view.miss(format!(
            "{} of attributes after the first {MAX_ATTRS_SIZE}",
            plural((size - MAX_ATTRS_SIZE) as u64, "byte")
        ));
    }
    let Some(attrs) = &record.attrs else {
        view.miss("the attributes cannot be read");
        return view;
    };
    // Of a repeated key the last entry counts.
    let by_key: BTreeMap<u8, &[u8]> = attributes(attrs).collect();
    for (&key, &value) in &by_key {
        match (keys.get(usize::from(key)), std::str::from_utf8(value)) {
            (Some(name), Ok(value)) => view.see(name, value),
            (Some(name), Err(_)) => {
                view.miss(format!("{}: the value is not UTF-8", printable(name)));
            }
            (None, _) => view.miss(format!("key {key} has no name in the attribute key map")),
        }
    }
    more(&mut view, keys, &by_key);
    view
}
