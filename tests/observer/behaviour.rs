//! What holds for every way to make a span current, on every runtime.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use tokio::runtime::{Builder, Runtime};

use crate::driver::{Api, Boxed, Driver, Tracing};
use crate::{assert_published, nothing_published};

fn nested<D: Driver>(driver: D) {
    nothing_published();
    let outer = driver.start();
    nothing_published();
    driver.within(&outer, || {
        assert_published(driver.ids(&outer));
        let inner = driver.start();
        assert_published(driver.ids(&outer));
        driver.within(&inner, || {
            assert_published(driver.ids(&inner));
            assert_eq!(driver.ids(&inner).trace_id(), driver.ids(&outer).trace_id());
            driver.within(&outer, || assert_published(driver.ids(&outer)));
            assert_published(driver.ids(&inner));
        });
        assert_published(driver.ids(&outer));
    });
    nothing_published();
}

fn restored_when_a_panic_unwinds<D: Driver>(driver: D) {
    let outer = driver.start();
    driver.within(&outer, || {
        let inner = driver.start();
        let result = catch_unwind(AssertUnwindSafe(|| {
            driver.within(&inner, || panic!("on purpose"));
        }));
        assert!(result.is_err());
        assert_published(driver.ids(&outer));
    });
    nothing_published();
}

fn moved_between_threads<D: Driver>(driver: D) {
    let span = driver.start();
    let ids = driver.ids(&span);
    driver.within(&span, || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    nothing_published();
                    driver.within(&span, || assert_published(ids));
                    nothing_published();
                });
            }
        });
        assert_published(ids);
    });
    let made_there = std::thread::spawn(move || driver.start())
        .join()
        .expect("starting a span does not panic");
    driver.within(&made_there, || assert_published(driver.ids(&made_there)));
    nothing_published();
}

/// Many tasks that yield all the time, nested spans in each: at every step the task's own span is
/// published, wherever it runs. Returns the largest number of threads that one task ran on.
fn tasks<D: Driver>(driver: D, runtime: &Runtime, tasks: usize, steps: usize) -> usize {
    let threads = runtime.block_on(async {
        let handles: Vec<_> = (0..tasks)
            .map(|_| {
                let span = driver.start();
                let ids = driver.ids(&span);
                let seen = Arc::new(Mutex::new(HashSet::<ThreadId>::new()));
                let body: Boxed<usize> = Box::pin(async move {
                    for step in 0..steps {
                        assert_published(ids);
                        if step % 3 == 0 {
                            let child = driver.start();
                            let child_ids = driver.ids(&child);
                            let body: Boxed<()> = Box::pin(async move {
                                assert_published(child_ids);
                                tokio::task::yield_now().await;
                                assert_published(child_ids);
                            });
                            driver.instrument(&child, body).await;
                        }
                        tokio::task::yield_now().await;
                        seen.lock().unwrap().insert(std::thread::current().id());
                    }
                    assert_published(ids);
                    seen.lock().unwrap().len()
                });
                tokio::spawn(driver.instrument(&span, body))
            })
            .collect();
        let mut most = 0;
        for handle in handles {
            most = most.max(handle.await.expect("no assertion of a task failed"));
            nothing_published();
        }
        most
    });
    nothing_published();
    threads
}

fn cancelled_tasks_leave_nothing<D: Driver>(driver: D, runtime: &Runtime) {
    runtime.block_on(async {
        let span = driver.start();
        let body: Boxed<()> = Box::pin(std::future::pending());
        let task = tokio::spawn(driver.instrument(&span, body));
        tokio::task::yield_now().await;
        task.abort();
        assert!(
            task.await
                .expect_err("it never ends by itself")
                .is_cancelled()
        );
        tokio::spawn(async { nothing_published() })
            .await
            .expect("nothing is published");
    });
}

fn all<D: Driver>(driver: D) {
    nested(driver);
    restored_when_a_panic_unwinds(driver);
    moved_between_threads(driver);

    let current = Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(tasks(driver, &current, 50, 50), 1);
    cancelled_tasks_leave_nothing(driver, &current);

    let multi = Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .expect("a runtime");
    // Work stealing is up to chance: go on until a task did move, but not for ever.
    let migrated = (0..50).any(|_| tasks(driver, &multi, 200, 50) > 1);
    assert!(migrated, "no task ever moved to another worker");
    cancelled_tasks_leave_nothing(driver, &multi);
}

#[test]
fn sampled_spans_of_the_api() {
    crate::installed();
    all(Api { sampled: true });
}

#[test]
fn unsampled_spans_of_the_api() {
    crate::installed();
    let driver = Api { sampled: false };
    all(driver);
    let span = driver.start();
    assert_eq!(driver.ids(&span).trace_flags() & 1, 0);
}

#[test]
fn tracing_spans() {
    crate::installed();
    all(Tracing);
}
