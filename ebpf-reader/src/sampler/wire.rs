//! Decodes what the kernel side puts into the ring buffer.
//!
//! The layout is declared in `bpf/records.h`. The bytes come from our own program in the kernel, but
//! parts of them are copied from the target: everything is checked against the length that arrived.

use otel_profiling::abi::thread_context::RecordHeader;

use super::off_cpu::SwitchIn;
use crate::sample::{
    Activity, Event, Labels, Registers, Sample, StackCopy, ThreadContext, ThreadName,
};

const KIND_SAMPLE: u32 = 1;
const KIND_FORK: u32 = 2;
const KIND_EXEC: u32 = 3;
const KIND_EXIT: u32 = 4;
const KIND_APPEARED: u32 = 5;
const KIND_SWITCH_OUT: u32 = 6;
const KIND_SWITCH_IN: u32 = 7;

const HAS_THREAD_CONTEXT: u8 = 1;
const UNREADABLE: u8 = 4;
const HAS_COPY: u8 = 8;

const RECORD_HEADER_SIZE: usize = size_of::<RecordHeader>();
const THREAD_NAME_SIZE: usize = 16;

/// One entry of the ring buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// To be delivered as it is.
    Event(Event),
    /// A thread was switched out: the sample of a time that has just begun, and its number.
    SwitchOut(Sample, u64),
    /// A thread runs on.
    SwitchIn(SwitchIn),
}

/// One entry of the ring buffer, or `None` if it is not what the kernel side writes.
pub(super) fn decode(bytes: &[u8]) -> Option<Item> {
    let mut bytes = Bytes(bytes);
    let (kind, pid, second) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let event = match kind {
        KIND_SAMPLE => Event::Sample(decode_sample(bytes, pid, second)?.0),
        KIND_FORK => Event::Fork {
            parent: pid,
            child: second,
        },
        KIND_EXEC => Event::Exec { pid },
        KIND_EXIT => Event::Exit { pid },
        KIND_APPEARED => Event::Appeared { pid },
        KIND_SWITCH_OUT => {
            let (mut sample, sequence, blocked) = decode_sample(bytes, pid, second)?;
            sample.activity = if blocked {
                Activity::Blocked
            } else {
                Activity::Preempted
            };
            return Some(Item::SwitchOut(sample, sequence));
        }
        KIND_SWITCH_IN => {
            bytes.u32()?;
            return Some(Item::SwitchIn(SwitchIn {
                pid,
                tid: second,
                time_ns: bytes.u64()?,
                sequence: bytes.u64()?,
            }));
        }
        _ => return None,
    };
    Some(Item::Event(event))
}

/// A sample, its sequence number, and whether its thread was going to sleep.
fn decode_sample(mut bytes: Bytes<'_>, pid: u32, tid: u32) -> Option<(Sample, u64, bool)> {
    let cpu = bytes.u32()?;
    let time_ns = bytes.u64()?;
    let sequence = bytes.u64()?;
    let thread_name = ThreadName::new(bytes.take(THREAD_NAME_SIZE)?);
    let kernel_stack_size = usize::from(bytes.u16()?);
    let user_stack_size = usize::from(bytes.u16()?);
    let attrs_size = usize::from(bytes.u16()?);
    let copy_size = usize::from(bytes.u16()?);
    let labels = bytes.u8()?;
    let flags = bytes.u8()?;
    let blocked = bytes.u8()? != 0;
    bytes.u8()?;
    let record = bytes.take(RECORD_HEADER_SIZE)?;
    let registers = Registers {
        instruction: bytes.u64()?,
        stack: bytes.u64()?,
        frame: bytes.u64()?,
        link: bytes.u64()?,
    };

    let kernel_stack = bytes.addresses(kernel_stack_size)?;
    let user_stack = bytes.addresses(user_stack_size)?;
    let attrs_data = bytes.take(attrs_size)?;
    let thread_context = if flags & HAS_THREAD_CONTEXT != 0 {
        Some(ThreadContext::from_record(record, attrs_data)?)
    } else {
        None
    };
    let custom_labels = Labels::take(&mut bytes.0, labels.into())?;
    let copy = bytes.take(copy_size)?;
    let stack_copy = (flags & HAS_COPY != 0).then(|| StackCopy {
        registers,
        bytes: copy.to_vec(),
    });
    let sample = Sample {
        pid,
        tid,
        thread_name,
        cpu,
        time_ns,
        thread_context,
        custom_labels,
        unreadable: flags & UNREADABLE != 0,
        kernel_stack,
        user_stack,
        stack_copy,
        ..Sample::default()
    };
    Some((sample, sequence, blocked))
}

