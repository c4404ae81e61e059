//! A tower layer that shows eBPF profilers which trace a gRPC call of a [tonic] server belongs to.
//!
//! ```no_run
//! use otel_profiling_grpc::ProfilingLayer;
//! # use tonic::service::Routes;
//! # use tower::layer::util::Identity;
//!
//! # async fn serve(otel_layer: Identity, routes: Routes) -> Result<(), Box<dyn std::error::Error>> {
//! tonic::transport::Server::builder()
//!     .layer(otel_layer) // the layer that makes a span for each call
//!     .layer(ProfilingLayer::new().ignore_prefix("/grpc.health.v1.Health/").method_attributes())
//!     .add_routes(routes) // or add_service
//!     .serve("[::1]:50051".parse()?)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! While a call is worked on, its trace id and span id are published, and with
//! [`method_attributes`](ProfilingLayer::method_attributes) its service and method: in every poll of the handler, unary or
//! streaming; while the response streams; and while both are dropped, also when the client has gone. What was published
//! before is published again after each of these, also when a handler panics.
//!
//! # Where the context comes from
//! In this order: what an [`interceptor`] handed over; the OpenTelemetry context that is current at the handler's first poll;
//! an `opentelemetry::Context` or `SpanContext` in the request's extensions; with
//! [`extract_metadata`](ProfilingLayer::extract_metadata), the global propagator on the call's metadata; else the first
//! span that is entered inside the layer. So it stands inside or outside of a layer of tower-otel or
//! tonic-tracing-opentelemetry, as you like.
//!
//! # Around one service
//! A layered service keeps its name, so it can be added to a server beside others that are not layered:
//!
//! ```
//! use otel_profiling_grpc::ProfilingLayer;
//! use tower::Layer as _;
//! # use tonic::server::NamedService;
//! # #[derive(Clone)]
//! # struct GreeterServer;
//! # impl NamedService for GreeterServer { const NAME: &'static str = "greeter.Greeter"; }
//! # impl tower::Service<http::Request<tonic::body::Body>> for GreeterServer {
//! #     type Response = http::Response<tonic::body::Body>;
//! #     type Error = std::convert::Infallible;
//! #     type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
//! #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
//! #         std::task::Poll::Ready(Ok(()))
//! #     }
//! #     fn call(&mut self, _: http::Request<tonic::body::Body>) -> Self::Future {
//! #         std::future::ready(Ok(tonic::Status::unimplemented("an example").into_http()))
//! #     }
//! # }
//!
//! let greeter = ProfilingLayer::new().layer(GreeterServer);
//! let router = tonic::transport::Server::builder().add_service(greeter);
//! # let _ = router;
//! ```
//!
//! # After an interceptor
//! Where an interceptor leaves the context in the request's extensions, chain ours after it; see [`interceptor`].
//!
//! # Cost
//! Each call: one allocation, the record. (Around a single service, or where another layer wants tonic's own body, tonic or
//! axum boxes the wrapped response body: one more.) Each poll and each message of the response: four stores. With
//! [`interceptor_slot`](ProfilingLayer::interceptor_slot): up to four more allocations for each call.
//!
//! # Limits
//! - Servers only. A client's call is a span of the caller, which is published while the caller is polled.
//! - Work that leaves the call (`tokio::spawn`, `spawn_blocking`, threads) takes the context along only if told to:
//!   [`otel_profiling::Carrier`].
//! - Contexts of another version of the `opentelemetry` crate in the same program are not seen:
//!   `cargo tree -d -i opentelemetry` lists them.
//!
//! # Platforms
//! Those of [`otel_profiling`]: Linux on x86-64 and aarch64. Elsewhere calls are served and nothing is published.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `custom-labels` | yes | the symbols of custom labels v1; turn it off in a program that also links the `custom-labels` crate |
#![forbid(unsafe_code)]

mod interceptor;
mod layer;
mod methods;
mod service;

pub use interceptor::{ProfilingInterceptor, interceptor};
pub use layer::ProfilingLayer;
pub use otel_profiling_http::{ResponseBody, ResponseFuture};
pub use service::Profiling;
