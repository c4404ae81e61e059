//! Wrapping with choices: settings, resource, a second observer.

use std::fmt;
use std::sync::Arc;

use opentelemetry::context::ContextObserver;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use otel_profiling::self_check::{self, SelfCheckError};
use otel_profiling::{Capture, Installed, Observer, Settings, warning};

use crate::error::{TryWrapError, WrapError};
use crate::provider::ProfilingTracerProvider;
use crate::resource;

/// A [`Builder`] with nothing chosen yet.
pub fn builder() -> Builder {
    Builder {
        observer: Observer::new(),
        resource: None,
        check: true,
    }
}

/// How to wrap a provider.
///
/// ```
/// use opentelemetry_sdk::Resource;
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use otel_profiling_tracer::Settings;
///
/// let resource = Resource::builder().with_service_name("checkout").build();
/// let provider = SdkTracerProvider::builder().with_resource(resource.clone()).build();
/// let provider = otel_profiling_tracer::builder()
///     .resource(resource)
///     .settings(Settings::default().trace_label("trace_id").span_label("span_id"))
///     .try_wrap(provider)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
#[derive(Clone)]
pub struct Builder {
    observer: Observer,
    resource: Option<Resource>,
    check: bool,
}

impl Builder {
    /// The resource that the process context names. It takes precedence over what a
    /// [`ResourceProcessor`](crate::ResourceProcessor) was told and over the SDK's detectors.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Which layouts are published, and under which label names. Default: both, `otel_traceid` and
    /// `otel_spanid`.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.observer = self.observer.settings(settings);
        self
    }

    /// What is published beside the ids: span attributes, span name, local root, baggage, and how fine the span
    /// ids are. Default: nothing, per span.
    pub fn capture(mut self, capture: Capture) -> Self {
        self.observer = self.observer.capture(capture);
        self
    }

    /// Forwards to a second context observer; see [`Observer::forward_to`].
    pub fn forward_to(mut self, observer: Arc<dyn ContextObserver + Send + Sync>) -> Self {
        self.observer = self.observer.forward_to(observer);
        self
    }

    /// Whether to check once that a profiler would find what is published, and to log one warning with the
    /// fix if not. Default: yes.
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Wraps `provider`. It never fails: what [`Builder::try_wrap`] would return as an error is logged as a
    /// warning, and the provider works as before.
    pub fn wrap<P: TracerProvider>(self, provider: P) -> ProfilingTracerProvider<P> {
        if let Err(error) = self.publish() {
            warning::log(&error.to_string());
        }
        ProfilingTracerProvider::new(provider)
    }

    /// Wraps `provider`, or says why nothing, or not everything, is published.
    ///
    /// # Errors
    /// If the context observer could not be installed, or the process context not published. The error gives
    /// the provider back.
    pub fn try_wrap<P: TracerProvider>(
        self,
        provider: P,
    ) -> Result<ProfilingTracerProvider<P>, TryWrapError<P>> {
        match self.publish() {
            Ok(()) => Ok(ProfilingTracerProvider::new(provider)),
            Err(error) => Err(TryWrapError::new(error, provider)),
        }
    }

    fn publish(self) -> Result<(), WrapError> {
        // The check here covers the observer's.
        let installed = self.observer.check(false).install()?;
        let published = resource::publish(self.resource);
        if self.check && installed == Installed::Now {
            let found = self_check::symbols().and_then(|_| match &published {
                Ok(()) => self_check::process_context().map(drop),
                // That is reported as an error already.
                Err(_) => Ok(()),
            });
            match found {
                // On such a platform nobody expects a profiler to find anything.
                Ok(()) | Err(SelfCheckError::Unsupported) => {}
                Err(error) => {
                    warning::log(&format!(
                        "profilers cannot see this process's traces: {error}"
                    ));
                }
            }
        }
        Ok(published?)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("observer", &self.observer)
            .field("resource", &self.resource)
            .field("check", &self.check)
            .finish()
    }
}