/// What is left to decode.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(size)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn addresses(&mut self, size: usize) -> Option<Vec<u64>> {
        let (words, _) = self.take(size)?.as_chunks();
        Some(words.iter().copied().map(u64::from_ne_bytes).collect())
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Label;

    /// A sample as the kernel side writes it, with a stack, attributes and one label.
    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [KIND_SAMPLE, 10, 11, 3] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(99_u64.to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes());
        bytes.extend(b"worker\0garbage..");
        for size in [8_u16, 16, 5, 3] {
            bytes.extend(size.to_ne_bytes());
        }
        bytes.extend([1, HAS_THREAD_CONTEXT | UNREADABLE | HAS_COPY, 1, 0]);
        bytes.extend([0xaa; 16]);
        bytes.extend([0xbb; 8]);
        bytes.extend([1, 3, 5, 0]);
        for register in 1..=4_u64 {
            bytes.extend(register.to_ne_bytes());
        }
        assert_eq!(bytes.len(), 120);
        for address in [0xffff_8000_0000_0000_u64, 0x1000, 0x2000] {
            bytes.extend(address.to_ne_bytes());
        }
        bytes.extend([0, 3, b'G', b'E', b'T']);
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(2_u16.to_ne_bytes());
        bytes.extend(b"kvv");
        bytes.extend([9, 8, 7]);
        bytes
    }

    #[test]
    fn decodes_a_sample() {
        let Some(Item::Event(Event::Sample(sample))) = decode(&sample()) else {
            panic!("not decoded");
        };
        assert_eq!(
            (sample.pid, sample.tid, sample.cpu, sample.time_ns),
            (10, 11, 3, 99)
        );
        assert_eq!(sample.thread_name, "worker");
        assert_eq!(sample.kernel_stack, [0xffff_8000_0000_0000]);
        assert_eq!(sample.user_stack, [0x1000, 0x2000]);
        assert!(sample.unreadable);
        let context = sample.thread_context.expect("a context");
        assert_eq!((context.trace_id, context.span_id), ([0xaa; 16], [0xbb; 8]));
        assert_eq!(context.trace_flags, 3);
        assert_eq!(context.attributes().collect::<Vec<_>>(), [(0, &b"GET"[..])]);
        let label = Label {
            key: b"k",
            value: b"vv",
        };
        assert!(sample.custom_labels.iter().eq([label]));
        assert_eq!(sample.activity, Activity::OnCpu);
        let copy = StackCopy {
            registers: Registers {
                instruction: 1,
                stack: 2,
                frame: 3,
                link: 4,
            },
            bytes: vec![9, 8, 7],
        };
        assert_eq!(sample.stack_copy, Some(copy));
    }

    #[test]
    fn decodes_switches() {
        let mut bytes = sample();
        bytes[..4].copy_from_slice(&KIND_SWITCH_OUT.to_ne_bytes());
        let blocked_at = 32 + 16 + 4 * 2 + 2;
        for (blocked, activity) in [(1, Activity::Blocked), (0, Activity::Preempted)] {
            bytes[blocked_at] = blocked;
            let Some(Item::SwitchOut(sample, sequence)) = decode(&bytes) else {
                panic!("not decoded");
            };
            assert_eq!((sample.tid, sample.activity, sequence), (11, activity, 7));
        }
        let mut bytes = [KIND_SWITCH_IN, 10, 11, 0].map(u32::to_ne_bytes).concat();
        bytes.extend([99_u64, 7].map(u64::to_ne_bytes).as_flattened());
        let switch = SwitchIn {
            pid: 10,
            tid: 11,
            time_ns: 99,
            sequence: 7,
        };
        assert_eq!(decode(&bytes), Some(Item::SwitchIn(switch)));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn every_shorter_sample_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn decodes_life_events() {
        let event = |kind: u32| {
            let words = [kind, 7, 8, 0].map(u32::to_ne_bytes);
            decode(words.as_flattened())
        };
        let fork = Event::Fork {
            parent: 7,
            child: 8,
        };
        assert_eq!(event(KIND_FORK), Some(Item::Event(fork)));
        let exec = Event::Exec { pid: 7 };
        assert_eq!(event(KIND_EXEC), Some(Item::Event(exec)));
        let exit = Event::Exit { pid: 7 };
        assert_eq!(event(KIND_EXIT), Some(Item::Event(exit)));
        let appeared = Event::Appeared { pid: 7 };
        assert_eq!(event(KIND_APPEARED), Some(Item::Event(appeared)));
        assert_eq!(event(0), None);
        assert_eq!(event(8), None);
    }
}
