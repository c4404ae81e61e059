//! Reads what a stopped thread publishes and its stack, through a function that reads its memory.
//!
//! The same rules and bounds as in the kernel side (`bpf/contexts.h`): nothing that is read is
//! trusted, each size is bounded, and reading ends at the first pointer that leads nowhere.

use otel_profiling::abi::custom_labels::{Label as WireLabel, LabelSet};
use otel_profiling::abi::thread_context::{MAX_ATTRS_SIZE, RecordHeader, VALID};

use crate::sample::{Label, Labels, Libc, Locations, Places, ThreadContext};
use crate::thread_local;

const MAX_FRAMES: usize = 127;
/// Bytes of the stack that are copied, and how many at a time: a copy may end before the stack does, not after.
const MAX_COPY: usize = 16 << 10;
const COPY_STEP: usize = 1 << 10;

const MAX_LABELS: u64 = 16;
const MAX_KEY: u64 = 64;
const MAX_VALUE: u64 = 256;

/// Stacks are read in blocks that do not cross a page: a read over its end would fail as a whole.
const BLOCK: u64 = 4096;

/// Copies memory of the thread's process; `None` if not all of it can be read.
pub(crate) trait ReadMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()>;

    fn bytes(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; size];
        self.read(address, &mut buffer)?;
        Some(buffer)
    }

    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut words = [[0; 8]; N];
        self.read(address, words.as_flattened_mut())?;
        Some(words.map(u64::from_ne_bytes))
    }
}

/// What a thread publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) thread_context: Option<ThreadContext>,
    pub(crate) custom_labels: Labels,
    /// A pointer led to memory that cannot be read, or to something that is not a record.
    pub(crate) unreadable: bool,
    /// Something was longer than what is read of it.
    pub(crate) truncated: bool,
}

impl Published {
    /// Reads both contexts of the thread with this thread pointer.
    pub(crate) fn read(
        memory: &impl ReadMemory,
        thread_pointer: u64,
        locations: Locations,
    ) -> Self {
        let mut published = Self::default();
        // Zero: the thread has not set up its thread-local storage yet.
        if thread_pointer == 0 {
            return published;
        }
        let find = |places: Places| first_published(memory, thread_pointer, locations.libc, places);
        let read = find(locations.thread_context).and_then(|record| match record {
            Some(record) => published.read_thread_context(memory, record),
            None => Some(()),
        });
        published.unreadable |= read.is_none();
        let read = find(locations.custom_labels).and_then(|set| match set {
            Some(set) => published.read_custom_labels(memory, set),
            None => Some(()),
        });
        published.unreadable |= read.is_none();
        published
    }

    fn read_thread_context(&mut self, memory: &impl ReadMemory, record: u64) -> Option<()> {
        if !record.is_multiple_of(2) {
            return None;
        }
        let mut header = [0; size_of::<RecordHeader>()];
        memory.read(record, &mut header)?;
        let (&[valid, _, low, high], _) = header.get(24..)?.split_first_chunk()?;
        if valid != VALID {
            return Some(());
        }
        let context = self
            .thread_context
            .insert(ThreadContext::from_record(&header, &[])?);
        let size = usize::from(u16::from_ne_bytes([low, high]));
        self.truncated |= size > MAX_ATTRS_SIZE;
        let attrs = record.wrapping_add(header.len() as u64);
        context.attrs_data = memory.bytes(attrs, size.min(MAX_ATTRS_SIZE))?;
        Some(())
    }

    fn read_custom_labels(&mut self, memory: &impl ReadMemory, set: u64) -> Option<()> {
        const {
            assert!(size_of::<LabelSet>() == 3 * 8 && size_of::<WireLabel>() == 4 * 8);
        }
        let [storage, count, _capacity] = memory.words(set)?;
        self.truncated |= count > MAX_LABELS;
        for slot in 0..count.min(MAX_LABELS) {
            let address = storage.wrapping_add(slot * size_of::<WireLabel>() as u64);
            let [key_size, key, value_size, value] = memory.words(address)?;
            if key == 0 {
                continue;
            }
            self.custom_labels.push(Label {
                key: &memory.bytes(key, key_size.min(MAX_KEY) as usize)?,
                value: &memory.bytes(value, value_size.min(MAX_VALUE) as usize)?,
            });
            self.truncated |= key_size > MAX_KEY || value_size > MAX_VALUE;
        }
        Some(())
    }
}

