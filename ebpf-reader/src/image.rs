//! What a thread publishes, read from a piece of its memory that is given as bytes.
//!
//! For fuzzing and tests: the same code reads a living process.

use crate::published::{Published, ReadMemory};
use crate::sample::{Labels, Locations, Place, ThreadContext};

/// Bytes as the memory of a process, from an address on. There is nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    base: u64,
    bytes: &'a [u8],
}

/// What was found in an [`Image`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The thread context.
    pub thread_context: Option<ThreadContext>,
    /// The custom labels.
    pub custom_labels: Labels,
    /// A pointer leads out of the image, or to something that is not a record.
    pub unreadable: bool,
    /// Something is longer than what is read of it.
    pub truncated: bool,
}

/// Thread pointer of the thread whose memory it is said to be; its two slots lie right there.
const THREAD_POINTER: u64 = 1 << 40;

impl<'a> Image<'a> {
    /// Memory from `base` on.
    pub fn new(base: u64, bytes: &'a [u8]) -> Self {
        Self { base, bytes }
    }

    /// What a thread publishes whose slots hold these two addresses.
    pub fn published(self, thread_context: u64, custom_labels: u64) -> Found {
        let memory = WithSlots {
            image: self,
            slots: [thread_context, custom_labels],
        };
        let locations = Locations {
            thread_context: Place::Static { offset: 0 }.into(),
            custom_labels: Place::Static { offset: 8 }.into(),
            ..Locations::default()
        };
        let published = Published::read(&memory, THREAD_POINTER, locations);
        Found {
            thread_context: published.thread_context,
            custom_labels: published.custom_labels,
            unreadable: published.unreadable,
            truncated: published.truncated,
        }
    }
}

struct WithSlots<'a> {
    image: Image<'a>,
    slots: [u64; 2],
}

impl ReadMemory for WithSlots<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let slots = self.slots.map(u64::to_ne_bytes);
        for (base, bytes) in [
            (THREAD_POINTER, slots.as_flattened()),
            (self.image.base, self.image.bytes),
        ] {
            let start = usize::try_from(address.wrapping_sub(base)).ok();
            let end = start.and_then(|start| start.checked_add(buffer.len()));
            if let (Some(start), Some(end)) = (start, end)
                && let Some(found) = bytes.get(start..end)
            {
                buffer.copy_from_slice(found);
                return Some(());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_read_like_a_process() {
        let mut record = vec![7; 24];
        record.extend([1, 1]);
        record.extend(3_u16.to_ne_bytes());
        record.extend(*b"\0\x01a");
        let found = Image::new(0x1000, &record).published(0x1000, 0);
        let context = found.thread_context.unwrap();
        assert_eq!(context.attributes().collect::<Vec<_>>(), [(0, &b"a"[..])]);
        assert!(!found.unreadable);
        let cut = Image::new(0x1000, &record[..30]).published(0x1000, 0);
        assert!(cut.unreadable);
        let nothing = Image::new(0x1000, &record).published(0, 0);
        assert_eq!(nothing, Found::default());
    }
}
