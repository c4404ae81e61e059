//! A thousand clients of one service, in one process, until the reader has seen enough.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tower::{Service, ServiceExt as _, service_fn};

use crate::process;
use crate::service::{Findings, Frames, request, serve};

const CLIENTS: u64 = 1000;
const WORKERS: usize = 4;

/// The service without any layer.
pub(crate) fn handler(
    findings: Arc<Findings>,
) -> impl Service<Request<()>, Response = Response<Frames>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request: Request<()>| {
        let number = request.extensions().get().copied().unwrap_or_default();
        serve(findings.clone(), number)
    })
}

/// Sends requests to the service that `make` makes until the reader says that it is enough.
pub(crate) fn run<S, B>(findings: &Arc<Findings>, make: impl FnOnce(Arc<Findings>) -> S)
where
    S: Service<Request<()>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::fmt::Debug + Send,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug + Send,
{
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(SdkTracerProvider::default());
    otel_profiling::install().expect("nobody else installed an observer");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .build()
        .expect("threads can be started");

    let service = make(findings.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| runtime.spawn(send(service.clone(), client, stop.clone())))
        .collect();
    process::wait_for_the_reader();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        runtime.block_on(client).expect("no client panics");
    }
    // The process ends before its threads do: a context that is still attached cannot be detached while they end.
    std::mem::forget(runtime);
}

/// One client's requests, one after the other: all have even numbers, or all have odd ones.
async fn send<S, B>(service: S, client: u64, stop: Arc<AtomicBool>)
where
    S: Service<Request<()>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let mut number = client;
    while !stop.load(Ordering::Relaxed) {
        let response = service.clone().oneshot(request(number)).await;
        let body = response.expect("the request is served").into_body();
        let body = body.collect().await.map(|body| body.to_bytes().len());
        assert_eq!(body.expect("a body"), 25, "a body of five frames");
        number += CLIENTS;
    }
}
