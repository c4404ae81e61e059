//! What stopping threads must not do to a target.

use std::time::Duration;

use ebpf_reader::sample::Sampler as _;

use crate::collect::{collect, collect_for, count, ptrace};
use crate::running::Target;

#[test]
fn ptrace_passes_signals_on_and_lets_threads_come_and_go() {
    let mut target = Target::start("signals");
    let mut sampler = ptrace();
    sampler
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let send = |signal: i32, pid: u32| {
        // SAFETY: sends a signal to a child of this test, which is not reaped before the test's end.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    };
    for number in 1..=20 {
        send(libc::SIGUSR1, target.pid());
        assert_eq!(target.await_line("caught"), [number]);
        // Job control in between: stopped for a while, then on.
        if number == 10 {
            send(libc::SIGSTOP, target.pid());
            std::thread::sleep(Duration::from_millis(100));
            let before = target.cpu_ns();
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(target.cpu_ns(), before, "a stopped target runs");
            send(libc::SIGCONT, target.pid());
        }
    }
    target.await_line("done");
    let events = collect_for(&mut sampler, Duration::from_millis(100));
    assert!(count(&events, "spinning") >= 10);
    drop(sampler);
    target.finish();
}

#[test]
fn ptrace_of_a_traced_process_is_refused_with_the_reason() {
    let target = Target::start("busy");
    let mut first = ptrace();
    first
        .follow(target.pid(), target.locations)
        .expect("the target can be followed");
    let refused = ptrace()
        .follow(target.pid(), target.locations)
        .expect_err("traced already");
    assert!(
        refused.to_string().contains("traces it already"),
        "{refused}"
    );
    // The first one is not disturbed.
    collect(&mut first, |events| count(events, "with") >= 5);
    drop(first);
    target.finish();
}
