//! Threads whose frame pointers lead along chains that are made up.

use super::{ready, settled, thread, wait_for_end};

const PAGE: usize = 4096;
/// Memory that a chain is laid out in, and that is followed by a page that cannot be read.
const MEMORY: usize = 192 * PAGE;
/// Where a frame record begins that ends with the memory.
const LAST: usize = MEMORY - 16;

/// The return addresses in a chain: the first one, and all others above it.
pub(crate) const RETURN_ADDRESS: u64 = 0x1_0000_0000;

/// What the last frame pointer of a chain is.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Null,
    Unreadable,
    Misaligned,
    Kernel,
}

/// Frame records one after the other, of which the last one begins at `last`.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) records: usize,
    stride: usize,
    last: usize,
    end: End,
    /// The thread is in the kernel nearly all the time.
    calls: bool,
}

const fn chain(name: &'static str, records: usize, stride: usize, last: usize, end: End) -> Chain {
    Chain {
        name,
        records,
        stride,
        last,
        end,
        calls: false,
    }
}

pub(crate) const CHAINS: [Chain; 9] = [
    chain("near", 40, 32, 64 * PAGE, End::Null),
    chain("far", 90, 2048 + 16, LAST - PAGE, End::Null),
    chain("uneven", 120, 1000, 128 * PAGE + 8, End::Null),
    chain("edge", 40, 48, LAST, End::Null),
    chain("broken", 3, 64, PAGE, End::Unreadable),
    chain("odd", 3, 64, PAGE, End::Misaligned),
    chain("kernel", 3, 64, PAGE, End::Kernel),
    chain("long", 300, 64, 32 * PAGE, End::Null),
    Chain {
        calls: true,
        ..chain("calling", 40, 32, 64 * PAGE, End::Null)
    },
];

impl Chain {
    /// Lays the chain out in memory of its own, for ever; the first frame pointer.
    fn lay_out(&self) -> usize {
        // SAFETY: a new mapping wherever there is room.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MEMORY + PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        // SAFETY: the last page of the mapping above, which nothing refers to.
        let status =
            unsafe { libc::mprotect(memory.wrapping_byte_add(MEMORY), PAGE, libc::PROT_NONE) };
        assert_eq!(status, 0);
        let words = memory.cast::<u64>();
        let memory = memory.addr();
        let first = self.last - (self.records - 1) * self.stride;
        for record in 0..self.records {
            let offset = first + record * self.stride;
            let next = if record + 1 < self.records {
                (memory + offset + self.stride) as u64
            } else {
                match self.end {
                    End::Null => 0,
                    End::Unreadable => (memory + MEMORY) as u64,
                    End::Misaligned => (memory + self.last + 65) as u64,
                    End::Kernel => 0xffff_8000_0000_1000,
                }
            };
            // SAFETY: both words lie in the memory that can be written to, and are aligned as the offset is.
            unsafe {
                words.byte_add(offset).write(next);
                words
                    .byte_add(offset + 8)
                    .write(RETURN_ADDRESS + record as u64);
            }
        }
        memory + first
    }
}

/// Spins with a frame pointer.
fn spin_with_frame_at(frame: usize) -> ! {
    // SAFETY: never returns, and does not use the stack.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov rbp, {}", "2:", "jmp 2b", in(reg) frame, options(noreturn));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov x29, {}", "2:", "b 2b", in(reg) frame, options(noreturn));
    }
}

/// Calls the kernel again and again with a frame pointer.
fn call_with_frame_at(frame: usize) -> ! {
    // SAFETY: never returns, and does not use the stack; getppid has no effect.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("mov rbp, {}", "2:", "mov eax, 110", "syscall", "jmp 2b", in(reg) frame, options(noreturn));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("mov x29, {}", "2:", "mov x8, 173", "svc 0", "b 2b", in(reg) frame, options(noreturn));
    }
}

pub(super) fn run() -> ! {
    for chain in CHAINS {
        let frame = chain.lay_out();
        thread(chain.name, move || {
            settled();
            if chain.calls {
                call_with_frame_at(frame)
            } else {
                spin_with_frame_at(frame)
            }
        });
    }
    ready();
    wait_for_end()
}
