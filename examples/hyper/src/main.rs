//! hyper without a framework, and without a tracer: what is published is the caller's trace, from the request's headers.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use otel_profiling::Carrier;
use otel_profiling::process_context::{self, ProcessContext};
use otel_profiling_http::ProfilingLayer;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tower::{Layer as _, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // For readers: the service's name, and the names of the attributes. With a tracer, its `wrap` does this.
    process_context::publish(&ProcessContext::new().resource("service.name", "hyper-example"))?;
    global::set_text_map_propagator(TraceContextPropagator::new());

    let layer = ProfilingLayer::new()
        .extract_headers(true)
        .method(true)
        .route(|request| route(request.uri.path()).map(Cow::Borrowed))
        .attribute("tenant", |request| {
            let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
            Some(Cow::Borrowed(tenant))
        });
    let service = TowerToHyperService::new(layer.layer(service_fn(handle)));

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (io, service) = (TokioIo::new(connection), service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(io, service));
        }
    });
    Ok(spawn_blocking(move || load(address)).await??)
}

/// The routes of this service: a few templates, not the endless number of paths.
fn route(path: &str) -> Option<&'static str> {
    path.starts_with("/fibonacci/").then_some("/fibonacci/{n}")
}

async fn handle(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let number = request.uri().path().strip_prefix("/fibonacci/");
    let Some(n) = number.and_then(|n| n.parse::<u32>().ok()) else {
        return Ok(status(StatusCode::NOT_FOUND));
    };
    // Leaves the task, and takes along what is published here.
    let work = Carrier::current().closure(move || fibonacci(n.min(42)).to_string());
    Ok(match spawn_blocking(work).await {
        Ok(number) => Response::new(number),
        Err(_panic) => status(StatusCode::INTERNAL_SERVER_ERROR),
    })
}

fn status(status: StatusCode) -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = status;
    response
}

#[inline(never)]
fn fibonacci(n: u32) -> u64 {
    match black_box(n) {
        0 | 1 => u64::from(n),
        n => fibonacci(n - 1) + fibonacci(n - 2),
    }
}

/// Requests of two tenants, each in a trace that its client has started.
fn load(server: SocketAddr) -> io::Result<()> {
    for _ in 0..3 {
        for (tenant, trace, n) in [
            ("acme", "4bf92f3577b34da6a3ce929d0e0e4736", 41),
            ("globex", "0af7651916cd43dd8448eb211c80319c", 39),
        ] {
            let parent = format!("00-{trace}-00f067aa0ba902b7-01");
            let mut connection = TcpStream::connect(server)?;
            write!(connection, "GET /fibonacci/{n} HTTP/1.0\r\n")?;
            write!(connection, "x-tenant: {tenant}\r\n")?;
            write!(connection, "traceparent: {parent}\r\n\r\n")?;
            connection.read_to_end(&mut Vec::new())?;
        }
    }
    Ok(())
}
