//! Many clients, and clients that are slow or send nonsense: they are cut off, and others are answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::client::{connect, exchange};
use crate::server::Server;

#[test]
fn connections_are_limited_and_idle_ones_are_closed() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    // Clients that never send a whole head.
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(server.address());
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: local");
            stream
        })
        .collect();
    let begin = Instant::now();
    let mut closed = 0;
    for stream in &mut slow {
        let mut rest = Vec::new();
        // Closed at once, or when their time is over; an answer of 408 may come before.
        match stream.read_to_end(&mut rest) {
            Ok(_) => closed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => closed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(closed, 100);
    assert!(begin.elapsed() < PATIENCE * 2);
    assert_eq!(server.get("/healthz").status, 200);
    let metrics = server.get("/metrics").text();
    let refused = metrics
        .lines()
        .find_map(|line| line.strip_prefix("ebpf_reader_http_requests_refused_total "))
        .unwrap();
    assert!(refused.parse::<u64>().unwrap() >= 100 - 64, "{refused}");
}

#[test]
fn waiting_requests_are_limited() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..30)
            .map(|_| scope.spawn(|| server.get("/debug/pprof/profile?seconds=3").status))
            .collect();
        // Others are answered meanwhile.
        let begin = Instant::now();
        assert_eq!(server.get("/healthz").status, 200);
        assert!(begin.elapsed() < PATIENCE);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    let count = |status| statuses.iter().filter(|&&found| found == status).count();
    assert_eq!(count(200) + count(503), 30, "{statuses:?}");
    assert!((1..=16).contains(&count(200)), "{statuses:?}");
    assert_eq!(server.get("/api/usage").status, 200);
}

#[test]
fn heads_without_end_and_nonsense() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let long = format!("X: {}", "x".repeat(100_000));
    let answer = exchange(
        connect(server.address()),
        &["GET / HTTP/1.1", "Host: localhost", &long],
    );
    // It may be closed while the client still sends.
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 431);
    }
    let mut stream = connect(server.address());
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01nonsense\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
    assert_eq!(server.get("/healthz").status, 200);
}
