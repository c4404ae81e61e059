//! The layer as servers use it, with the real OpenTelemetry layers beside it.

#[path = "http/axum_routes.rs"]
mod axum_routes;
#[path = "http/body.rs"]
mod body;
#[path = "http/cancelled.rs"]
mod cancelled;
#[path = "http/concurrent.rs"]
mod concurrent;
#[path = "http/interop.rs"]
mod interop;
#[path = "http/probe.rs"]
mod probe;
#[path = "../examples/concurrent/service.rs"]
mod service;
#[path = "http/sources.rs"]
mod sources;
#[path = "http/telemetry.rs"]
mod telemetry;
