//! The layer: what to publish of which calls. The HTTP layer with gRPC's words.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

use crate::methods::Methods;
use crate::service::Profiling;

/// Name of the attribute with the called service.
const SERVICE: &str = "rpc.service";
/// Name of the attribute with the called method.
const METHOD: &str = "rpc.method";

/// Publishes the trace context of each gRPC call where eBPF profilers find it: while the handler runs, while the response
/// streams, and while both are dropped.
///
/// For `tonic::transport::Server::layer`, or around one service. It stands inside or outside the layer that makes the
/// call's span; see [the crate's documentation](crate) for where the context comes from.
///
/// ```
/// use otel_profiling_grpc::ProfilingLayer;
///
/// let layer = ProfilingLayer::new()
///     .ignore_prefix("/grpc.health.v1.Health/")
///     .method_attributes();
/// let server = tonic::transport::Server::builder().layer(layer);
/// # let _ = server;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a layer does nothing until a service is layered"]
pub struct ProfilingLayer {
    inner: otel_profiling_http::ProfilingLayer,
}

impl ProfilingLayer {
    /// A layer that publishes the ids of every call, and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes only calls whose full method, `/package.Service/Method`, starts with `prefix`. Given several times, one
    /// of the prefixes has to fit.
    ///
    /// | include prefixes | ignore prefixes | published |
    /// |---|---|---|
    /// | none given | none of them fits | yes |
    /// | one of them fits | none of them fits | yes |
    /// | given, and none fits | any | no |
    /// | any | one of them fits | no |
    ///
    /// This decides about the layer alone: with the observer installed, spans that are entered while a call that is not
    /// published is handled are published as everywhere else.
    pub fn include_prefix(self, prefix: &str) -> Self {
        self.map(|inner| inner.include_prefix(prefix))
    }

    /// Does not publish calls whose full method starts with `prefix`, even if an
    /// [included](ProfilingLayer::include_prefix) prefix fits. Can be given several times.
    pub fn ignore_prefix(self, prefix: &str) -> Self {
        self.map(|inner| inner.ignore_prefix(prefix))
    }

    /// Whether to ask the global propagator for the context in the call's metadata, if neither OpenTelemetry's current
    /// context nor the request's extensions have one. Default: no.
    ///
    /// For services without a tracing layer: the published span is then the caller's. The propagator allocates.
    pub fn extract_metadata(self, extract: bool) -> Self {
        self.map(|inner| inner.extract_headers(extract))
    }

    /// Publishes the called service and method as `rpc.service` and `rpc.method`.
    ///
    /// A client can call what the server does not have. So that it cannot fill a profiler's storage, the first
    /// 1000 distinct methods that are called are told apart, and all further ones are `_OTHER`; a path that is
    /// not made of two names is left out.
    pub fn method_attributes(self) -> Self {
        let methods = Arc::new(Methods::default());
        let of_service = methods.clone();
        self.attribute(SERVICE, move |call| {
            let (service, _) = of_service.of(call.uri.path())?;
            Some(Cow::Borrowed(service))
        })
        .attribute(METHOD, move |call| {
            let (_, method) = methods.of(call.uri.path())?;
            Some(Cow::Borrowed(method))
        })
    }

    /// Publishes an attribute of the call: `extract` is asked once for each call, before the handler, for a value from the
    /// call's metadata (the headers) or extensions; `None` leaves the attribute out. An attribute of the same name is
    /// replaced.
    ///
    /// See [`otel_profiling_http::ProfilingLayer::attribute`] for order, cost and limits.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use otel_profiling_grpc::ProfilingLayer;
    ///
    /// let layer = ProfilingLayer::new().attribute("tenant", |call| {
    ///     let tenant = call.headers.get("x-tenant")?.to_str().ok()?;
    ///     Some(Cow::Borrowed(tenant))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn attribute<F>(self, name: &str, extract: F) -> Self
    where
        F: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        self.map(|inner| inner.attribute(name, extract))
    }

    /// Whether an [`interceptor`](crate::interceptor()) inside the layer hands contexts over: a slot for them is put into
    /// each request's extensions. Costs up to four allocations for each call. Default: no.
    pub fn interceptor_slot(self, put: bool) -> Self {
        self.map(|inner| inner.context_slot(put))
    }

    /// Whether to [install](otel_profiling::install()) the context observer when a service is layered, unless it is
    /// installed already. Default: yes.
    ///
    /// Without the observer, the layer publishes a context that it finds at the first poll, in the extensions or in the
    /// metadata, but no span inside the handler, nor one that a layer inside it makes.
    pub fn install_observer(self, install: bool) -> Self {
        self.map(|inner| inner.install_observer(install))
    }

    fn map(
        self,
        change: impl FnOnce(otel_profiling_http::ProfilingLayer) -> otel_profiling_http::ProfilingLayer,
    ) -> Self {
        Self {
            inner: change(self.inner),
        }
    }
}

impl<S> Layer<S> for ProfilingLayer {
    type Service = Profiling<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Profiling::new(self.inner.layer(inner))
    }
}
