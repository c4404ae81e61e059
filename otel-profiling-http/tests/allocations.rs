//! What a request costs through the layer, counted by the allocator: the record, and in axum one box more for the body.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Poll, Waker};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use otel_profiling_http::ProfilingLayer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::layer::util::Identity;
use tower::{Layer, Service, ServiceExt as _, service_fn};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: usize = 200;

/// Allocations of `REQUESTS` calls, after some that warm everything up.
fn allocations(mut request: impl FnMut()) -> usize {
    for _ in 0..20 {
        request();
    }
    let before = COUNT.with(Cell::get);
    for _ in 0..REQUESTS {
        request();
    }
    COUNT.with(Cell::get) - before
}

/// Allocations for each request; a fraction would be rounded away, so there must be none.
fn each(request: impl FnMut()) -> usize {
    let all = allocations(request);
    assert_eq!(
        all % REQUESTS,
        0,
        "{all} allocations of {REQUESTS} requests"
    );
    all / REQUESTS
}

fn span_context() -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([8; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

/// What a request has for a context.
#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Nowhere,
    Current(&'a Context),
    /// Entered by the handler itself, as by a layer inside.
    Inside(&'a Context),
}

/// Serves one request, all in this frame: future and body are on the stack.
fn serve<L>(layer: &L, from: From<'_>) -> bool
where
    L: Layer<tower::util::ServiceFn<fn(Request<Option<Context>>) -> Handler>>,
    L::Service: Service<Request<Option<Context>>, Error = Infallible>,
    <L::Service as Service<Request<Option<Context>>>>::Response: IntoBody,
{
    let handler: fn(_) -> _ = Handler;
    let mut service = layer.layer(service_fn(handler));
    let inside = match from {
        From::Inside(context) => Some(context.clone()),
        _ => None,
    };
    let mut cx = std::task::Context::from_waker(Waker::noop());
    let mut future = pin!(service.call(Request::new(inside)));
    let response = loop {
        let _guard = match from {
            From::Current(context) => Some(context.clone().attach()),
            _ => None,
        };
        if let Poll::Ready(response) = future.as_mut().poll(&mut cx) {
            break response.unwrap_or_else(|never| match never {});
        }
    };
    let body = response.into_response_body();
    let mut body = pin!(body);
    let mut published = false;
    while let Poll::Ready(Some(_frame)) = body.as_mut().poll_frame(&mut cx) {
        published = true;
    }
    published
}

trait IntoBody {
    fn into_response_body(self) -> impl Body;
}

impl<B: Body> IntoBody for Response<B> {
    fn into_response_body(self) -> impl Body {
        self.into_body()
    }
}

/// A handler without allocations, of two polls.
struct Handler(Request<Option<Context>>);

impl Future for Handler {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Self::Output> {
        let _guard = self.0.body().clone().map(Context::attach);
        match std::mem::replace(self.0.method_mut(), http::Method::PUT) {
            http::Method::GET => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(Response::new(Full::new(Bytes::from_static(b"answer"))))),
        }
    }
}

fn with_attributes() -> ProfilingLayer {
    ProfilingLayer::new()
        .method(true)
        .route(|request| Some(request.uri.path().into()))
        .attribute("tenant", |_| Some("acme".into()))
}

#[test]
fn a_plain_tower_stack_allocates_the_record_and_nothing_else() {
    otel_profiling::install().expect("no other observer");
    let context = Context::new().with_remote_span_context(span_context());
    let bare = ProfilingLayer::new();
    let ignoring = with_attributes().ignore_prefix("/");
    for (from, records) in [
        (From::Nowhere, 0),
        (From::Current(&context), 1),
        (From::Inside(&context), 1),
    ] {
        let identity = each(|| assert!(serve(&Identity::new(), from)));
        assert_eq!(identity, 0, "{from:?}");
        assert_eq!(each(|| assert!(serve(&bare, from))), records, "{from:?}");
        let attributes = each(|| assert!(serve(&with_attributes_once(), from)));
        assert_eq!(attributes, records, "{from:?}, with attributes");
        assert_eq!(
            each(|| assert!(serve(&ignoring, from))),
            0,
            "{from:?}, ignored"
        );
    }
}

/// One layer with attributes for the whole program.
fn with_attributes_once() -> ProfilingLayer {
    static LAYER: std::sync::LazyLock<ProfilingLayer> = std::sync::LazyLock::new(with_attributes);
    LAYER.clone()
}

/// Two layers are counted like this: the second sees the first one's record, which is no context.
#[test]
fn each_layer_has_its_own_record() {
    otel_profiling::install().expect("no other observer");
    let context = Context::new().with_remote_span_context(span_context());
    let layer = tower::layer::util::Stack::new(ProfilingLayer::new(), ProfilingLayer::new());
    assert_eq!(each(|| assert!(serve(&layer, From::Current(&context)))), 2);
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n";

/// Serves requests on one connection of a hyper server on this thread, behind `layer`.
fn through_hyper<L, B>(layer: L) -> usize
where
    L: Layer<
        tower::util::BoxCloneSyncService<
            Request<hyper::body::Incoming>,
            Response<Full<Bytes>>,
            Infallible,
        >,
    >,
    L::Service: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + 'static,
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    otel_profiling::install().expect("no other observer");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let (mut client, server) = tokio::io::duplex(4096);
    let handler = service_fn(|_: Request<hyper::body::Incoming>| {
        std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"answer")))))
    });
    let service = layer.layer(tower::util::BoxCloneSyncService::new(handler));
    // Outside of the layer: what an earlier middleware left.
    let service = service.map_request(|mut request: Request<_>| {
        request.extensions_mut().insert(span_context());
        request
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), TowerToHyperService::new(service));
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move { drop(connection.await) });
    let mut answer = [0; 1024];
    allocations(|| {
        local.block_on(&runtime, async {
            client.write_all(REQUEST).await.expect("sent");
            let mut length = 0;
            while !answer[..length].windows(6).any(|text| text == b"answer") {
                length += client.read(&mut answer[length..]).await.expect("read");
            }
        });
    })
}

