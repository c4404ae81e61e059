//! Stores anything in this thread's two slots, as no writer that means well would.

use ebpf_reader::sample::{Place, Places};

/// The thread pointer of the calling thread.
fn thread_pointer() -> u64 {
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

/// The slots of this process's threads.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    thread_context: i64,
    custom_labels: i64,
}

impl Slots {
    pub(crate) fn find() -> Self {
        // It has to be linked in.
        assert!(otel_profiling::published::thread_context().is_none());
        let locations = ebpf_reader::process::locate(std::process::id()).unwrap();
        let offset = |places: Places| match places.iter().next() {
            Some(Place::Static { offset }) => offset,
            other => panic!("{other:?}"),
        };
        Self {
            thread_context: offset(locations.thread_context),
            custom_labels: offset(locations.custom_labels),
        }
    }

    /// Publishes these two addresses in the calling thread.
    pub(crate) fn set(self, thread_context: u64, custom_labels: u64) {
        for (offset, value) in [
            (self.thread_context, thread_context),
            (self.custom_labels, custom_labels),
        ] {
            let slot = thread_pointer().wrapping_add_signed(offset);
            // SAFETY: one of the two slots of this thread's block, which otel_profiling defines and nothing in this
            // process uses otherwise: eight aligned bytes that live as long as the thread.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<u64>(slot as usize).write_volatile(value);
            }
        }
    }
}

/// The address of something that lives as long as the process.
pub(crate) fn address<T>(value: T) -> u64 {
    std::ptr::from_ref(Box::leak(Box::new(value))).expose_provenance() as u64
}

/// The address of bytes that live as long as the process, even as records are.
pub(crate) fn bytes(bytes: &[u8]) -> u64 {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(padded);
    }
    words.leak().as_ptr().expose_provenance() as u64
}

/// A record with these attributes, which claims `size` bytes of them.
pub(crate) fn record(trace_id: [u8; 16], attributes: &[u8], size: u16) -> Vec<u8> {
    let mut record = trace_id.to_vec();
    record.extend([0xbb; 8]);
    record.extend([1, 1]);
    record.extend(size.to_ne_bytes());
    record.extend(attributes);
    record
}

/// A label set with these labels, which claims `count` of them.
pub(crate) fn label_set(labels: &[(&[u8], &[u8])], count: u64) -> u64 {
    let mut storage = Vec::new();
    for text in labels.iter().flat_map(|&(key, value)| [key, value]) {
        storage.extend([text.len() as u64, bytes(text)]);
    }
    let storage = storage.leak().as_ptr().expose_provenance() as u64;
    address([storage, count, count])
}
