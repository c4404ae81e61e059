//! The routes, and what they answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use ::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Extract};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::access::Refusal;
use super::parameters::Parameters;
use super::{State, pprof};
use crate::serve::metrics;
use crate::serve::ring::Window;
use crate::serve::tree::Tree;
use crate::serve::usage::{self, milliseconds};

type Shared = Extract<Arc<State>>;
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What the page may do: load its own script and style, and ask this server. No other source of anything, no code in
/// its markup, no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Paths that tell nothing of what was measured: the page itself has to load before it can ask for a token.
const OPEN: [&str; 5] = ["/", "/page.css", "/page.js", "/icon.svg", "/healthz"];
/// The page for one trace, of which it reads the id itself.
const TRACE: &str = "/trace/";

pub(super) fn router(state: &Arc<State>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/trace/{id}", get(page))
        .route(
            "/page.css",
            get(|| asset("text/css; charset=utf-8", include_str!("../page/page.css"))),
        )
        .route(
            "/page.js",
            get(|| {
                asset(
                    "text/javascript; charset=utf-8",
                    include_str!("../page/page.js"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| asset("image/svg+xml", include_str!("../page/icon.svg"))),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(prometheus))
        .route("/api/status", get(status))
        .route("/api/labels", get(labels))
        .route("/api/usage", get(usages))
        .route("/api/flame", get(flame))
        .route("/debug/pprof/profile", get(next_profile))
        .route("/debug/pprof/past", get(past_profile))
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(state), guard))
        .with_state(Arc::clone(state))
}

/// Lets in who may ask, and adds what every answer carries.
async fn guard(Extract(state): Shared, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path();
    let open = OPEN.contains(&path) || path.starts_with(TRACE);
    let mut response = match state.access.check(request.headers(), open) {
        Ok(()) => {
            state.health.requests.fetch_add(1, Ordering::Relaxed);
            if request.method() == Method::GET || request.method() == Method::HEAD {
                next.run(request).await
            } else {
                Failure::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered").into_response()
            }
        }
        Err(refusal) => {
            state
                .health
                .refused_requests
                .fetch_add(1, Ordering::Relaxed);
            match refusal {
                Refusal::Token => {
                    let text = "the token is missing or wrong: send Authorization: Bearer TOKEN";
                    let mut response = Failure::new(StatusCode::UNAUTHORIZED, text).into_response();
                    let challenge = HeaderValue::from_static("Bearer");
                    response
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, challenge);
                    response
                }
                Refusal::Host => Failure::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    "the request names another host: use localhost or 127.0.0.1",
                )
                .into_response(),
            }
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A failure that a client is told in one line.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(super) fn busy() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests at a time: try again in a few seconds",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from_static("5");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// Works something out on a thread for it, if there is room for it.
pub(super) async fn work<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let Ok(_waiting) = state.waiting.try_acquire() else {
        return Err(Failure::busy());
    };
    // The permit goes with the work: a client that goes away does not end it.
    let result = match Arc::clone(&state.working).acquire_owned().await {
        Ok(permit) => {
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
            });
            task.await.ok()
        }
        Err(_) => None,
    };
    result.ok_or_else(|| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be worked out",
        )
    })
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
        text,
    )
        .into_response()
}

async fn page() -> Response {
    asset(
        "text/html; charset=utf-8",
        include_str!("../page/page.html"),
    )
    .await
}

fn parameters(pairs: Pairs) -> Result<Parameters, Failure> {
    let wrong = |text: String| Failure::new(StatusCode::BAD_REQUEST, text);
    let Query(pairs) = pairs.map_err(|_| wrong("the query cannot be understood".to_owned()))?;
    Parameters::new(&pairs).map_err(wrong)
}

/// The windows that a request is about: all of them, or those of the last seconds.
fn windows(state: &State, parameters: &Parameters) -> Vec<Arc<Window>> {
    let time = parameters.seconds.unwrap_or(state.keep);
    state.store.ring().last(time, SystemTime::now())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them: there is nothing that JSON could not hold.
    serde_json::to_vec(value).unwrap_or_default()
}

fn json_answer(bytes: Vec<u8>) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

async fn prometheus(Extract(state): Shared) -> Response {
    let push = state.exporter.as_ref().map(|exporter| exporter.counters());
    let text = metrics::text(&state.health, &state.store.ring(), push.as_ref());
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What the page shows about serving itself.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    now_ms: u64,
    /// When the oldest window began.
    begin_ms: Option<u64>,
    windows: usize,
    ring_bytes: usize,
    ring_limit_bytes: usize,
    keep_seconds: u64,
    resident_bytes: Option<u64>,
    frequency_hz: u64,
    targets: u64,
    samples: u64,
    with_context: u64,
    lost: u64,
    unreadable: u64,
    truncated: u64,
    push: Option<PushStatus>,
}

#[derive(Serialize)]
struct PushStatus {
    endpoint: String,
    sent: u64,
    lost: u64,
    queued: u64,
    last_error: Option<String>,
}

async fn status(Extract(state): Shared) -> Response {
    let health = &state.health;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let status = {
        let ring = state.store.ring();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            now_ms: milliseconds(SystemTime::now()),
            begin_ms: ring.begin().map(milliseconds),
            windows: ring.len(),
            ring_bytes: ring.bytes(),
            ring_limit_bytes: ring.memory(),
            keep_seconds: state.keep.as_secs(),
            resident_bytes: metrics::resident_bytes(),
            frequency_hz: state.frequency_hz,
            targets: get(&health.targets),
            samples: get(&health.samples),
            with_context: get(&health.with_context),
            lost: get(&health.lost),
            unreadable: get(&health.unreadable),
            truncated: get(&health.truncated),
            push: state.exporter.as_ref().map(|exporter| {
                let counters = exporter.counters();
                PushStatus {
                    endpoint: exporter.endpoint().to_owned(),
                    sent: counters.sent,
                    lost: counters.refused.saturating_add(counters.dropped),
                    queued: counters.queued,
                    last_error: counters.last_error,
                }
            }),
        }
    };
    json_answer(json(&status))
}

async fn labels(Extract(state): Shared, pairs: Pairs) -> Result<Response, Failure> {
    let windows = windows(&state, &parameters(pairs)?);
    let bytes = work(&state, move || json(&usage::labels(&windows))).await?;
    Ok(json_answer(bytes))
}

async fn usages(Extract(state): Shared, pairs: Pairs) -> Result<Response, Failure> {
    let parameters = parameters(pairs)?;
    let windows = windows(&state, &parameters);
    let bytes = work(&state, move || {
        json(&usage::usages(
            &windows,
            &parameters.by,
            &parameters.filter,
            &parameters.search,
            parameters.limit,
        ))
    })
    .await?;
    Ok(json_answer(bytes))
}

async fn flame(Extract(state): Shared, pairs: Pairs) -> Result<Response, Failure> {
    let parameters = parameters(pairs)?;
    let windows = windows(&state, &parameters);
    let bytes = work(&state, move || {
        json(&Tree::new(&windows, &parameters.filter))
    })
    .await?;
    Ok(json_answer(bytes))
}

async fn next_profile(Extract(state): Shared, pairs: Pairs) -> Result<Response, Failure> {
    pprof::profile(state, parameters(pairs)?).await
}

async fn past_profile(Extract(state): Shared, pairs: Pairs) -> Result<Response, Failure> {
    let mut parameters = parameters(pairs)?;
    parameters.past = true;
    pprof::profile(state, parameters).await
}
