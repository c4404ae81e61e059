//! The requests of ptrace(2) that are made.
//!
//! All of them must come from the thread that seized the tracee; the kernel refuses others with ESRCH.

use std::io;

/// The registers from which a sample starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    /// The instruction that would run next.
    pub(crate) instruction: u64,
    /// The stack pointer.
    pub(crate) stack: u64,
    /// The frame pointer.
    pub(crate) frame: u64,
    /// The link register of aarch64, else 0.
    pub(crate) link: u64,
    /// The thread pointer: the fs base on x86-64, TPIDR_EL0 on aarch64.
    pub(crate) thread_pointer: u64,
}

/// Attaches to a thread without stopping it. Threads and processes that it starts are seized with it.
/// When this thread ends, in whatever way, the kernel lets all of them run on.
pub(crate) fn seize(tid: u32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC;
    request(libc::PTRACE_SEIZE, tid, options as usize)
}

/// Attaches to a thread without stopping it, and to none that it starts.
pub(crate) fn seize_alone(tid: u32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0)
}

/// Lets a stopped thread run on without being traced, delivering `signal` unless it is 0.
pub(crate) fn detach(tid: u32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, tid, signal as usize)
}

/// Asks a running thread to stop.
pub(crate) fn interrupt(tid: u32) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// Lets a stopped thread run on, delivering `signal` unless it is 0.
pub(crate) fn resume(tid: u32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, tid, signal as usize)
}

/// Leaves a thread stopped, as job control wants it, and waits for what makes it run on.
pub(crate) fn listen(tid: u32) -> io::Result<()> {
    request(libc::PTRACE_LISTEN, tid, 0)
}

/// What comes with the event at which a thread stopped: the new thread's id for clone and fork.
pub(crate) fn event_message(tid: u32) -> io::Result<u64> {
    let mut message: libc::c_ulong = 0;
    request(
        libc::PTRACE_GETEVENTMSG,
        tid,
        (&raw mut message).expose_provenance(),
    )?;
    Ok(message)
}

/// The registers of a stopped thread.
#[cfg(target_arch = "x86_64")]
pub(crate) fn registers(tid: u32) -> io::Result<Registers> {
    let mut words = [0_u64; 27];
    register_set(tid, libc::NT_PRSTATUS, &mut words)?;
    // Positions in struct user_regs_struct, see the test.
    Ok(Registers {
        instruction: words[16],
        stack: words[19],
        frame: words[4],
        link: 0,
        thread_pointer: words[21],
    })
}

/// The register set that holds TPIDR_EL0 (linux/elf.h).
#[cfg(target_arch = "aarch64")]
const NT_ARM_TLS: i32 = 0x401;

/// The registers of a stopped thread.
#[cfg(target_arch = "aarch64")]
pub(crate) fn registers(tid: u32) -> io::Result<Registers> {
    // x0 to x30, sp, pc, pstate.
    let mut words = [0_u64; 34];
    register_set(tid, libc::NT_PRSTATUS, &mut words)?;
    let mut thread_pointer = [0_u64; 1];
    register_set(tid, NT_ARM_TLS, &mut thread_pointer)?;
    Ok(Registers {
        instruction: words[32],
        stack: words[31],
        frame: words[29],
        link: words[30],
        thread_pointer: thread_pointer[0],
    })
}

/// The registers of a stopped thread.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn registers(_tid: u32) -> io::Result<Registers> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn register_set(tid: u32, set: i32, words: &mut [u64]) -> io::Result<()> {
    let mut vector = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(words),
    };
    // SAFETY: `vector` is valid and spans exactly `words`, which is borrowed mutably for the whole call;
    // the kernel writes no more than its length. Any bytes are valid u64s.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            tid as libc::pid_t,
            set as usize,
            &raw mut vector,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // A thread of another word size has a smaller set.
    if vector.iov_len != size_of_val(words) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(())
}

/// A request whose `data` is a number, or the address of a word that outlives the call.
fn request(request: Request, tid: u32, data: usize) -> io::Result<()> {
    // SAFETY: the callers in this file pass requests that take a number as data, or, for
    // PTRACE_GETEVENTMSG, the address of a local unsigned long that lives until after the call.
    let result = unsafe { libc::ptrace(request, tid as libc::pid_t, 0_usize, data) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::mem::offset_of;

    use libc::user_regs_struct;

    #[test]
    fn positions_are_those_of_user_regs_struct() {
        assert_eq!(size_of::<user_regs_struct>(), 27 * 8);
        assert_eq!(offset_of!(user_regs_struct, rbp), 4 * 8);
        assert_eq!(offset_of!(user_regs_struct, rip), 16 * 8);
        assert_eq!(offset_of!(user_regs_struct, rsp), 19 * 8);
        assert_eq!(offset_of!(user_regs_struct, fs_base), 21 * 8);
    }
}
