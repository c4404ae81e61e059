//! A thousand requests at once on four workers: no step of a handler, and no frame of a body, ever sees another request's
//! trace id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response};
use http_body_util::BodyExt;
use otel_profiling_http::{ProfilingLayer, ResponseBody};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::service::{Findings, Frames, request, serve};
use crate::telemetry::{assert_nothing_on_four_workers, set_up};

/// Serves a thousand requests through `layer`, and checks what they found.
async fn thousand<S, B>(make: impl FnOnce(Arc<Findings>) -> S)
where
    S: Service<Request<()>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: std::fmt::Debug + Send,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug + Send,
{
    set_up();
    let findings = Arc::new(Findings::default());
    let service = make(findings.clone());
    let requests: Vec<_> = (0..1000)
        .map(|number| {
            let service = service.clone();
            tokio::spawn(async move {
                let response = service.oneshot(request(number)).await.expect("served");
                let body = response.into_body().collect().await.expect("a body");
                body.to_bytes().len()
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.expect("no panic"), 25);
    }
    let steps = findings.steps.load(Ordering::Relaxed);
    assert!(steps > 25_000, "{steps} steps were checked");
    assert_eq!(
        findings.other.load(Ordering::Relaxed),
        0,
        "another request's, of {steps}"
    );
    assert_eq!(
        findings.nothing.load(Ordering::Relaxed),
        0,
        "nothing, of {steps}"
    );
    assert_nothing_on_four_workers().await;
}

fn service(
    findings: Arc<Findings>,
) -> impl Service<
    Request<()>,
    Response = Response<Frames>,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request: Request<()>| {
        let number = request.extensions().get().copied().unwrap_or_default();
        serve(findings.clone(), number)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn alone_with_headers() {
    thousand(|findings| {
        ProfilingLayer::new()
            .extract_headers(true)
            .layer(service(findings))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inside_an_opentelemetry_layer() {
    thousand(|findings| {
        let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
        otel.layer(ProfilingLayer::new().layer(service(findings)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn outside_an_opentelemetry_layer() {
    thousand(|findings| {
        let otel = opentelemetry_instrumentation_tower::http::server::Layer::new();
        ProfilingLayer::new().layer(otel.layer(service(findings)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn outside_a_layer_of_tracing_spans() {
    thousand(|findings| {
        let otel = tower_otel::trace::HttpLayer::server(tracing::Level::INFO);
        ProfilingLayer::new().layer(otel.layer(service(findings)))
    })
    .await;
}

/// Bodies keep their own request's record, whoever polls them next to each other.
#[tokio::test]
async fn bodies_that_are_polled_in_turns_keep_their_own_record() {
    use crate::probe::{Probe, ProbeBody};
    use crate::telemetry::fresh_ids;

    let mut bodies: Vec<_> = (0..10)
        .map(|_| {
            let (probe, ids) = (Probe::default(), fresh_ids());
            let body = ProbeBody::new(probe.clone());
            let record = otel_profiling::Record::new(ids);
            (ids, probe, Some(ResponseBody::new(body, Some(record))))
        })
        .collect();
    for _ in 0..3 {
        for (_, _, body) in &mut bodies {
            let body = body.as_mut().expect("not dropped yet");
            body.frame().await.expect("a frame").expect("infallible");
        }
    }
    for (ids, probe, body) in &mut bodies {
        drop(body.take());
        assert_eq!(probe.seen().len(), 5);
        assert!(probe.seen().iter().all(|seen| seen.ids == Some(*ids)));
    }
}
