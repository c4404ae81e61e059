//! axum with OpenTelemetry's tower layer, and inside it the layer that shows profilers each request's trace and route.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::get;
use opentelemetry::global;
use opentelemetry_instrumentation_tower::http::server;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling_http::ProfilingLayer;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let provider = SdkTracerProvider::builder().build(); // with your exporter
    global::set_tracer_provider(otel_profiling_tracer::wrap(provider));

    let router = Router::new()
        .route("/fibonacci/{n}", get(number))
        .route("/sequence/{n}", get(sequence))
        // After the routes, so that these are known; what is added last stands outermost.
        .layer(ProfilingLayer::new().matched_path().method(true))
        .layer(server::Layer::new());

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    tokio::task::spawn_blocking(move || load(address)).await?
}

/// The work is done in the handler.
async fn number(Path(n): Path<u32>) -> String {
    fibonacci(n.min(42)).to_string()
}

/// The work is done after the handler has returned, while the body streams.
async fn sequence(Path(n): Path<u32>) -> Body {
    let lines = (1..=n.min(42)).map(|n| Ok::<_, Infallible>(format!("{}\n", fibonacci(n))));
    Body::from_stream(tokio_stream::iter(lines))
}

#[inline(never)]
fn fibonacci(n: u32) -> u64 {
    match black_box(n) {
        0 | 1 => u64::from(n),
        n => fibonacci(n - 1) + fibonacci(n - 2),
    }
}

/// Eight requests, so that there is something to see.
fn load(server: SocketAddr) -> io::Result<()> {
    for _ in 0..4 {
        for path in ["/fibonacci/40", "/sequence/38"] {
            let mut connection = TcpStream::connect(server)?;
            write!(connection, "GET {path} HTTP/1.0\r\n\r\n")?;
            connection.read_to_end(&mut Vec::new())?;
        }
    }
    Ok(())
}
