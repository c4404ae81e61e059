//! What a call costs in allocations, on a real tonic server: the record. Around a single service, one more: the router's box of
//! a response body that is not tonic's own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use otel_profiling::published;
use otel_profiling_grpc::{ProfilingLayer, interceptor};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::InterceptorLayer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Layer as _;
use tower::layer::util::Identity;
use tower::service_fn;

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
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

/// Calls in which something was published.
static PUBLISHED: AtomicUsize = AtomicUsize::new(0);

/// Answers with what it was sent, and counts whether something is published.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let echo = service_fn(|request: Request<String>| async {
                // Reading back allocates, which is no part of the call. There is but one thread.
                let before = COUNT.load(Ordering::Relaxed);
                if published::thread_context().is_some() {
                    PUBLISHED.fetch_add(1, Ordering::Relaxed);
                }
                COUNT.store(before, Ordering::Relaxed);
                Ok::<_, Status>(Response::new(request.into_inner()))
            });
            let codec = ProstCodec::<String, String>::default();
            Ok(tonic::server::Grpc::new(codec).unary(echo, request).await)
        })
    }
}

/// What a tracing middleware would leave.
#[allow(clippy::unnecessary_wraps)] // an interceptor's signature
fn leave_context(mut request: Request<()>) -> Result<Request<()>, Status> {
    let (trace_id, span_id) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([7; 8]));
    let context = SpanContext::new(
        trace_id,
        span_id,
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    request.extensions_mut().insert(context);
    Ok(request)
}

const CALLS: usize = 500;

/// Allocations of the whole program for a call to a server with these layers, in steady state; and in how many of the calls
/// something was published.
macro_rules! allocations {
    ($($layer:expr),+ => $service:expr) => {{
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Server::builder()$(.layer($layer))+.add_service($service);
        let server = tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid address");
        let mut client = tonic::client::Grpc::new(endpoint.connect().await.expect("it listens"));
        let mut before = (0, 0);
        for call in 0..2 * CALLS {
            if call == CALLS {
                before = (COUNT.load(Ordering::Relaxed), PUBLISHED.load(Ordering::Relaxed));
            }
            client.ready().await.expect("the server lives");
            let path = "/test.Echo/Unary".parse().expect("a valid path");
            let codec = ProstCodec::<String, String>::default();
            let response = client.unary(Request::new(String::new()), path, codec).await;
            let _response: Response<String> = response.expect("served");
        }
        let after = (COUNT.load(Ordering::Relaxed), PUBLISHED.load(Ordering::Relaxed));
        server.abort();
        // Buffers that grow now and then are no part of a call.
        let calls = (after.0 - before.0 + CALLS / 2) / CALLS;
        println!("{calls} allocations for each call, {} in all", after.0 - before.0);
        (calls, after.1 - before.1)
    }};
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_costs_the_record_and_at_most_one_box() {
    otel_profiling::install().expect("no other observer");
    let context = || InterceptorLayer::new(leave_context);
    let (identity, published) = allocations!(context(), Identity::new() => Echo);
    assert_eq!(published, 0);

    let (ids, published) = allocations!(context(), ProfilingLayer::new() => Echo);
    assert_eq!((ids, published), (identity + 1, CALLS), "the record");

    let methods = ProfilingLayer::new().method_attributes();
    let (attributes, published) = allocations!(context(), methods => Echo);
    assert_eq!(
        (attributes, published),
        (identity + 1, CALLS),
        "they lie in the record"
    );

    let ignored = ProfilingLayer::new().ignore_prefix("/test.Echo/");
    let (ignored, published) = allocations!(context(), ignored => Echo);
    assert_eq!((ignored, published), (identity, 0), "nothing is published");

    let service = ProfilingLayer::new().layer(Echo);
    let (service, published) = allocations!(context() => service);
    assert_eq!(
        (service, published),
        (identity + 2, CALLS),
        "the record and the box"
    );

    // Contexts that interceptors hand over: the slot, its place in the extensions, which may grow for it, and the list of
    // what is published for the rest of a poll.
    let slot = ProfilingLayer::new().interceptor_slot(true);
    let chain = InterceptorLayer::new(interceptor().after(leave_context));
    let (chain, published) = allocations!(slot, chain => Echo);
    assert_eq!(published, CALLS);
    assert!(chain <= ids + 4, "{chain}, not {ids} + 4");
}
