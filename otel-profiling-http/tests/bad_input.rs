//! Requests that are wrong, or too large, are served; what cannot be published is cut or left out, and counted.
//!
//! A program of its own: it fills the attribute key map, and reads the counters.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use otel_profiling::{Counters, SpanIds, counters, published};
use otel_profiling_http::ProfilingLayer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::{Layer, ServiceExt, service_fn};

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Published = (Option<SpanIds>, Vec<(&'static str, String)>);

/// What a handler behind `layer` publishes, and the status that the client gets.
async fn serve<B: Send + 'static>(
    layer: ProfilingLayer,
    request: Request<B>,
) -> (StatusCode, Published) {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let seen = Arc::new(Mutex::new(None));
    let inner = seen.clone();
    let service = layer.layer(service_fn(move |_: Request<B>| {
        let seen = inner.clone();
        async move {
            let ids = published::thread_context().map(|context| context.ids);
            *seen.lock().unwrap() = Some((ids, published::attributes()));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    }));
    let response = service.oneshot(request).await.expect("infallible");
    let status = response.status();
    response.into_body().collect().await.expect("infallible");
    assert_eq!(published::thread_context(), None);
    let seen = seen.lock().unwrap().take();
    (status, seen.expect("the handler ran"))
}

fn headers() -> ProfilingLayer {
    ProfilingLayer::new().extract_headers(true)
}

fn with_traceparent(value: &[u8]) -> Request<()> {
    let value = HeaderValue::from_bytes(value).expect("a header may hold it");
    let request = Request::get("/").header("traceparent", value);
    request.body(()).expect("a request")
}

// The tests share counters and the key map: one after the other.
#[tokio::test]
async fn bad_input_is_served_and_counted() {
    malformed_traceparents().await;
    headers_of_10_kilobytes().await;
    paths_that_are_not_text().await;
    values_of_a_megabyte().await;
    three_hundred_keys().await;
}

async fn malformed_traceparents() {
    let before = counters();
    for value in [
        &b""[..],
        b"00",
        b"00-",
        b"garbage",
        b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
        b"00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        b"\xff\xfe\x80",
        "00-ä-b-01".as_bytes(),
    ] {
        let (status, (ids, attributes)) =
            serve(headers().method(true), with_traceparent(value)).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((ids, attributes), (None, vec![]), "{value:?}");
    }
    let (_, (ids, _)) = serve(headers(), with_traceparent(VALID.as_bytes())).await;
    assert!(ids.is_some(), "a well-formed one is read");
    assert_eq!(
        counters(),
        before,
        "nothing was to be published, so nothing was left out"
    );
}

async fn headers_of_10_kilobytes() {
    let large = vec![b'a'; 10 << 10];
    let (status, (ids, _)) = serve(headers(), with_traceparent(&large)).await;
    assert_eq!((status, ids), (StatusCode::OK, None));

    let mut request = with_traceparent(VALID.as_bytes());
    let value = HeaderValue::from_bytes(&large).expect("text");
    for name in ["tracestate", "baggage", "x-tenant"] {
        request.headers_mut().insert(name, value.clone());
    }
    let before = counters();
    let layer = headers().attribute("tenant", |request| {
        Some(Cow::Borrowed(
            request.headers.get("x-tenant")?.to_str().ok()?,
        ))
    });
    let (status, (ids, attributes)) = serve(layer, request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(ids.is_some());
    assert_eq!(attributes, [("tenant", "a".repeat(255))]);
    assert_eq!(counters().values_cut, before.values_cut + 1);
    assert_eq!(counters().labels_cut, before.labels_cut + 1);
}

/// On the wire, since a `Uri` does not hold them all.
async fn paths_that_are_not_text() {
    for path in [
        &b"/\xff\xfe"[..],
        b"/caf\xc3",
        "/caf\u{e9}".as_bytes(),
        b"/a\x00b",
        b"/%ff%fe",
    ] {
        let answer = exchange(path).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{path:?}: {answer:?}");
        // hyper refuses most of them itself; what it takes, the layer serves.
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["200", "400"].contains(&status), "{path:?}: {answer:?}");
    }
    assert!(exchange(b"/%ff%fe").await.starts_with("HTTP/1.1 200"));
    assert!(
        exchange("/caf\u{e9}".as_bytes())
            .await
            .starts_with("HTTP/1.1 200")
    );
}

async fn exchange(path: &[u8]) -> String {
    let layer = headers()
        .ignore_prefix("/é")
        .include_prefix("/")
        .route(|request| Some(Cow::Borrowed(request.uri.path())));
    let service = layer.layer(service_fn(
        |request: Request<hyper::body::Incoming>| async move {
            let route = request.uri().path().to_owned();
            assert_eq!(published::attributes(), [("http.route", route)]);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        },
    ));
    let (mut client, server) = tokio::io::duplex(4096);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    let server = tokio::spawn(connection);
    let tail =
        format!(" HTTP/1.1\r\nhost: test\r\ntraceparent: {VALID}\r\nconnection: close\r\n\r\n");
    client
        .write_all(&[b"GET ", path, tail.as_bytes()].concat())
        .await
        .expect("sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("an answer");
    let _refused = server.await.expect("no panic");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn values_of_a_megabyte() {
    let before = counters();
    let layer = headers()
        .attribute("large", |_| Some(Cow::Owned("€".repeat(1 << 20))))
        .attribute("small", |_| Some(Cow::Borrowed("x")));
    let (status, (ids, attributes)) = serve(layer, with_traceparent(VALID.as_bytes())).await;
    assert_eq!(status, StatusCode::OK);
    assert!(ids.is_some());
    assert_eq!(
        attributes,
        [("large", "€".repeat(85)), ("small", "x".to_owned())]
    );
    let after = counters();
    assert_eq!(after.values_cut, before.values_cut + 1);
    assert_eq!(after.labels_cut, before.labels_cut + 1);
    assert_eq!(after.attributes_dropped, before.attributes_dropped);
}

async fn three_hundred_keys() {
    let before: Counters = counters();
    let mut layer = headers();
    for number in 0..300 {
        layer = layer.attribute(&format!("key.{number:03}"), |_| {
            Some(Cow::Borrowed("0123456789"))
        });
    }
    let refused = counters().keys_refused - before.keys_refused;
    // `local_root_span_id`, and the names of the parts before, have a place already.
    assert!(
        (45..60).contains(&refused),
        "{refused} names found no place"
    );

    let (status, (ids, attributes)) = serve(layer, with_traceparent(VALID.as_bytes())).await;
    assert_eq!(status, StatusCode::OK);
    assert!(ids.is_some());
    // 612 bytes: two and the value for each.
    assert_eq!(attributes.len(), 51);
    assert_eq!(attributes[0].0, "key.000");
    assert_eq!(attributes[50].0, "key.050");
    let after = counters();
    let left_out = after.attributes_dropped - before.attributes_dropped;
    assert_eq!(left_out, 300 - refused - 51);
    assert!(
        after.labels_dropped > before.labels_dropped,
        "custom labels have room for eight"
    );

    // An empty name is no name.
    let layer = headers().attribute("", |_| Some(Cow::Borrowed("x")));
    let (_, (_, attributes)) = serve(layer, with_traceparent(VALID.as_bytes())).await;
    assert_eq!(attributes, []);
}
