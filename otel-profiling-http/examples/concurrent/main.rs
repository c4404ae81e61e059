//! A thousand requests at a time on four threads, each of which checks that it sees its own trace id and no other.
//!
//! ```text
//! cargo run --release -p otel-profiling-http --example concurrent -- 30
//! ```
//!
//! runs for 30 seconds. A profiler that samples it meanwhile sees trace ids that start with `ee` in the function
//! `work_even`, and with `0d` in `work_odd`, and never the other way round.

mod service;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use otel_profiling_http::ProfilingLayer;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use service::{Findings, request, serve};

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    otel_profiling::install()?;
    otel_profiling::process_context::publish(
        &otel_profiling::process_context::ProcessContext::new()
            .resource("service.name", "concurrent"),
    )?;

    let findings = Arc::new(Findings::default());
    let inner = findings.clone();
    let service = ServiceBuilder::new()
        .layer(ProfilingLayer::new().extract_headers(true).method(true))
        .service(service_fn(move |request: Request<()>| {
            let number = request.extensions().get().copied().unwrap_or_default();
            serve(inner.clone(), number)
        }));

    let end = Instant::now() + Duration::from_secs(seconds);
    println!("pid {}, {seconds} s", std::process::id());
    let clients: Vec<_> = (0..1000)
        .map(|client| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut number = client;
                while Instant::now() < end {
                    let Ok(response) = service.clone().oneshot(request(number)).await;
                    let Ok(_frames) = response.into_body().collect().await;
                    number += 1000;
                }
            })
        })
        .collect();
    for client in clients {
        client.await?;
    }
    println!(
        "{} steps; without a trace id: {}; with another request's: {}",
        findings.steps.load(Ordering::Relaxed),
        findings.nothing.load(Ordering::Relaxed),
        findings.other.load(Ordering::Relaxed),
    );
    Ok(())
}
