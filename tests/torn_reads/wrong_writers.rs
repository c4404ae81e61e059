//! Writers that do what must not be done, with memory of their own and this program's symbols.

use std::ffi::CStr;
use std::ptr;
use std::thread;

use otel_profiling::abi::custom_labels::{Label, LabelSet, Str};
use otel_profiling::abi::thread_context::{RecordHeader, VALID};

use crate::check::{self, Trace};
use crate::writers::{Traces, short_threads, spin};

/// A record in both layouts, at an address that does not change.
struct OwnRecord {
    header: Box<RecordHeader>,
    set: Box<LabelSet>,
    _labels: Box<[Label]>,
    values: Vec<Box<[u8]>>,
}

fn str_of(bytes: &[u8]) -> Str {
    Str {
        len: bytes.len(),
        buf: bytes.as_ptr(),
    }
}

impl OwnRecord {
    fn new(trace: &Trace) -> Self {
        let header = Box::new(RecordHeader {
            trace_id: *trace,
            span_id: check::span_id(trace),
            valid: VALID,
            trace_flags: check::flags(trace),
            attrs_data_size: 0,
        });
        let pairs = check::labels(trace);
        let values: Vec<Box<[u8]>> = pairs
            .iter()
            .map(|(_, value)| value.as_bytes().into())
            .collect();
        let labels: Box<[Label]> = pairs
            .iter()
            .zip(&values)
            .map(|((key, _), value)| Label {
                key: str_of(key.as_bytes()),
                value: str_of(value),
            })
            .collect();
        let set = Box::new(LabelSet {
            storage: labels.as_ptr(),
            count: labels.len(),
            capacity: labels.len(),
        });
        Self {
            header,
            set,
            _labels: labels,
            values,
        }
    }

    /// Publishes the record on this thread, past the library.
    fn publish(&self) {
        for (symbol, address) in [
            (
                c"otel_thread_ctx_v1",
                ptr::from_ref(&*self.header).expose_provenance(),
            ),
            (
                c"custom_labels_current_set",
                ptr::from_ref(&*self.set).expose_provenance(),
            ),
        ] {
            let slot = slot(symbol);
            // SAFETY: the slot is this thread's and lives as long as it. Nothing in this process follows
            // the pointer: the library does not publish anything on this thread.
            unsafe { slot.write_volatile(address) };
        }
    }

    /// Writes another trace into the record, byte by byte, whoever may be looking.
    fn change(&mut self, trace: &Trace) {
        fn overwrite(to: &mut [u8], from: &[u8]) {
            for (to, from) in to.iter_mut().zip(from) {
                // SAFETY: it is a plain store. Volatile, so that it is not optimized away or merged.
                unsafe { ptr::from_mut(to).write_volatile(*from) };
            }
        }
        overwrite(&mut self.header.trace_id, trace);
        overwrite(&mut self.header.span_id, &check::span_id(trace));
        self.header.trace_flags = check::flags(trace);
        for (value, (_, new)) in self.values.iter_mut().zip(check::labels(trace)) {
            overwrite(value, new.as_bytes());
        }
    }
}

/// The calling thread's copy of one of this program's thread-local symbols.
fn slot(symbol: &CStr) -> *mut usize {
    // SAFETY: the name is terminated by a zero byte.
    let slot = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
    assert!(!slot.is_null(), "the symbols are exported");
    slot.cast()
}

/// Threads that change a record in place while it is published.
pub(crate) fn change_while_published() {
    for seed in 0..4 {
        thread::spawn(move || {
            let mut traces = Traces::new(seed);
            let mut record = OwnRecord::new(&traces.next_plain());
            record.publish();
            loop {
                record.change(&traces.next_plain());
            }
        });
    }
}

/// Threads that free a record, and end without having withdrawn it.
pub(crate) fn end_while_published() {
    short_threads(|traces| {
        let record = OwnRecord::new(&traces.next_plain());
        record.publish();
        spin();
        drop(record);
    });
}
