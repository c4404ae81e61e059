//! The layer: what to publish of which requests.

use std::borrow::Cow;
use std::sync::{Arc, Once};

use http::request::Parts;
use otel_profiling::process_context::{self, PublishError};
use otel_profiling::{AttributeKey, warning};
use tower_layer::Layer;

use crate::attributes::{Attribute, METHOD, ROUTE, known_method};
use crate::filter::PathFilter;
use crate::service::Profiling;

/// Publishes the trace context of each HTTP request where eBPF profilers find it: while the handler runs, while the
/// response's body streams, and while both are dropped.
///
/// It stands inside or outside the layer that makes the request's span; see [the crate's documentation](crate) for
/// where the context comes from. Inside is better if attributes are to be published.
///
/// ```
/// use otel_profiling_http::ProfilingLayer;
///
/// let layer = ProfilingLayer::new()
///     .ignore_prefix("/healthz")
///     .method(true);
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until a service is layered"]
pub struct ProfilingLayer {
    config: Arc<Config>,
}

/// The settings of a layer, shared by the services that it makes.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) filter: PathFilter,
    pub(crate) extract_headers: bool,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) slot: bool,
    install: bool,
}

impl ProfilingLayer {
    /// A layer that publishes the ids of every request, and nothing else.
    pub fn new() -> Self {
        Self {
            config: Arc::new(Config {
                filter: PathFilter::default(),
                extract_headers: false,
                attributes: Vec::new(),
                slot: false,
                install: true,
            }),
        }
    }

    /// Publishes only requests whose path starts with `prefix`. Given several times, one of the prefixes has to fit.
    ///
    /// | include prefixes | ignore prefixes | published |
    /// |---|---|---|
    /// | none given | none of them fits | yes |
    /// | one of them fits | none of them fits | yes |
    /// | given, and none fits | any | no |
    /// | any | one of them fits | no |
    ///
    /// This decides about the layer alone: with the observer installed, spans that are entered while a request that
    /// is not published is handled are published as everywhere else.
    pub fn include_prefix(mut self, prefix: &str) -> Self {
        self.config_mut().filter.include(prefix);
        self
    }

    /// Does not publish requests whose path starts with `prefix`, even if an
    /// [included](ProfilingLayer::include_prefix) prefix fits. Can be given several times.
    pub fn ignore_prefix(mut self, prefix: &str) -> Self {
        self.config_mut().filter.ignore(prefix);
        self
    }

    /// Whether to ask the global propagator for the context in the request's headers, if neither OpenTelemetry's current
    /// context nor the request's extensions have one. Default: no.
    ///
    /// For services without a tracing layer: the published span is then the caller's. The propagator allocates.
    pub fn extract_headers(mut self, extract: bool) -> Self {
        self.config_mut().extract_headers = extract;
        self
    }

    /// Whether to publish the method as `http.request.method`: one of those that the semantic conventions list, or
    /// `_OTHER`. Default: no.
    pub fn method(mut self, publish: bool) -> Self {
        let config = self.config_mut();
        config.attributes.retain(|known| known.name() != METHOD);
        if publish {
            self = self.attribute(METHOD, |request| {
                Some(Cow::Borrowed(known_method(&request.method)))
            });
        }
        self
    }