#[test]
fn a_hyper_server_allocates_the_record_and_nothing_else() {
    let identity = through_hyper(Identity::new());
    assert_eq!(through_hyper(ProfilingLayer::new()), identity + REQUESTS);
    assert_eq!(through_hyper(with_attributes()), identity + REQUESTS);
    assert!(identity >= REQUESTS, "the allocator counts hyper's own");
}

#[test]
fn axum_allocates_the_record_and_one_box_for_the_body() {
    otel_profiling::install().expect("no other observer");
    let context = Context::new().with_remote_span_context(span_context());
    let serve = |router: Router| {
        // As servers do: otherwise axum makes the routes again for each request.
        let mut router = router.with_state::<()>(());
        let mut cx = std::task::Context::from_waker(Waker::noop());
        each(|| {
            let _guard = context.clone().attach();
            let request = Request::new(axum::body::Body::empty());
            let mut future = pin!(router.call(request));
            let Poll::Ready(response) = future.as_mut().poll(&mut cx) else {
                panic!("the handler does not wait");
            };
            let response = response.unwrap_or_else(|never| match never {});
            assert_eq!(response.status(), http::StatusCode::OK);
            let mut body = pin!(response.into_body());
            assert!(body.as_mut().poll_frame(&mut cx).is_ready());
        })
    };
    let router = || Router::new().route("/", get(async || "answer"));
    let identity = serve(router().layer(Identity::new()));
    let profiling = serve(router().layer(ProfilingLayer::new()));
    let attributes = serve(router().layer(with_attributes()));
    println!("axum: identity {identity}, with the layer {profiling}, with attributes {attributes}");
    assert_eq!(profiling, identity + 2, "a record, and a box of the body");
    assert_eq!(attributes, identity + 2, "a record, and a box of the body");
}