/// The first pointer that is not null; `None` if a place cannot be read.
fn first_published(
    memory: &impl ReadMemory,
    thread_pointer: u64,
    libc: Libc,
    places: Places,
) -> Option<Option<u64>> {
    for place in places.iter() {
        let Some(address) = thread_local::address(memory, thread_pointer, libc, place).ok()? else {
            continue;
        };
        let [pointer] = memory.words(address)?;
        if pointer != 0 {
            return Some(Some(pointer));
        }
    }
    Some(None)
}

/// The user stack by frame pointers, innermost frame first.
pub(crate) fn user_stack(memory: &impl ReadMemory, instruction: u64, frame: u64) -> Vec<u64> {
    let mut stack = vec![instruction];
    let mut block = Block::default();
    let mut frame = frame;
    while stack.len() < MAX_FRAMES {
        let Some([next, return_address]) = block.frame(memory, frame) else {
            break;
        };
        if return_address == 0 {
            break;
        }
        stack.push(return_address);
        // Callers' frames lie higher: whatever else this is, it is not a stack.
        if next <= frame {
            break;
        }
        frame = next;
    }
    stack
}

/// A copy of the user stack from `start` on, up to where it cannot be read any more.
pub(crate) fn copied_stack(memory: &impl ReadMemory, start: u64) -> Vec<u8> {
    let mut copy = Vec::with_capacity(MAX_COPY);
    while copy.len() < MAX_COPY {
        let from = copy.len();
        copy.resize(from + COPY_STEP, 0);
        let address = start.checked_add(from as u64);
        let (Some(address), Some(step)) = (address, copy.get_mut(from..)) else {
            break;
        };
        if memory.read(address, step).is_none() {
            copy.truncate(from);
            break;
        }
    }
    copy
}

