//! Requests that end badly: the client goes away, the handler panics, a timeout or a retry drops its future. Whatever was
//! published before is published again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use otel_profiling::SpanIds;
use otel_profiling_http::ProfilingLayer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;

use crate::probe::{Probe, ProbeBody};
use crate::telemetry::{
    assert_nothing_on_four_workers, fresh_ids, published, request_from, set_up, span_context,
};

fn headers() -> ProfilingLayer {
    set_up();
    ProfilingLayer::new().extract_headers(true)
}

/// Never answers.
async fn hang(probe: Probe) -> Result<Response<Empty<Bytes>>, Infallible> {
    let _guard = probe.on_drop("handler dropped");
    probe.see("first poll");
    std::future::pending().await
}

/// A hyper server for one connection, and a client of it.
async fn connect<S, B>(service: S) -> (TcpStream, tokio::task::JoinHandle<hyper::Result<()>>)
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (server, _) = listener.accept().await.expect("a connection");
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    (client, tokio::spawn(connection))
}

fn text_of(ids: SpanIds) -> String {
    let request = request_from(ids);
    let traceparent = request.headers()["traceparent"].to_str().expect("text");
    format!("GET /users/7 HTTP/1.1\r\nhost: test\r\ntraceparent: {traceparent}\r\n\r\n")
}

async fn until(mut done: impl FnMut() -> bool) {
    let all = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_client_goes_away_while_the_handler_runs() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<_>| hang(inner.clone())));
    let (mut client, server) = connect(service).await;
    client
        .write_all(text_of(caller).as_bytes())
        .await
        .expect("sent");
    until(|| probe.places().contains(&"first poll")).await;
    drop(client);
    until(|| probe.places().contains(&"handler dropped")).await;
    let _incomplete = server.await.expect("no panic");
    assert_eq!(probe.places(), ["first poll", "handler dropped"]);
    assert!(probe.seen().iter().all(|seen| seen.ids == Some(caller)));
    assert_nothing_on_four_workers().await;
}

/// A body that sends one frame, and then nothing.
struct Stuck(Probe, bool);

impl http_body::Body for Stuck {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.see("frame");
        if std::mem::replace(&mut self.1, true) {
            return std::task::Poll::Pending;
        }
        let frame = http_body::Frame::data(Bytes::from_static(b"first"));
        std::task::Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.see("body dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_client_goes_away_while_the_body_streams() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<_>| {
        let body = Stuck(inner.clone(), false);
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let (mut client, server) = connect(service).await;
    client
        .write_all(text_of(caller).as_bytes())
        .await
        .expect("sent");
    let mut buffer = [0; 1];
    client.read_exact(&mut buffer).await.expect("an answer");
    drop(client);
    until(|| probe.places().contains(&"body dropped")).await;
    let _incomplete = server.await.expect("no panic");
    assert!(
        probe.seen().iter().all(|seen| seen.ids == Some(caller)),
        "{probe:?}"
    );
    assert_nothing_on_four_workers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_exchange_through_hyper() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<_>| {
        crate::probe::handler(inner.clone())
    }));
    let (mut client, server) = connect(service).await;
    // Closing this end instead would mean that the client has gone away.
    let request = text_of(caller).replace(
        "host: test",
        "host: test
connection: close",
    );
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("abcde"),
        "the size is known, so not chunked: {answer}"
    );
    let _closed = server.await.expect("no panic");
    let seen = probe.seen();
    assert!(
        seen.len() > 6 && seen.iter().all(|seen| seen.ids == Some(caller)),
        "{seen:?}"
    );
    assert_nothing_on_four_workers().await;
}

async fn panics(probe: Probe) -> Result<Response<Empty<Bytes>>, Infallible> {
    let _guard = probe.on_drop("unwound");
    tokio::task::yield_now().await;
    probe.see("about to panic");
    std::panic::panic_any("on purpose");
}

/// Served with another context around it, which has to be published again afterwards.
async fn panicking<S, B>(service: S)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let around = fresh_ids();
    let context = Context::new().with_remote_span_context(span_context(around));
    let mut future = Box::pin(service.oneshot(request_from(fresh_ids())));
    let response = std::future::poll_fn(|cx| {
        let _guard = context.clone().attach();
        let poll = future.as_mut().poll(cx);
        assert_eq!(published(), Some(around));
        poll
    })
    .await
    .expect("infallible");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(response);
    drop(future);
    assert_eq!(published(), None);
}

#[tokio::test]
async fn a_panic_is_caught_outside_of_the_layer() {
    let probe = Probe::default();
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<()>| panics(inner.clone())));
    panicking(CatchPanicLayer::new().layer(service)).await;
    assert_eq!(probe.places(), ["about to panic", "unwound"]);
    assert!(probe.seen().iter().all(|seen| seen.ids.is_some()));
}

#[tokio::test]
async fn a_panic_is_caught_inside_of_the_layer() {
    let probe = Probe::default();
    let inner = probe.clone();
    let service = service_fn(move |_: Request<()>| panics(inner.clone()));
    panicking(headers().layer(CatchPanicLayer::new().layer(service))).await;
    assert_eq!(probe.places(), ["about to panic", "unwound"]);
}

