//! Putting the observer into OpenTelemetry's only slot, and saying so when that did not work.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::context::{ContextObserver, GlobalContextObserver};

use super::PublishingObserver;
use super::capture::Capture;
use crate::keys::AttributeKeyError;
use crate::self_check::{self, SelfCheckError};
use crate::settings::{self, Settings, SettingsError};
use crate::warning;

/// Installs the context observer with the default settings; see [`Observer::install`].
///
/// ```
/// use opentelemetry::Context;
/// use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
/// use otel_profiling::published;
///
/// # fn main() -> Result<(), otel_profiling::InstallError> {
/// otel_profiling::install()?;
///
/// let span = SpanContext::new(
///     TraceId::from(0x5b8e_fff7_9803_8103_d269_b633_813f_c60c),
///     SpanId::from(0xeee1_9b7e_c3c1_b174),
///     TraceFlags::SAMPLED, false, TraceState::NONE,
/// );
/// let guard = Context::new().with_remote_span_context(span.clone()).attach();
/// # if cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
/// let context = published::thread_context().expect("the context has a span");
/// assert_eq!(context.ids.trace_id(), span.trace_id().to_bytes());
/// # }
/// drop(guard);
/// assert!(published::thread_context().is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Observer::install`].
pub fn install() -> Result<Installed, InstallError> {
    Observer::new().install()
}

/// The observer before it is installed: its settings, and whom it forwards to.
#[derive(Clone)]
pub struct Observer {
    settings: Settings,
    capture: Capture,
    next: Option<Arc<dyn ContextObserver + Send + Sync>>,
    check: bool,
}

impl Observer {
    /// An observer with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            settings: Settings::default(),
            capture: Capture::new(),
            next: None,
            check: true,
        }
    }

    /// What is published, under which label names.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What is published beside the ids. Default: nothing.
    #[must_use]
    pub fn capture(mut self, capture: Capture) -> Self {
        self.capture = capture;
        self
    }

    /// Calls `next` too, after this observer: for a program that needs a second one, since OpenTelemetry
    /// has one slot.
    ///
    /// Its views are stored inside ours, and `Context::observer_view()`'s `as_any()` answers with them.
    /// For a context of which it made no view, `as_any()` is our view, which its downcast does not find.
    #[must_use]
    pub fn forward_to(mut self, next: Arc<dyn ContextObserver + Send + Sync>) -> Self {
        self.next = Some(next);
        self
    }

    /// Whether to check once, when installed, that a profiler would find the symbols, and to log one
    /// warning with the fix if not. Default: yes.
    #[must_use]
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Installs the observer for the whole process. From then on, every context of the `opentelemetry`
    /// crate that is made with a valid span is published while it is current.
    ///
    /// Calling it again succeeds, changes nothing, and returns [`Installed::Before`]. Do it first thing in
    /// `main`: contexts that exist already are not published.
    ///
    /// The warning of [`Observer::check`] goes to `tracing` if a subscriber is set already, else to
    /// standard error.
    ///
    /// # Errors
    /// If another observer is in the slot, the settings cannot be used, or records were made with other
    /// settings before. Nothing is installed then.
    pub fn install(self) -> Result<Installed, InstallError> {
        static INSTALLED: Mutex<bool> = Mutex::new(false);

        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if *installed {
            return Ok(Installed::Before);
        }
        self.settings.validate()?;
        let capture = self.capture.resolve()?;
        if !settings::fix(&self.settings) {
            return Err(InstallError::SettingsInUse);
        }
        let observer = Arc::new(PublishingObserver {
            capture,
            next: self.next,
        });
        GlobalContextObserver::set(observer.clone());
        // The slot cannot be asked who is in it; it drops an observer that it does not take.
        if Arc::strong_count(&observer) == 1 {
            return Err(InstallError::SlotTaken);
        }
        *installed = true;
        let _ = INSTALLED_OBSERVER.set(observer);
        drop(installed);
        if self.check {
            match self_check::symbols() {
                // On such a platform nobody expects a profiler to find anything.
                Ok(_) | Err(SelfCheckError::Unsupported) => {}
                Err(error) => {
                    warning::log(&format!(
                        "profilers cannot see this process's traces: {error}"
                    ));
                }
            }
        }
        Ok(Installed::Now)
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("settings", &self.settings)
            .field("capture", &self.capture)
            .field("forwards", &self.next.is_some())
            .field("check", &self.check)
            .finish()
    }
}

static INSTALLED_OBSERVER: OnceLock<Arc<PublishingObserver>> = OnceLock::new();

/// The observer of this process, once it is installed.
pub(super) fn installed() -> Option<&'static PublishingObserver> {
    INSTALLED_OBSERVER.get().map(|observer| &**observer)
}

/// Who installed the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// This call did.
    Now,
    /// An earlier call did; its settings hold.
    Before,
}

/// Why the observer was not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// OpenTelemetry's only slot holds an observer that is not ours.
    #[error(
        "another context observer is installed in this process: install otel-profiling first and give it \
         the other one, `Observer::new().forward_to(other).install()`"
    )]
    SlotTaken,
    /// Records were made before with other settings.
    #[error(
        "records were published with other settings before the observer was installed: install it first \
         thing in main"
    )]
    SettingsInUse,
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A name of [`Capture`] cannot be used.
    #[error(transparent)]
    AttributeKey(#[from] AttributeKeyError),
}
