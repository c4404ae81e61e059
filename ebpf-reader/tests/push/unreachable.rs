//! Receivers that are not there, or do not answer: bounded memory, counted, and nobody waits.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ebpf_reader::push::{Exporter, Protocol};

use crate::message::{large, message};
use crate::receiver::Receiver;
use crate::{PATIENCE, config, wait_for};

const QUEUE: usize = 1 << 20;

/// An address at which nobody listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn the_oldest_are_dropped_and_the_rest_arrives_later() {
    let address = free_address();
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let config = config(protocol, &format!("http://{address}")).queue_bytes(QUEUE);
        let exporter = Exporter::start(config).unwrap();
        let message = large(100_000);
        let begin = Instant::now();
        for _ in 0..30 {
            exporter.push(&message);
            assert!(exporter.counters().queued_bytes <= QUEUE as u64);
        }
        assert!(begin.elapsed() < PATIENCE);
        let counters = wait_for(&exporter, "attempts", |counters| {
            counters.failed_attempts >= 2
        });
        assert!(counters.dropped >= 15, "{counters:?}");
        assert_eq!(counters.dropped + counters.queued, 30);
        let error = counters.last_error.unwrap();
        assert!(
            error.contains(&format!("cannot connect to {address}: ")),
            "{error}"
        );
        assert!(!exporter.shutdown(Duration::from_millis(50)));
    }

    let config = config(Protocol::HttpProtobuf, &format!("http://{address}"));
    let exporter = Exporter::start(config).unwrap();
    exporter.push(&message(1, 5));
    wait_for(&exporter, "an attempt", |counters| {
        counters.failed_attempts > 0
    });
    let receiver = Receiver::http_at(&address, []);
    wait_for(&exporter, "success", |counters| counters.sent == 1);
    assert_eq!(receiver.received()[0].message, message(1, 5));
}

#[test]
fn a_receiver_that_never_answers() {
    // Connections are made by the kernel; nobody reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let config = config(protocol, &format!("http://{address}"))
            .queue_bytes(QUEUE)
            .timeout(Duration::from_millis(100));
        let exporter = Exporter::start(config).unwrap();
        // More than the kernel keeps for a connection: also writing comes to a halt.
        let message = large(900_000);
        for _ in 0..5 {
            exporter.push(&message);
            assert!(exporter.counters().queued_bytes <= QUEUE as u64);
        }
        let counters = wait_for(&exporter, "attempts", |counters| {
            counters.failed_attempts >= 2
        });
        assert_eq!(
            counters.last_error.as_deref(),
            Some("no answer within 100 ms")
        );
        assert_eq!((counters.dropped, counters.queued), (4, 1));
        let begin = Instant::now();
        drop(exporter);
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[test]
fn a_message_that_is_too_large_is_dropped_alone() {
    let receiver = Receiver::http([]);
    let config = config(
        Protocol::HttpProtobuf,
        &format!("http://{}", receiver.address),
    );
    let exporter = Exporter::start(config.queue_bytes(10_000)).unwrap();
    exporter.push(&large(100_000));
    exporter.push(&message(1, 5));
    let counters = wait_for(&exporter, "success", |counters| counters.sent == 1);
    assert_eq!(counters.dropped, 1);
}
