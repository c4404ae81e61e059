//! A tower layer that shows eBPF profilers which trace an HTTP request belongs to.
//!
//! For every `tower::Service<http::Request<_>>`: axum, hyper (through hyper-util), or plain tower. It publishes the
//! request's trace context in a thread-local block that Parca Agent, the OpenTelemetry eBPF profiler and `ebpf-reader`
//! read, where today's OpenTelemetry layers leave off, too: in each frame of a streamed body, and while a cancelled
//! request is dropped. Nothing else about the request changes: the layer makes no span, keeps none alive, and attaches no
//! `Context`.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
//! use otel_profiling::published;
//! use otel_profiling_http::ProfilingLayer;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Infallible> {
//! let service = ServiceBuilder::new()
//!     // … an OpenTelemetry layer
//!     .layer(ProfilingLayer::new().method(true).ignore_prefix("/healthz"))
//!     .service(service_fn(async |_: Request<()>| {
//!         // A profiler that interrupts the thread here attributes the sample to the request's trace.
//!         let trace = published::thread_context().map(|context| context.ids.trace_id());
//!         Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{trace:?}")))))
//!     }));
//!
//! // What an OpenTelemetry layer makes current, or a middleware leaves in the extensions.
//! let context = SpanContext::new(
//!     TraceId::from_bytes([7; 16]), SpanId::from_bytes([8; 8]),
//!     TraceFlags::SAMPLED, false, TraceState::NONE,
//! );
//! let request = Request::builder().extension(context).body(()).expect("a valid request");
//! let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
//! # if cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
//! assert_eq!(body, format!("{:?}", Some([7; 16])));
//! # }
//! assert!(published::thread_context().is_none());
//! # Ok(())
//! # }
//! ```
//!
//! In axum, `Router::new().route(…).layer(ProfilingLayer::new()).layer(otel)`; with hyper, wrap the service in
//! `hyper_util::service::TowerToHyperService`.
//!
//! # Where the context comes from
//! The first of these that has a valid one:
//! 1. OpenTelemetry's current context at the first poll of the response's future; until then, the one that is current
//!    when the service is called;
//! 2. an `opentelemetry::Context` or `SpanContext` in the request's extensions;
//! 3. the headers, through the global propagator, with [`ProfilingLayer::extract_headers`];
//! 4. the first span that is entered inside the layer, for a layer that stands outside the OpenTelemetry one. It needs
//!    the context observer, which the layer [installs](ProfilingLayer::install_observer).
//!
//! Sampled or not makes no difference. A request without any context publishes nothing. It is copied, never kept as a
//! `Context`: spans end when they would end without the layer.
//!
//! A middleware inside the layer that knows better can hand the context over: see [`ContextSlot`].
//!
//! The call of the inner service is published as well, if the context is known by then.
//!
//! # Inside or outside
//! Both work with opentelemetry-instrumentation-tower, tower-otel and axum-tracing-opentelemetry. Inside the OpenTelemetry
//! layer is better: outside, what runs before the first span is entered is not published, and the attributes of the layer
//! are seen from the second poll on, in the first one only if the context came from the extensions or headers.
//!
//! # Beside the ids
//! Nothing, unless asked for: [`method`](ProfilingLayer::method), [`route`](ProfilingLayer::route) (with the feature
//! `axum`, `matched_path`), or any [`attribute`](ProfilingLayer::attribute) of the request. Spans below the request's
//! inherit them. What was cut or left out is counted: see [`otel_profiling::counters`].
//!
//! # Cost
//! For each request one allocation, the record, and four stores around each poll, frame and drop; on a plain tower or hyper
//! stack no other allocation. axum and tonic box each body that is not their own: there it is one more. The response's future is
//! about 300 bytes larger.
//!
//! # Limits
//! - Reading the request's body is published where the handler does it, not where a server reads ahead.
//! - Work that the handler hands to another task or thread leaves the request; OpenTelemetry's context has to go with it.
//! - A request that is dropped before its first poll is published meanwhile only if its context was known when the service
//!   was called.
//!
//! # Platforms and features
//! As of `otel-profiling`: Linux on x86-64 and aarch64; elsewhere the layer works and nothing is published.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `axum` | no | `ProfilingLayer::matched_path` |
//! | `custom-labels` | yes | the symbols of custom labels v1; turn it off in a program that also links the `custom-labels` crate |

#![forbid(unsafe_code)]

mod attributes;
mod body;
mod context;
mod filter;
mod future;
mod layer;
mod service;
mod slot;
mod source;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use layer::ProfilingLayer;
pub use service::Profiling;
pub use slot::ContextSlot;
