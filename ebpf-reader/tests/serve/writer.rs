//! The program that is profiled: publishes traces and routes, one of them hostile, and works in functions named after
//! them.

use std::hint::black_box;
use std::io::Read;
use std::time::Duration;

use otel_profiling::process_context::{self, ProcessContext};
use otel_profiling::{AttributeKey, Record, SpanIds};
use rustix::time::{ClockId, clock_gettime};

/// The variable that makes this binary the program.
pub(crate) const VARIABLE: &str = "SERVE_TEST_WRITER";
/// The name of the test that is the way into it.
pub(crate) const TEST: &str = "writer::writer";

pub(crate) const CHECKOUT: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
pub(crate) const SEARCH: &str = "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2";
/// What a page must show as it is.
pub(crate) const HOSTILE_ROUTE: &str =
    "/<img src=x onerror=\"document.title='owned'\">&amp;\u{1b}[2J";

#[test]
fn writer() {
    if std::env::var_os(VARIABLE).is_some() {
        write();
        return;
    }
    // Elsewhere it publishes nothing.
    assert!(otel_profiling::published::thread_context().is_none());
}

fn write() {
    process_context::publish(&ProcessContext::new().resource("service.name", "serve-test"))
        .unwrap();
    let route = AttributeKey::new("http.route").unwrap();
    let work = move || loop {
        let ids = |byte| SpanIds::new([byte; 16], [7; 8], 1).unwrap();
        let checkout = Record::with_attributes(ids(0xa1), &[(route, "/checkout")]);
        checkout.publish_while(handle_checkout);
        let search = Record::with_attributes(ids(0xb2), &[(route, HOSTILE_ROUTE)]);
        search.publish_while(handle_search);
        // So that a busy machine stays usable.
        std::thread::sleep(Duration::from_millis(5));
    };
    std::thread::spawn(work);
    // Until the server that started this is gone.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[inline(never)]
fn handle_checkout() {
    spin(Duration::from_millis(6));
    // Blocks its thread.
    std::thread::sleep(Duration::from_millis(8));
}

#[inline(never)]
fn handle_search() {
    spin(Duration::from_millis(3));
    black_box(());
}

/// Uses CPU time: on a busy machine that takes longer than the time itself.
#[inline(never)]
fn spin(time: Duration) {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            now.tv_sec.unsigned_abs(),
            u32::try_from(now.tv_nsec).unwrap(),
        )
    };
    let end = now() + time;
    while now() < end {
        for number in 0..1000 {
            black_box(number);
        }
    }
}
