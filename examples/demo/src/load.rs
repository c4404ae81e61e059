//! Load: several clients that call the service over loopback, each request as part of one of a few traces.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};

/// Paths, and how many requests of a round go to them. Each line is a trace of its own.
const ROUND: [(&str, usize); 8] = [
    ("/report", 4),
    ("/thumbnail", 4),
    ("/search", 4),
    ("/checkout", 8),
    ("/report", 1),
    ("/thumbnail", 2),
    ("/search", 1),
    ("/checkout", 4),
];

/// An answer never takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A caller with a trace of its own, to which all of its requests belong.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span: the parent of the service's.
    pub span_id: SpanId,
    /// What it asks for.
    pub path: &'static str,
    /// Requests in each round.
    pub requests: usize,
}

/// The callers, with new random ids.
pub fn callers() -> Vec<Caller> {
    let ids = RandomIdGenerator::default();
    ROUND
        .iter()
        .map(|&(path, requests)| Caller {
            trace_id: ids.new_trace_id(),
            span_id: ids.new_span_id(),
            path,
            requests,
        })
        .collect()
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// After this time no request is started.
    pub duration: Duration,
    /// After this many requests no other is started.
    pub max_requests: usize,
}

impl Load {
    /// Sends requests of all callers, in turns, over all connections; returns how many were answered.
    ///
    /// # Errors
    /// If the service cannot be reached, or does not answer with `200 OK`.
    pub fn drive(self, service: SocketAddr, callers: &[Caller]) -> io::Result<usize> {
        let round = round(callers);
        let next = AtomicUsize::new(0);
        let end = Instant::now() + self.duration;
        let client = || {
            let mut connection = Connection::open(service)?;
            let mut answered = 0;
            while Instant::now() < end {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let caller = match round.get(number % round.len().max(1)) {
                    Some(caller) if number < self.max_requests => caller,
                    _ => break,
                };
                connection.get(caller)?;
                answered += 1;
            }
            Ok(answered)
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections).map(|_| scope.spawn(client)).collect();
            clients
                .into_iter()
                .map(|client| {
                    client
                        .join()
                        .unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
                })
                .sum()
        })
    }
}

/// One round of requests, the callers' well mixed.
fn round(callers: &[Caller]) -> Vec<&Caller> {
    let most = callers
        .iter()
        .map(|caller| caller.requests)
        .max()
        .unwrap_or(0);
    (0..most)
        .flat_map(|turn| callers.iter().filter(move |caller| turn < caller.requests))
        .collect()
}

/// A connection that is kept open: just enough of HTTP/1.1.
struct Connection {
    stream: BufReader<TcpStream>,
    service: SocketAddr,
}

impl Connection {
    fn open(service: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(service)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            service,
        })
    }

    fn get(&mut self, caller: &Caller) -> io::Result<()> {
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\ntraceparent: 00-{}-{}-01\r\n\r\n",
            caller.path, self.service, caller.trace_id, caller.span_id
        );
        self.stream.get_mut().write_all(request.as_bytes())?;

        let status = self.line()?;
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("the service answered {status:?}")));
        }
        let mut length = 0;
        loop {
            let header = self.line()?;
            match header.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                Some(_) => {}
                None => break,
            }
        }
        io::copy(&mut self.stream.by_ref().take(length), &mut io::sink())?;
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_mixes_the_callers() {
        let callers = callers();
        let paths: Vec<_> = round(&callers).iter().map(|caller| caller.path).collect();
        assert_eq!(
            paths.len(),
            ROUND.iter().map(|(_, requests)| requests).sum::<usize>()
        );
        assert_eq!(paths[..8], ROUND.map(|(path, _)| path));
    }
}
