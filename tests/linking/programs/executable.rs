//! Publishes something, then says what a profiler would find.

use otel_profiling::{Record, SpanIds, published, self_check};

fn main() {
    let ids = SpanIds::new([7; 16], [9; 8], 1).expect("not zero");
    Record::new(ids).publish_while(|| {
        assert_eq!(published::thread_context().expect("published").ids, ids);
    });
    let on_a_thread = std::thread::spawn(self_check::symbols)
        .join()
        .expect("no panic");
    match self_check::symbols() {
        Ok(found) if on_a_thread.as_ref().ok() == Some(&found) => println!("found {found}"),
        Ok(found) => println!("on one thread {found}, on another {on_a_thread:?}"),
        Err(error) => println!("error: {error}"),
    }
}
