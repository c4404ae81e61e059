//! Where a request's context comes from, in which order, and which requests have one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use opentelemetry::Context;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::TraceContextExt;
use otel_profiling::{SpanIds, published};
use otel_profiling_http::{ContextSlot, ProfilingLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::probe::{ALL_PLACES, Probe, handler};
use crate::telemetry::{fresh_ids, published, request_from, set_up, span_context};

fn context_of(ids: SpanIds) -> Context {
    Context::new().with_remote_span_context(span_context(ids))
}

/// What a handler behind `layer` sees in its call, its first poll and its second poll.
async fn seen(layer: ProfilingLayer, request: Request<()>) -> Vec<Option<SpanIds>> {
    set_up();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let inner = seen.clone();
    let service = service_fn(move |_request: Request<()>| {
        let seen = inner.clone();
        seen.lock().unwrap().push(published());
        async move {
            seen.lock().unwrap().push(published());
            tokio::task::yield_now().await;
            seen.lock().unwrap().push(published());
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let response = layer.layer(service).oneshot(request).await;
    drop(response.expect("infallible").into_body().collect().await);
    assert_eq!(published(), None);
    let seen = seen.lock().unwrap();
    seen.clone()
}

#[tokio::test]
async fn a_request_without_any_context_publishes_nothing() {
    let layer = ProfilingLayer::new().extract_headers(true).method(true);
    assert_eq!(seen(layer, Request::new(())).await, [None; 3]);
}

#[tokio::test]
async fn headers_count_only_if_asked_for() {
    let caller = fresh_ids();
    let with = |extract| {
        let layer = ProfilingLayer::new().extract_headers(extract);
        seen(layer, request_from(caller))
    };
    assert_eq!(with(false).await, [None; 3]);
    assert_eq!(with(true).await, [Some(caller); 3]);
}

#[tokio::test]
async fn extensions_come_before_headers() {
    let (caller, left) = (fresh_ids(), fresh_ids());
    let mut request = request_from(caller);
    request.extensions_mut().insert(context_of(left));
    let layer = ProfilingLayer::new().extract_headers(true);
    assert_eq!(seen(layer, request).await, [Some(left); 3]);

    let mut request = request_from(caller);
    request.extensions_mut().insert(span_context(left));
    assert_eq!(seen(ProfilingLayer::new(), request).await, [Some(left); 3]);
}

#[tokio::test]
async fn the_current_context_comes_first() {
    set_up();
    let (current, left) = (fresh_ids(), fresh_ids());
    // The context is current in the polls alone, as opentelemetry-instrumentation-tower does it.
    let mut request = Request::new(());
    request.extensions_mut().insert(span_context(left));
    let probe = Probe::default();
    let inner = probe.clone();
    let mut service =
        ProfilingLayer::new().layer(service_fn(move |_: Request<()>| handler(inner.clone())));
    let future = service.call(request).with_context(context_of(current));
    let response = future.await.expect("infallible");
    drop(response.into_body().collect().await);
    for seen in probe.seen() {
        assert_eq!(seen.ids, Some(current), "{}", seen.at);
    }
}

#[tokio::test]
async fn the_current_context_comes_first_in_the_call_of_the_service_too() {
    set_up();
    let (current, left) = (fresh_ids(), fresh_ids());
    let mut service = ProfilingLayer::new().layer(service_fn(move |_: Request<()>| {
        assert_eq!(published(), Some(current));
        std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    }));
    let mut request = Request::new(());
    request.extensions_mut().insert(span_context(left));
    let guard = context_of(current).attach();
    let future = service.call(request);
    drop(guard);
    future.await.expect("infallible");
}

#[tokio::test]
async fn only_the_first_poll_asks_for_the_current_context() {
    set_up();
    let (first, later) = (fresh_ids(), fresh_ids());
    let probe = Probe::default();
    let inner = probe.clone();
    let mut service =
        ProfilingLayer::new().layer(service_fn(move |_: Request<()>| handler(inner.clone())));
    let mut future = Box::pin(service.call(Request::new(())));
    for ids in [first, later] {
        let context = context_of(ids);
        let poll = std::future::poll_fn(|cx| {
            let _guard = context.clone().attach();
            std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())
        });
        assert!(poll.await);
    }
    drop(future);
    let ids: Vec<_> = probe.seen().iter().map(|seen| seen.ids).collect();
    assert_eq!(ids, [Some(first); 3]);
}

#[tokio::test]
async fn unsampled_contexts_are_published() {
    let ids = fresh_ids();
    let unsampled = SpanIds::new(ids.trace_id(), ids.span_id(), 0).expect("valid");
    let layer = ProfilingLayer::new().extract_headers(true);
    assert_eq!(
        seen(layer, request_from(unsampled)).await,
        [Some(unsampled); 3]
    );
}

/// Without any other source, the first span that is entered inside is the request's, whichever poll that happens in.
#[tokio::test]
async fn the_first_span_that_is_entered_inside_is_kept() {
    set_up();
    let (first, second) = (fresh_ids(), fresh_ids());
    let probe = Probe::default();
    let inner = probe.clone();
    let service = ProfilingLayer::new().layer(service_fn(move |_: Request<()>| {
        let probe = inner.clone();
        async move {
            probe.see("nothing is known");
            tokio::task::yield_now().await;
            drop(context_of(first).attach());
            drop(context_of(second).attach());
            tokio::task::yield_now().await;
            handler(probe).await
        }
    }));
    let response = service.oneshot(Request::new(())).await.expect("infallible");
    drop(response.into_body().collect().await);
    let seen = probe.seen();
    assert_eq!(seen[0].ids, None);
    assert_eq!(probe.places()[1..], ALL_PLACES);
    for seen in &seen[1..] {
        assert_eq!(seen.ids, Some(first), "{}", seen.at);
    }
}

#[tokio::test]
async fn a_span_that_is_entered_in_the_only_poll_reaches_the_body() {
    set_up();
    let ids = fresh_ids();
    let probe = Probe::default();
    let inner = probe.clone();
    let service = ProfilingLayer::new().layer(service_fn(move |_: Request<()>| {
        drop(context_of(ids).attach());
        let body = crate::probe::ProbeBody::new(inner.clone());
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    }));
    let response = service.oneshot(Request::new(())).await.expect("infallible");
    drop(response.into_body().collect().await);
    assert_eq!(probe.places(), ALL_PLACES[4..]);
    assert!(probe.seen().iter().all(|seen| seen.ids == Some(ids)));
}

#[tokio::test]
async fn prefixes_decide_which_paths_are_published() {
    let caller = fresh_ids();
    let seen_at = |layer: ProfilingLayer, path: &'static str| async move {
        let mut request = request_from(caller);
        *request.uri_mut() = path.parse().expect("a path");
        seen(layer, request).await
    };
    let layer = || {
        ProfilingLayer::new()
            .extract_headers(true)
            .include_prefix("/api")
            .include_prefix("/users")
            .ignore_prefix("/api/health")
            .ignore_prefix("/users/internal")
    };
    for (path, published) in [
        ("/api/orders", true),
        ("/users/7", true),
        ("/users/7?next=/api/health", true),
        ("/api/healthz", false),
        ("/users/internal/1", false),
        ("/other", false),
        ("*", false),
    ] {
        let expected = [published.then_some(caller); 3];
        assert_eq!(seen_at(layer(), path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_middleware_inside_can_hand_the_context_over() {
    set_up();
    let (caller, handed_over) = (fresh_ids(), fresh_ids());
    let probe = Probe::default();
    let inner = probe.clone();
    let layer = ProfilingLayer::new()
        .extract_headers(true)
        .context_slot(true);
    let service = layer.layer(service_fn(move |request: Request<()>| {
        let slot = request.extensions().get::<ContextSlot>();
        slot.expect("the layer puts one there").set(handed_over);
        handler(inner.clone())
    }));
    let response = service
        .oneshot(request_from(caller))
        .await
        .expect("infallible");
    drop(response.into_body().collect().await);
    assert_eq!(probe.places(), ALL_PLACES);
    assert!(
        probe
            .seen()
            .iter()
            .all(|seen| seen.ids == Some(handed_over))
    );
}

/// What was published before is published again after each step of a request, also where requests nest.
#[tokio::test]
async fn what_was_published_before_is_restored() {
    set_up();
    let (outer, caller) = (fresh_ids(), fresh_ids());
    let probe = Probe::default();
    let inner = probe.clone();
    let service = ProfilingLayer::new()
        .extract_headers(true)
        .layer(service_fn(move |_: Request<()>| handler(inner.clone())));
    let record = otel_profiling::Record::new(outer);
    let mut future = Box::pin(service.oneshot(request_from(caller)));
    let response = std::future::poll_fn(|cx| {
        record.publish_while(|| {
            let poll = future.as_mut().poll(cx);
            assert_eq!(published(), Some(outer));
            poll
        })
    })
    .await
    .expect("infallible");
    let mut body = Box::pin(response.into_body());
    std::future::poll_fn(|cx| {
        record.publish_while(|| {
            let poll = http_body::Body::poll_frame(body.as_mut(), cx);
            assert_eq!(published(), Some(outer));
            poll
        })
    })
    .await
    .expect("a frame")
    .expect("infallible");
    record.publish_while(|| {
        drop(body);
        assert_eq!(published(), Some(outer));
        drop(future);
        assert_eq!(published(), Some(outer));
    });
    assert_eq!(published(), None);
    assert!(probe.seen().iter().all(|seen| seen.ids == Some(caller)));
}

#[tokio::test]
async fn attributes_are_published_in_the_order_in_which_they_were_asked_for() {
    use std::borrow::Cow;

    set_up();
    let probe = Probe::default();
    let inner = probe.clone();
    let layer = ProfilingLayer::new()
        .extract_headers(true)
        .attribute("tenant", |request| {
            Some(Cow::Borrowed(
                request.headers.get("x-tenant")?.to_str().ok()?,
            ))
        })
        .method(true)
        .attribute("absent", |_| None)
        .route(|request| {
            Some(Cow::Owned(format!(
                "{}/{{id}}",
                request.uri.path().get(..6)?
            )))
        })
        .attribute("tenant", |request| {
            let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
            Some(Cow::Owned(tenant.to_uppercase()))
        });
    let service = layer.layer(service_fn(move |_: Request<()>| handler(inner.clone())));
    let mut request = request_from(fresh_ids());
    request
        .headers_mut()
        .insert("x-tenant", "acme".parse().expect("text"));
    *request.method_mut() = http::Method::from_bytes(b"BREW").expect("a token");
    let response = service.oneshot(request).await.expect("infallible");
    drop(response.into_body().collect().await);
    assert_eq!(probe.places(), ALL_PLACES);
    for seen in probe.seen() {
        let expected = [
            ("tenant", "ACME".to_owned()),
            ("http.request.method", "_OTHER".to_owned()),
            ("http.route", "/users/{id}".to_owned()),
        ];
        assert_eq!(seen.attributes, expected, "{}", seen.at);
    }
    assert_eq!(published::attributes(), []);
}
