//! Names of what a profile says about each sample, as the tool that reads it expects them.
//!
//! | | [`Otel`](LabelStyle::Otel) | [`Parca`](LabelStyle::Parca) | [`Pyroscope`](LabelStyle::Pyroscope) |
//! |---|---|---|---|
//! | trace id | `trace_id` | `otel_traceid` | `trace_id` |
//! | span id | `span_id` | `otel_spanid` | `span_id` |
//! | thread | `thread.name`, `thread.id` | `thread_name`, `thread_id` | `thread_name`, `thread_id` |
//! | process | `process.executable.name`, `process.pid` | `process_name`, `process_id` | `process_name`, `process_id` |
//! | service | `service.name` | `service_name` | `service_name` |
//! | why it did not run (OTLP only) | `thread.activity` | `thread_activity` | `thread_activity` |
//! | attributes and labels | as published | `http_route` for `http.route` | `http_route` for `http.route` |
//!
//! A label of the application whose name is taken, or is one that Parca keeps for itself (`cpu`, `node`), gets
//! `exported_` in front.
//!
//! Parca makes labels of text and of nothing else, so its style has numbers as text.

use std::borrow::Cow;
use std::str::FromStr;

/// For which tool the names are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelStyle {
    /// OpenTelemetry's semantic conventions; attributes keep their names.
    #[default]
    Otel,
    /// The labels that Parca Agent and otel-profiling-go set, so that one query spans all of them.
    Parca,
    /// The labels of Grafana's SDKs.
    Pyroscope,
}

/// Names of what is known of each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Names {
    /// The trace id, 32 hexadecimal digits.
    pub trace_id: &'static str,
    /// The span id, 16 hexadecimal digits.
    pub span_id: &'static str,
    /// The thread's name.
    pub thread_name: &'static str,
    /// The thread's id.
    pub thread_id: &'static str,
    /// The process's id.
    pub process_id: &'static str,
    /// Name of the process's executable.
    pub process_name: &'static str,
    /// The service's name.
    pub service_name: &'static str,
    /// Why the thread did not run, in OpenTelemetry's format.
    pub thread_activity: &'static str,
}

const OTEL: Names = Names {
    trace_id: "trace_id",
    span_id: "span_id",
    thread_name: "thread.name",
    thread_id: "thread.id",
    process_id: "process.pid",
    process_name: "process.executable.name",
    service_name: "service.name",
    thread_activity: "thread.activity",
};

const PYROSCOPE: Names = Names {
    trace_id: "trace_id",
    span_id: "span_id",
    thread_name: "thread_name",
    thread_id: "thread_id",
    process_id: "process_id",
    process_name: "process_name",
    service_name: "service_name",
    thread_activity: "thread_activity",
};

const PARCA: Names = Names {
    trace_id: otel_profiling::DEFAULT_TRACE_LABEL,
    span_id: otel_profiling::DEFAULT_SPAN_LABEL,
    ..PYROSCOPE
};

/// What is put before a label's name that cannot be used.
const PREFIX: &str = "exported_";

impl LabelStyle {
    /// All styles.
    pub const ALL: [Self; 3] = [Self::Otel, Self::Parca, Self::Pyroscope];

    /// The name of the style itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Otel => "otel",
            Self::Parca => "parca",
            Self::Pyroscope => "pyroscope",
        }
    }

    /// Its names.
    pub fn names(self) -> &'static Names {
        match self {
            Self::Otel => &OTEL,
            Self::Parca => &PARCA,
            Self::Pyroscope => &PYROSCOPE,
        }
    }

    /// Whether numbers have to be text to be seen.
    pub(crate) fn numbers_are_text(self) -> bool {
        self == Self::Parca
    }

    /// Name of an attribute or label of the application.
    pub fn label(self, name: &str) -> Cow<'_, str> {
        let name = match self {
            Self::Otel => Cow::Borrowed(name),
            // Their selectors know letters, digits and underscores.
            Self::Parca | Self::Pyroscope => query_name(name),
        };
        if name.is_empty() || self.is_taken(&name) {
            return format!("{PREFIX}{name}").into();
        }
        name
    }

    fn is_taken(self, name: &str) -> bool {
        let names = self.names();
        let own = [
            names.trace_id,
            names.span_id,
            names.thread_name,
            names.thread_id,
            names.process_id,
            names.process_name,
            names.service_name,
            names.thread_activity,
        ];
        own.contains(&name) || (self == Self::Parca && ["cpu", "node"].contains(&name))
    }
}

/// The name with an underscore for each character that a query cannot name.
fn query_name(name: &str) -> Cow<'_, str> {
    let usable = |(index, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (index > 0 && c.is_ascii_digit())
    };
    if name.char_indices().all(usable) {
        return Cow::Borrowed(name);
    }
    name.char_indices()
        .map(|(index, c)| if usable((index, c)) { c } else { '_' })
        .collect()
}

impl FromStr for LabelStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|style| style.as_str() == text)
            .ok_or_else(|| "must be otel, parca or pyroscope".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_style() {
        assert_eq!(LabelStyle::Otel.label("http.route"), "http.route");
        assert_eq!(LabelStyle::Parca.label("http.route"), "http_route");
        assert_eq!(LabelStyle::Pyroscope.label("9é x"), "___x");
        assert_eq!(LabelStyle::Parca.names().trace_id, "otel_traceid");
        for style in LabelStyle::ALL {
            assert_eq!(style.as_str().parse(), Ok(style));
        }
        assert!("Otel".parse::<LabelStyle>().is_err());
    }

    #[test]
    fn labels_do_not_take_the_names_of_others() {
        assert_eq!(LabelStyle::Parca.label("cpu"), "exported_cpu");
        assert_eq!(LabelStyle::Otel.label("cpu"), "cpu");
        assert_eq!(LabelStyle::Parca.label("thread.id"), "exported_thread_id");
        assert_eq!(LabelStyle::Otel.label("trace_id"), "exported_trace_id");
        for style in LabelStyle::ALL {
            let name = style.names().thread_activity;
            assert_eq!(style.label(name), format!("exported_{name}"));
        }
        assert_eq!(LabelStyle::Otel.label(""), "exported_");
    }
}
