//! What records look like in this process: which layouts are published, and under which label names.
//!
//! Set at most once, before the first record is built; a record never looks different from another
//! one of the same process, so readers may cache what they learned.

use once_cell::race::OnceBox;

use crate::abi::custom_labels;

/// Name of the custom label that holds the trace id, unless it is configured otherwise: the label
/// that otel-profiling-go sets, so that one query spans Go and Rust services.
pub const DEFAULT_TRACE_LABEL: &str = "otel_traceid";

/// Name of the custom label that holds the span id, unless it is configured otherwise.
pub const DEFAULT_SPAN_LABEL: &str = "otel_spanid";

/// The choices; see [`Settings::default`] for what holds without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(crate) thread_context: bool,
    pub(crate) custom_labels: bool,
    pub(crate) trace_label: Option<Box<str>>,
    pub(crate) span_label: Option<Box<str>>,
}

impl Settings {
    const DEFAULT: fn() -> Self = || Self {
        thread_context: true,
        custom_labels: cfg!(feature = "custom-labels"),
        trace_label: Some(DEFAULT_TRACE_LABEL.into()),
        span_label: Some(DEFAULT_SPAN_LABEL.into()),
    };

    /// Whether to publish the thread context (OTEP 4947). Default: yes.
    #[must_use]
    pub fn thread_context(mut self, publish: bool) -> Self {
        self.thread_context = publish;
        self
    }

    /// Whether to publish custom labels v1. Default: yes, if the crate has the feature `custom-labels`;
    /// without the feature the symbol does not exist, and this does nothing.
    #[must_use]
    pub fn custom_labels(mut self, publish: bool) -> Self {
        self.custom_labels = publish && cfg!(feature = "custom-labels");
        self
    }

    /// Name of the custom label with the trace id as 32 lower-case hex digits, or `None` for no such
    /// label. Default: [`DEFAULT_TRACE_LABEL`].
    #[must_use]
    pub fn trace_label<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.trace_label = name.into().map(Into::into);
        self
    }

    /// Name of the custom label with the span id as 16 lower-case hex digits, or `None` for no such
    /// label. Default: [`DEFAULT_SPAN_LABEL`].
    #[must_use]
    pub fn span_label<'a>(mut self, name: impl Into<Option<&'a str>>) -> Self {
        self.span_label = name.into().map(Into::into);
        self
    }

    /// Why these settings cannot be used, if so.
    ///
    /// # Errors
    /// [`SettingsError`], whose text says which name is refused and why.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for name in [&self.trace_label, &self.span_label].into_iter().flatten() {
            let error = |reason| SettingsError {
                name: name.clone(),
                reason,
            };
            if name.is_empty() {
                return Err(error("it is empty"));
            }
            if name.len() > custom_labels::PARCA_MAX_KEY_SIZE {
                return Err(error("readers cut names after 25 bytes"));
            }
            if name.contains('\0') {
                return Err(error("readers stop at a NUL byte"));
            }
            if custom_labels::PARCA_RESERVED_NAMES.contains(&&**name) {
                return Err(error("it clashes with a column of Parca's"));
            }
        }
        if self.trace_label.is_some() && self.trace_label == self.span_label {
            return Err(SettingsError {
                name: self.trace_label.clone().unwrap_or_default(),
                reason: "the trace and the span label need different names",
            });
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT()
    }
}

/// A label name that readers would not show, or not show right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the label name {name:?} cannot be used: {reason}")]
#[non_exhaustive]
pub struct SettingsError {
    /// The name.
    pub name: Box<str>,
    /// Why it is refused.
    pub reason: &'static str,
}

static CURRENT: OnceBox<Settings> = OnceBox::new();

/// The settings of this process; from the first call on they are fixed.
pub(crate) fn current() -> &'static Settings {
    CURRENT.get_or_init(|| Box::new(Settings::default()))
}

/// Fixes the settings of this process; false if they had been fixed before, and differently.
#[cfg_attr(not(feature = "otel"), allow(dead_code))]
pub(crate) fn fix(settings: &Settings) -> bool {
    *CURRENT.get_or_init(|| Box::new(settings.clone())) == *settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_readers_would_not_show_are_refused() {
        assert_eq!(Settings::default().validate(), Ok(()));
        assert_eq!(Settings::default().span_label(None).validate(), Ok(()));
        for name in [
            "",
            "cpu",
            "thread_name",
            "a\0b",
            "a_name_of_twenty_six_bytes",
        ] {
            assert!(Settings::default().trace_label(name).validate().is_err());
            assert!(Settings::default().span_label(name).validate().is_err());
        }
        let same = Settings::default().trace_label("id").span_label("id");
        assert!(same.validate().is_err());
    }
}