#[tokio::test]
async fn a_panic_inside_of_an_opentelemetry_layer_that_stands_inside() {
    let probe = Probe::default();
    let inner = probe.clone();
    let service = service_fn(move |_: Request<()>| panics(inner.clone()));
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
    let service = CatchPanicLayer::new().layer(headers().layer(otel.layer(service)));
    panicking(service).await;
    assert_eq!(probe.places(), ["about to panic", "unwound"]);
}

#[tokio::test]
async fn a_panic_in_the_call_of_the_service() {
    let caller = fresh_ids();
    let mut service = headers().layer(service_fn(move |_: Request<()>| {
        assert_eq!(published(), None, "the service panics here, on purpose");
        std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    }));
    let call = std::panic::AssertUnwindSafe(|| service.call(request_from(caller)));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(published(), None);
}

#[tokio::test]
async fn a_panic_in_a_frame_of_the_body() {
    struct Panicking(Probe);
    impl http_body::Body for Panicking {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            self.0.see("frame");
            std::panic::panic_any("on purpose");
        }
    }

    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Panicking(inner.clone()))))
    }));
    let response = service
        .oneshot(request_from(caller))
        .await
        .expect("infallible");
    let body = std::panic::AssertUnwindSafe(response.into_body().collect());
    assert!(body.catch_unwind().await.is_err());
    assert_eq!(published(), None);
    assert_eq!(probe.seen()[0].ids, Some(caller));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_timeout_outside_of_the_layer_drops_the_handler() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = headers().layer(service_fn(move |_: Request<()>| hang(inner.clone())));
    let service = TimeoutLayer::new(Duration::from_millis(20)).layer(service);
    let answer = tokio::spawn(service.oneshot(request_from(caller)))
        .await
        .expect("no panic");
    assert!(answer.is_err_and(|error| error.is::<tower::timeout::error::Elapsed>()));
    assert_eq!(probe.places(), ["first poll", "handler dropped"]);
    assert!(probe.seen().iter().all(|seen| seen.ids == Some(caller)));
    assert_nothing_on_four_workers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_timeout_inside_of_the_layer_drops_the_handler() {
    let (probe, caller) = (Probe::default(), fresh_ids());
    let inner = probe.clone();
    let service = service_fn(move |_: Request<()>| hang(inner.clone()));
    let service = TimeoutLayer::new(Duration::from_millis(20)).layer(service);
    let service = headers().layer(service);
    let answer = tokio::spawn(service.oneshot(request_from(caller)))
        .await
        .expect("no panic");
    assert!(answer.is_err_and(|error| error.is::<tower::timeout::error::Elapsed>()));
    assert!(probe.seen().iter().all(|seen| seen.ids == Some(caller)));
    assert_eq!(probe.places(), ["first poll", "handler dropped"]);
    assert_nothing_on_four_workers().await;
}

/// Retries what was answered with an error, up to three times.
#[derive(Clone)]
struct UpToThree(u8);

impl<B, E> Policy<Request<()>, Response<B>, E> for UpToThree {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _request: &mut Request<()>,
        result: &mut Result<Response<B>, E>,
    ) -> Option<Self::Future> {
        let failed = result
            .as_ref()
            .is_ok_and(|response| response.status().is_server_error());
        self.0 = self.0.checked_sub(1)?;
        failed.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }
}

/// Answers with an error twice, then well.
fn flaky(
    probe: Probe,
) -> impl Service<Request<()>, Response = Response<ProbeBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let attempts = Arc::new(AtomicUsize::new(0));
    service_fn(move |_: Request<()>| {
        let (probe, attempts) = (probe.clone(), attempts.clone());
        async move {
            probe.see("attempt");
            tokio::task::yield_now().await;
            probe.see("attempt");
            let mut response = Response::new(ProbeBody::new(probe));
            if attempts.fetch_add(1, Ordering::Relaxed) < 2 {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(response)
        }
    })
}

async fn retried<S, B>(service: S, probe: &Probe)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Error = Infallible> + Send + 'static,
    B::Data: Send,
{
    let caller = fresh_ids();
    let answer = tokio::spawn(async move {
        let response = service
            .oneshot(request_from(caller))
            .await
            .expect("infallible");
        assert_eq!(response.status(), StatusCode::OK);
        response
            .into_body()
            .collect()
            .await
            .expect("infallible")
            .to_bytes()
    });
    assert_eq!(answer.await.expect("no panic").len(), 5);
    let attempts = probe.places().iter().filter(|at| **at == "attempt").count();
    assert_eq!(attempts, 6);
    for seen in probe.seen() {
        let ids = seen
            .ids
            .unwrap_or_else(|| panic!("nothing published at {}", seen.at));
        assert_eq!(ids.trace_id(), caller.trace_id());
    }
    assert_nothing_on_four_workers().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retries_inside_of_the_layer() {
    let probe = Probe::default();
    let otel = opentelemetry_instrumentation_tower::http::server::Layer::new;
    let retry = || RetryLayer::new(UpToThree(3));
    retried(headers().layer(retry().layer(flaky(probe.clone()))), &probe).await;

    // Each attempt has a span of its own; the first one is the request's.
    set_up();
    let probe = Probe::default();
    let attempts = retry().layer(otel().layer(flaky(probe.clone())));
    retried(ProfilingLayer::new().layer(attempts), &probe).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retries_outside_of_the_layer() {
    let probe = Probe::default();
    let service = RetryLayer::new(UpToThree(3)).layer(headers().layer(flaky(probe.clone())));
    retried(service, &probe).await;
}
