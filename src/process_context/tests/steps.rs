//! The order of the writes, one instruction at a time.
//!
//! Two running processes rarely meet inside the few instructions of an update. So a child updates here while its
//! parent stops it after each instruction and looks: whenever the timestamp is not 0, size, address and
//! payload must belong to it.

use super::fork::forks_as_linux_does;
use super::read_back::find;
use super::*;

/// Most instructions to follow; an update takes far fewer.
const LIMIT: usize = 1_000_000;

/// An argument that ptrace ignores, of the width that it reads.
const NONE: *mut libc::c_void = core::ptr::null_mut();

/// A child that has published `old` at time 1, waits to be stepped, and then publishes `new` at time 2.
fn updating_child(old: Box<[u8]>, new: Box<[u8]>) -> libc::pid_t {
    // SAFETY: the child makes system calls, uses its own memory, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: plain system calls; the parent is there to continue the child, or else the alarm ends it.
        let traced = unsafe {
            libc::alarm(120);
            libc::ptrace(libc::PTRACE_TRACEME, 0, NONE, NONE)
        };
        let Ok(mut mapping) = Mapping::create(mapping::memfd) else {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(1) }
        };
        mapping.publish(old, 1);
        if traced == 0 {
            // SAFETY: stops the child until its parent continues it.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        mapping.publish(new, 2);
        // SAFETY: ends the child at once, without destructors.
        unsafe { libc::_exit(if traced == 0 { 0 } else { 2 }) }
    }
    assert!(child > 0, "{}", io::Error::last_os_error());
    child
}

/// Waits for the child, and returns its status.
fn wait(child: libc::pid_t) -> libc::c_int {
    let mut status = 0;
    // SAFETY: waits for a child of our own; `status` may be written.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "{}", io::Error::last_os_error());
    status
}

#[test]
fn at_every_instruction_of_an_update_the_header_is_whole_or_says_that_it_is_not() {
    let _alone = alone();
    if !forks_as_linux_does() {
        return;
    }
    let encode = |number| message::encode(&checked(number)).expect("fits");
    let (old, new) = (encode(1), encode(2));
    assert_ne!(old.len(), new.len());
    let child = updating_child(old.clone(), new.clone());
    let mut status = wait(child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 2 {
        eprintln!("skipped: needs permission to trace a child");
        return;
    }
    assert!(libc::WIFSTOPPED(status), "status {status:#x}");
    let (mut memory, mapping, _) = find(&child.to_string()).expect("finds the child's mapping");
    let (mut seen, mut wrong) = ([0_usize; 3], None);
    for _ in 0..LIMIT {
        if !libc::WIFSTOPPED(status) {
            break;
        }
        // The memory is gone when the last instruction was the child's end.
        if let Ok(published_at @ 0..=2) = memory.published_at(mapping) {
            seen[published_at as usize] += 1;
            let payload = memory.payload(mapping).ok();
            let expected = [None, Some(&*old), Some(&*new)][published_at as usize];
            if expected.is_some() && payload.as_deref() != expected {
                wrong = wrong.or(Some(published_at));
            }
        }
        // SAFETY: the child is ours, traced and stopped.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, NONE, NONE) };
        assert_eq!(stepped, 0, "{}", io::Error::last_os_error());
        status = wait(child);
    }
    assert!(
        libc::WIFEXITED(status),
        "not at its end: status {status:#x}"
    );
    assert_eq!(wrong, None, "a payload that is not the one of this time");
    assert!(seen.iter().all(|&times| times > 0), "times seen: {seen:?}");
}