    /// Publishes the route that the request was matched to, as `http.route`: the template, such as `/users/{id}`, not
    /// the path, of which there is no end.
    ///
    /// The layer has to stand where the route is known already, or `extract` has to find it out.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use otel_profiling_http::ProfilingLayer;
    ///
    /// #[derive(Clone)]
    /// struct Route(&'static str); // left by a router in the request's extensions
    ///
    /// let layer = ProfilingLayer::new().route(|request| {
    ///     let route = request.extensions.get::<Route>()?;
    ///     Some(Cow::Borrowed(route.0))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn route<F>(self, extract: F) -> Self
    where
        F: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        self.attribute(ROUTE, extract)
    }

    /// Publishes the route as axum's router knows it, as `http.route`.
    ///
    /// The layer has to be added by `Router::layer` or `Router::route_layer`, after the routes: around the whole
    /// router nothing is routed yet, and the attribute is missing.
    #[cfg(feature = "axum")]
    pub fn matched_path(self) -> Self {
        self.route(|request| {
            let path = request.extensions.get::<axum::extract::MatchedPath>()?;
            Some(Cow::Borrowed(path.as_str()))
        })
    }

    /// Publishes an attribute of the request: `extract` is asked once for each request, before the handler; `None` leaves
    /// the attribute out. An attribute of the same name is replaced.
    ///
    /// The order is that of importance: what does not fit is left out from the end. Up to 8 attributes with 192 bytes of
    /// values, a borrowed value counted like an owned one, cost no allocation beyond the record's. Values should be few:
    /// each distinct one is a series in the profiler's storage.
    ///
    /// A name that finds no place in the attribute key map, which holds 256 in a process, is left out: one warning is
    /// logged, and [`otel_profiling::counters`] has it.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use otel_profiling_http::ProfilingLayer;
    ///
    /// let layer = ProfilingLayer::new().attribute("tenant", |request| {
    ///     let tenant = request.headers.get("x-tenant")?.to_str().ok()?;
    ///     Some(Cow::Borrowed(tenant))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn attribute<F>(mut self, name: &str, extract: F) -> Self
    where
        F: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        match AttributeKey::new(name) {
            Ok(key) => {
                let attribute = Attribute::new(key, extract);
                let attributes = &mut self.config_mut().attributes;
                match attributes.iter_mut().find(|known| known.name() == name) {
                    Some(known) => *known = attribute,
                    None => attributes.push(attribute),
                }
            }
            Err(error) => {
                static WARNED: Once = Once::new();
                WARNED.call_once(|| {
                    warning::log(&format!(
                        "attribute {name:?} of requests is left out: {error}"
                    ));
                });
            }
        }
        self
    }

    /// Whether to put a [`ContextSlot`](crate::ContextSlot) into each request's extensions, through which a middleware
    /// inside the layer can hand over the request's context. Costs two allocations for each request. Default: no.
    pub fn context_slot(mut self, put: bool) -> Self {
        self.config_mut().slot = put;
        self
    }

    /// Whether to [install](otel_profiling::install()) the context observer when a service is layered, unless it is
    /// installed already, and to publish a process context, unless one is: it names the attributes for readers, and
    /// the service if `OTEL_SERVICE_NAME` does. Default: yes.
    ///
    /// Without the observer, the layer publishes a context that it finds at the first poll, in the extensions or in the
    /// headers, but no span inside the handler, nor one that a layer inside it makes.
    pub fn install_observer(mut self, install: bool) -> Self {
        self.config_mut().install = install;
        self
    }

    fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

/// Tells readers the names of attributes, in a program that does not wrap its tracer provider.
fn publish_process_context() {
    if process_context::is_published() {
        return;
    }
    let published =
        process_context::update_with(|context| match std::env::var("OTEL_SERVICE_NAME") {
            Ok(name) if !name.is_empty() && context.resource_value("service.name").is_none() => {
                context.resource("service.name", name)
            }
            _ => context,
        });
    match published {
        // On such a platform nobody expects a profiler to find anything.
        Ok(()) | Err(PublishError::Unsupported) => {}
        Err(error) => warning::log(&format!(
            "profilers do not see names of attributes: {error}"
        )),
    }
}

impl Default for ProfilingLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ProfilingLayer {
    type Service = Profiling<S>;

    fn layer(&self, inner: S) -> Self::Service {
        if self.config.install {
            // Some servers layer a service for each connection.
            static INSTALL: Once = Once::new();
            INSTALL.call_once(|| {
                if let Err(error) = otel_profiling::install() {
                    warning::log(&format!("spans inside requests are not published: {error}"));
                }
                publish_process_context();
            });
        }
        Profiling::new(inner, self.config.clone())
    }
}
