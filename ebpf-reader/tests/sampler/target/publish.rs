//! What targets publish.

use std::cell::Cell;
use std::ptr::null;

use otel_profiling::abi::custom_labels::{Label, LabelSet, Str};
use otel_profiling::abi::thread_context::{RecordHeader, VALID};

use crate::{ATTRS, SPAN_ID, TRACE_ID};

thread_local! {
    pub(super) static THREAD_CONTEXT: Cell<*const Record> = const { Cell::new(null()) };
    pub(super) static CUSTOM_LABELS: Cell<*const LabelSet> = const { Cell::new(null()) };
}

#[repr(C)]
pub(super) struct Record {
    header: RecordHeader,
    attrs: [u8; ATTRS.len()],
}

pub(super) const RECORD: Record = Record {
    header: RecordHeader {
        trace_id: TRACE_ID,
        span_id: SPAN_ID,
        valid: VALID,
        trace_flags: 1,
        attrs_data_size: ATTRS.len() as u16,
    },
    attrs: ATTRS,
};

/// The calling thread's thread pointer.
pub(super) fn thread_pointer() -> u64 {
    let thread_pointer: u64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the psABI puts the thread pointer's own value at fs:0; only reads.
    unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register that every thread may read.
    unsafe {
        std::arch::asm!("mrs {}, tpidr_el0", out(reg) thread_pointer, options(nostack, nomem));
    }
    thread_pointer
}

/// Offsets of the two pointers from the thread pointer.
pub(crate) fn locations() -> (i64, i64) {
    let thread_pointer = thread_pointer();
    let offset = |address: u64| address.wrapping_sub(thread_pointer).cast_signed();
    (
        THREAD_CONTEXT.with(|cell| offset(cell as *const _ as u64)),
        CUSTOM_LABELS.with(|cell| offset(cell as *const _ as u64)),
    )
}

fn string(text: &'static str) -> Str {
    Str {
        len: text.len(),
        buf: text.as_ptr(),
    }
}

pub(super) fn publish() {
    let skipped = Str {
        len: 9,
        buf: null(),
    };
    let labels = Vec::leak(vec![
        Label {
            key: string("otel_traceid"),
            value: string("30313233"),
        },
        Label {
            key: skipped,
            value: string("skipped"),
        },
        Label {
            key: string("empty"),
            value: string(""),
        },
    ]);
    let set: &'static LabelSet = Box::leak(Box::new(LabelSet {
        storage: labels.as_ptr(),
        count: labels.len(),
        capacity: labels.len(),
    }));
    THREAD_CONTEXT.set(Box::leak(Box::new(RECORD)));
    CUSTOM_LABELS.set(set);
}