/// The last page of the stack that was read.
#[derive(Default)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    /// The saved frame pointer and the return address at `frame`.
    fn frame(&mut self, memory: &impl ReadMemory, frame: u64) -> Option<[u64; 2]> {
        if frame == 0 || !frame.is_multiple_of(8) {
            return None;
        }
        Some([
            self.word(memory, frame)?,
            self.word(memory, frame.checked_add(8)?)?,
        ])
    }

    fn word(&mut self, memory: &impl ReadMemory, address: u64) -> Option<u64> {
        let start = address - address % BLOCK;
        if self.bytes.is_empty() || self.start != start {
            self.bytes = memory.bytes(start, BLOCK as usize)?;
            self.start = start;
        }
        let bytes = self.bytes.get((address - start) as usize..)?;
        bytes.first_chunk().copied().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Place;

    /// Memory from address 0x10000 on.
    struct Fake(Vec<u8>);

    const BASE: u64 = 0x10000;

    impl ReadMemory for Fake {
        fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
            let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
            let end = start.checked_add(buffer.len())?;
            buffer.copy_from_slice(self.0.get(start..end)?);
            Some(())
        }
    }

    impl Fake {
        fn set(&mut self, address: u64, words: &[u64]) {
            let start = (address - BASE) as usize;
            for (index, word) in words.iter().enumerate() {
                self.0[start + index * 8..][..8].copy_from_slice(&word.to_ne_bytes());
            }
        }
    }

    fn locations() -> Locations {
        Locations {
            libc: Libc::Glibc,
            thread_context: Place::Static { offset: -16 }.into(),
            custom_labels: Place::Static { offset: -8 }.into(),
        }
    }

    /// A thread pointer at 0x10100, null pointers.
    fn memory() -> Fake {
        Fake(vec![0; 0x4000])
    }

    fn read(memory: &Fake) -> Published {
        Published::read(memory, BASE + 0x100, locations())
    }

    fn record(memory: &mut Fake, at: u64, valid: u8, attrs: &[u8]) {
        let start = (at - BASE) as usize;
        memory.0[start..start + 16].fill(0xaa);
        memory.0[start + 16..start + 24].fill(0xbb);
        memory.0[start + 24] = valid;
        memory.0[start + 25] = 1;
        memory.0[start + 26..start + 28].copy_from_slice(&(attrs.len() as u16).to_ne_bytes());
        memory.0[start + 28..start + 28 + attrs.len()].copy_from_slice(attrs);
        memory.set(BASE + 0xf0, &[at]);
    }

    #[test]
    fn null_pointers_are_no_context() {
        assert_eq!(read(&memory()), Published::default());
        assert_eq!(
            Published::read(&memory(), 0, locations()),
            Published::default()
        );
    }

    #[test]
    fn a_record_is_read_only_if_it_is_valid() {
        let mut memory = memory();
        record(&mut memory, BASE + 0x200, 1, &[0, 1, b'x']);
        let context = read(&memory).thread_context.expect("a context");
        assert_eq!((context.trace_id, context.span_id), ([0xaa; 16], [0xbb; 8]));
        assert_eq!(
            (context.trace_flags, &context.attrs_data[..]),
            (1, &[0, 1, b'x'][..])
        );
        for valid in [0, 2, 255] {
            record(&mut memory, BASE + 0x200, valid, &[]);
            assert_eq!(read(&memory), Published::default());
        }
    }

    #[test]
    fn attributes_are_cut_at_the_recommended_size() {
        let mut memory = memory();
        record(&mut memory, BASE + 0x200, 1, &[7; 613]);
        let published = read(&memory);
        assert!(published.truncated && !published.unreadable);
        assert_eq!(
            published.thread_context.expect("a context").attrs_data,
            [7; 612]
        );
    }

    #[test]
    fn wild_pointers_are_unreadable() {
        let mut memory = memory();
        let wild = [8, BASE + 0x4000, u64::MAX - 1, 0xffff_8000_0000_0000];
        for pointer in wild {
            memory.set(BASE + 0xf0, &[pointer, 0]);
            assert!(read(&memory).unreadable, "{pointer:#x} as a record");
            memory.set(BASE + 0xf0, &[0, pointer]);
            assert!(read(&memory).unreadable, "{pointer:#x} as a label set");
        }
        // Memory that is there, at an odd address: not a record.
        memory.set(BASE + 0xf0, &[BASE + 0x201, 0]);
        assert!(read(&memory).unreadable);
    }

    #[test]
    fn labels_are_read_within_bounds() {
        let mut memory = memory();
        let (set, storage, text) = (BASE + 0x200, BASE + 0x1000, BASE + 0x2000);
        memory.0[0x2000..0x2400].fill(b'y');
        memory.set(BASE + 0xf8, &[set]);
        memory.set(set, &[storage, 3, 3]);
        memory.set(storage, &[1, text, 2, text]);
        memory.set(storage + 32, &[5, 0, 5, text]);
        memory.set(storage + 64, &[1000, text, u64::MAX, text]);
        let published = read(&memory);
        assert!(published.truncated && !published.unreadable);
        let sizes: Vec<_> = published
            .custom_labels
            .iter()
            .map(|l| (l.key.len(), l.value.len()))
            .collect();
        assert_eq!(sizes, [(1, 2), (64, 256)]);

        // A set that is its own storage, with a count beyond reason.
        memory.set(set, &[set, u64::MAX, 0]);
        assert!(read(&memory).custom_labels.iter().count() <= 16);
    }

    #[test]
    fn stacks_end_where_they_stop_making_sense() {
        let mut memory = memory();
        let frames = [BASE + 0x100, BASE + 0xff8, BASE + 0x2000];
        memory.set(frames[0], &[frames[1], 0x11]);
        memory.set(frames[1], &[frames[2], 0x22]);
        memory.set(frames[2], &[0, 0x33]);
        assert_eq!(user_stack(&memory, 0x1, frames[0]), [0x1, 0x11, 0x22, 0x33]);
        // A frame that points at itself, and one that points down.
        memory.set(frames[2], &[frames[2], 0x33]);
        assert_eq!(user_stack(&memory, 0x1, frames[0]).len(), 4);
        memory.set(frames[2], &[frames[0], 0x33]);
        assert_eq!(user_stack(&memory, 0x1, frames[0]).len(), 4);
        for frame in [0, 3, u64::MAX - 7, BASE - 8, BASE + 0x4000] {
            assert_eq!(user_stack(&memory, 0x1, frame), [0x1], "{frame:#x}");
        }
        // A chain that goes on and on.
        for frame in (0..0x1000).step_by(16) {
            memory.set(BASE + frame, &[BASE + frame + 16, 0x44]);
        }
        assert_eq!(user_stack(&memory, 0x1, BASE).len(), MAX_FRAMES);
    }
}
