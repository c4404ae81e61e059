//! tonic with tower-otel's layer, and inside it the layer that shows profilers each call's trace, service and method.

#![forbid(unsafe_code)]

mod load;
mod service;

use std::error::Error;

use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otel_profiling_grpc::ProfilingLayer;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower_otel::trace::GrpcLayer;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use service::Numbers;
use service::fibonacci::fibonacci_server::FibonacciServer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let provider = SdkTracerProvider::builder().build(); // with your exporter
    global::set_tracer_provider(otel_profiling_tracer::wrap(provider));
    global::set_text_map_propagator(TraceContextPropagator::new());
    let spans = tracing_opentelemetry::layer()
        .with_tracer(global::tracer("grpc-example"))
        .with_filter(LevelFilter::INFO); // the transport has spans, too, of no request's
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans))?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = Server::builder()
        // What is added first stands outermost.
        .layer(GrpcLayer::server(Level::INFO))
        .layer(ProfilingLayer::new().method_attributes())
        .add_service(FibonacciServer::new(Numbers));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    load::drive(address).await
}
