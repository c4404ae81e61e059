//! Threads that sleep: which of them may be stopped, and how to find their thread pointer without that.
//!
//! A stop wakes a thread inside its system call. Most calls start again afterwards as if nothing had been; some
//! return EINTR to the program, which may not expect that: `epoll_wait`, `semop`, `sigtimedwait`, socket calls
//! with a timeout (signal(7) lists them). A thread in one of those is never stopped. What it publishes is read
//! while it sleeps, and believed if it has not run meanwhile.
//!
//! Its thread pointer is found by the list of robust mutexes, which glibc registers for each thread, and
//! whose head lies at one distance from the thread pointer in all threads of a process. On x86-64 the thread
//! control block points to itself, which tells the distance; on aarch64 a thread that was stopped does.

use std::fs;

use crate::process::Memory;
use crate::sampler::procfs;
use crate::sys;

/// What the kernel tells of a thread that sleeps: equal as long as it has not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asleep {
    /// The system call in which it sleeps, with its arguments.
    call: String,
    /// CPU time and turns on a CPU.
    account: Vec<u8>,
    /// How often it has given up its CPU, or lost it.
    switches: Vec<u64>,
}

impl Asleep {
    /// `None` if the thread does not sleep, or is gone.
    pub(super) fn of(tid: u32) -> Option<Self> {
        if !matches!(procfs::stat(tid)?.state, 'S' | 'D') {
            return None;
        }
        // The kernel looks twice, and says "running" if the thread was not off its CPU all the time.
        let call = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
        if call.starts_with("running") {
            return None;
        }
        let status = fs::read(format!("/proc/{tid}/status")).ok()?;
        let switches = String::from_utf8_lossy(&status)
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:")?.1.trim().parse().ok())
            .collect();
        Some(Self {
            call,
            account: fs::read(format!("/proc/{tid}/schedstat")).unwrap_or_default(),
            switches,
        })
    }

    /// Whether the system call goes on after a stop as if nothing had been.
    pub(super) fn goes_on_after_a_stop(&self) -> bool {
        self.call
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .is_some_and(|number: libc::c_long| GO_ON.contains(&number))
    }
}

/// System calls that start again after a stop, by themselves and with what is left of their time.
const GO_ON: &[libc::c_long] = &[
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_rt_sigsuspend,
    libc::SYS_wait4,
    libc::SYS_waitid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pause,
];

/// From the head of the list of robust mutexes to the thread pointer, as a sum that may wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distance(u64);

impl Distance {
    /// As it is in a thread whose thread pointer is known.
    pub(super) fn measured(tid: u32, thread_pointer: u64) -> Option<Self> {
        let head = sys::robust_list_head(tid).ok().filter(|&head| head != 0)?;
        Some(Self(thread_pointer.wrapping_sub(head)))
    }

    /// The thread pointer of a thread that does not stand still for us.
    pub(super) fn thread_pointer(distance: Option<Self>, tid: u32, memory: &Memory) -> Option<u64> {
        let head = sys::robust_list_head(tid).ok().filter(|&head| head != 0)?;
        if cfg!(target_arch = "x86_64") {
            return control_block(head, memory);
        }
        Some(head.wrapping_add(distance?.0))
    }
}

/// How far below the list's head glibc's control block may begin.
const CONTROL_BLOCK: u64 = 0x800;

/// x86-64: the control block around the head of the list. Its first and its third word point to itself.
fn control_block(head: u64, memory: &Memory) -> Option<u64> {
    let word = |address: u64| {
        let mut bytes = [0; 8];
        memory.read(address, &mut bytes).ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    let aligned = head & !0xf;
    (0..CONTROL_BLOCK / 16)
        .map(|step| aligned.wrapping_sub(step * 16))
        .take_while(|&address| word(address).is_some())
        .find(|&address| {
            word(address) == Some(address) && word(address.wrapping_add(16)) == Some(address)
        })
}
