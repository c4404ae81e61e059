//! Profiles in pprof's format: of the next seconds, as `go tool pprof` and Parca ask for them, and of the last ones.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::State;
use super::answers::{Failure, work};
use super::parameters::Parameters;
use crate::pprof;
use crate::profile::Profile;
use crate::serve::ring::Window;

/// Seconds unless told otherwise, as in Go's own handler.
const DEFAULT_SECONDS: Duration = Duration::from_secs(30);
/// How long a window that was asked to end may take to be there: names of functions are looked up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// `/debug/pprof/profile`: waits for the next seconds; with `past=1` the last ones.
pub(super) async fn profile(
    state: Arc<State>,
    parameters: Parameters,
) -> Result<Response, Failure> {
    let seconds = parameters.seconds.unwrap_or(DEFAULT_SECONDS);
    if seconds > state.keep {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            format!(
                "seconds must be at most {}: samples are kept for that long (--keep)",
                state.keep.as_secs()
            ),
        ));
    }
    let windows = if parameters.past {
        let ring = state.store.ring();
        ring.last(seconds, SystemTime::now())
    } else {
        next(&state, seconds).await?
    };
    let style = parameters.style.unwrap_or(state.style);
    let bytes = work(&state, move || {
        let selected: Vec<_> = windows
            .iter()
            .map(|window| window.profile.select(&parameters.filter))
            .collect();
        let parts: Vec<&Profile> = selected.iter().map(|profile| &**profile).collect();
        let whole = Profile::merge(&parts);
        let mut bytes = Vec::new();
        // Writing into memory does not fail.
        let _ = pprof::write(&whole, &crate::profile::Filter::all(), style, &mut bytes);
        bytes
    })
    .await?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"profile.pb.gz\""),
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// The windows of the next seconds.
async fn next(state: &State, seconds: Duration) -> Result<Vec<Arc<Window>>, Failure> {
    let Ok(_permit) = state.waiting.try_acquire() else {
        return Err(Failure::busy());
    };
    let unavailable = |text: &str| Failure::new(StatusCode::SERVICE_UNAVAILABLE, text);
    let late = || unavailable("names of functions are looked up too slowly: try again");
    let cut = || async {
        match tokio::time::timeout(PATIENCE, state.store.cut()).await {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(unavailable(
                "sampling has ended: ask for the past with past=1",
            )),
            Err(_) => Err(late()),
        }
    };
    let after = cut().await?;
    tokio::time::sleep(seconds).await;
    let until = cut().await?;
    tokio::time::timeout(PATIENCE, state.store.arrival(until))
        .await
        .map_err(|_| late())?;
    let windows = state.store.ring().between(after, until);
    windows
        .ok_or_else(|| unavailable("samples had to be dropped: give them more room with --memory"))
}
