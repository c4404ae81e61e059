//! The service that is profiled: axum on tokio's multi-thread runtime, with `tracing` spans.
//!
//! All that it does for profilers is [`otel_profiling_tracer::wrap`].

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use opentelemetry::global;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinError, yield_now};
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::ground_truth::{self, Account, GroundTruth};
use crate::work;

/// What the service prints before its port, once it can be reached.
pub const LISTENING: &str = "listening on port ";

/// Serves on a free port of the loopback interface until standard input is closed, and then prints its
/// [ground truth](crate::ground_truth).
///
/// # Errors
/// If it cannot listen, or standard output is closed.
pub fn run(provider: SdkTracerProvider) -> anyhow::Result<()> {
    // This is all it takes: from here on, profilers see the current span of every thread.
    global::set_tracer_provider(otel_profiling_tracer::wrap(provider));

    let layer = tracing_opentelemetry::layer().with_tracer(global::tracer("demo"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("cannot listen on the loopback interface")?;
    println!("{LISTENING}{}", listener.local_addr()?.port());

    let ground_truth = GroundTruth::default();
    let router = Router::new()
        .route("/thumbnail", get(thumbnail))
        .route("/search", get(search))
        .route("/checkout", get(checkout))
        .route("/report", get(report))
        .layer(middleware::from_fn_with_state(
            ground_truth.clone(),
            in_span,
        ));
    tokio::select! {
        result = axum::serve(listener, router) => result?,
        _ = end_of_input() => {}
    }
    ground_truth::write(&ground_truth.by_trace(), io::stdout())?;
    Ok(())
}

/// Waits until whoever started the service closes its standard input, or is gone.
async fn end_of_input() {
    let (ended, end) = oneshot::channel();
    thread::spawn(move || {
        // An error is an end, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Handles each request in a span that continues the caller's trace.
async fn in_span(
    State(ground_truth): State<GroundTruth>,
    mut request: Request,
    next: Next,
) -> Response {
    let span = info_span!("request", otel.name = request.uri().path());
    let caller = TraceContextPropagator::new().extract(&Headers(request.headers()));
    // Fails only without the OpenTelemetry layer; then there is no trace at all.
    let _ = span.set_parent(caller);

    let account = ground_truth.request(span.context().span().span_context().trace_id());
    request.extensions_mut().insert(account.clone());
    account.measure(next.run(request).instrument(span)).await
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Much work, which lets others have their turn after each band of rows.
async fn thumbnail() -> String {
    let mut points = 0;
    for band in 0..8 {
        points += info_span!("render").in_scope(|| {
            (0..8)
                .map(|row| work::render_row(band * 8 + row, 64))
                .sum::<u32>()
        });
        yield_now().await;
    }
    format!("{points} points\n")
}

/// A span for each shard, nested in the request's.
async fn search() -> String {
    let mut found = 0;
    for shard in 0..6 {
        found += async {
            let found = work::find_word(shard * 20_000, b"abca");
            yield_now().await;
            found + work::find_word(shard * 30_000, b"dcba")
        }
        .instrument(info_span!("shard", shard))
        .await;
    }
    format!("{found} found\n")
}

/// Waits most of the time, and computes before and after.
async fn checkout() -> String {
    let hash = info_span!("authorize").in_scope(|| work::hash_password(7, 100_000));
    tokio::time::sleep(Duration::from_millis(2))
        .instrument(info_span!("payment"))
        .await;
    let hash = info_span!("sign").in_scope(|| work::hash_password(hash, 200_000));
    format!("{hash:016x}\n")
}

/// Two tasks of their own, which may run on other threads at the same time.
async fn report(Extension(account): Extension<Account>) -> Result<String, String> {
    let part = |limit| {
        let account = account.clone();
        let part = async move {
            let primes = work::count_primes(limit);
            yield_now().await;
            primes + work::count_primes(limit / 2)
        };
        tokio::spawn(async move { account.measure(part).await }.instrument(Span::current()))
    };
    let (small, large) = (part(100_000), part(300_000));
    let failed = |error: JoinError| error.to_string();
    let primes = small.await.map_err(failed)? + large.await.map_err(failed)?;
    Ok(format!("{primes} primes\n"))
}
