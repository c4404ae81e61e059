//! The layer and the interceptor on real tonic servers, with real clients over loopback, and the real OpenTelemetry layers
//! for tonic beside them.

#[path = "grpc/bad_input.rs"]
mod bad_input;
#[path = "grpc/cancelled.rs"]
mod cancelled;
#[path = "grpc/echo.rs"]
mod echo;
#[path = "grpc/interceptor.rs"]
mod interceptor;
#[path = "grpc/interop.rs"]
mod interop;
#[path = "grpc/probe.rs"]
mod probe;
#[path = "grpc/selection.rs"]
mod selection;
#[path = "grpc/telemetry.rs"]
mod telemetry;
