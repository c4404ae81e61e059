//! `#[instrument]` everywhere, and no call of OpenTelemetry's API but the set-up: profilers see the spans all the same.

#![forbid(unsafe_code)]

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling_tracer::Capture;
use tokio::net::TcpListener;
use tracing::{Instrument as _, Span, instrument};
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let provider = SdkTracerProvider::builder().build(); // with your exporter
    // `otel_profiling_tracer::wrap(provider)` is enough for trace and span ids.
    let capture = Capture::new().span_name(true).span_attributes(["customer"]);
    let provider = otel_profiling_tracer::builder()
        .capture(capture)
        .wrap(provider);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tracing-example"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;

    let router = Router::new().route("/checkout/{customer}", get(checkout));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(tokio::task::spawn_blocking(move || load(address)).await??)
}

#[instrument(fields(%customer))]
async fn checkout(Path(customer): Path<String>) -> String {
    let price = price(&customer);
    pay().await;
    // A task of its own starts without a span: it is given this one.
    let receipt = tokio::spawn(async move { receipt(&customer) }.instrument(Span::current()));
    match receipt.await {
        Ok(receipt) => format!("{price} {receipt}\n"),
        Err(error) => format!("{price} without receipt: {error}\n"),
    }
}

#[instrument]
fn price(customer: &str) -> u64 {
    fibonacci(38)
}

/// Waits, which is no CPU time.
#[instrument]
async fn pay() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[instrument]
fn receipt(customer: &str) -> u64 {
    fibonacci(39)
}

#[inline(never)]
fn fibonacci(n: u32) -> u64 {
    match black_box(n) {
        0 | 1 => u64::from(n),
        n => fibonacci(n - 1) + fibonacci(n - 2),
    }
}

/// Six requests, so that there is something to see.
fn load(server: SocketAddr) -> io::Result<()> {
    for customer in ["ada", "bob", "eve", "ada", "bob", "ada"] {
        let mut connection = TcpStream::connect(server)?;
        write!(connection, "GET /checkout/{customer} HTTP/1.0\r\n\r\n")?;
        connection.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
