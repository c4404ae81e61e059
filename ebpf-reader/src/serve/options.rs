//! What to serve and how.

use std::time::Duration;

use super::http::{Listen, Token};
use crate::label_style::LabelStyle;
use crate::push;
use crate::record;

/// What to serve and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What is sampled and how; its duration and its output do not count.
    pub recording: record::Options,
    /// Where to listen.
    pub listen: Listen,
    /// What clients have to present; needed where others than this machine's users can connect.
    pub token: Option<Token>,
    /// How long windows are kept.
    pub keep: Duration,
    /// Bytes that windows may take up; the oldest go first.
    pub memory: usize,
    /// Length of a window.
    pub window: Duration,
    /// Names of labels in pprof profiles and in what is pushed.
    pub label_style: LabelStyle,
    /// Where each window is pushed to.
    pub push: Option<push::Config>,
    /// How long to wait at the end for what has not been pushed yet.
    pub push_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recording: record::Options::new(),
            listen: Listen::default(),
            token: None,
            keep: Duration::from_secs(15 * 60),
            memory: 64 << 20,
            window: Duration::from_secs(10),
            label_style: LabelStyle::default(),
            push: None,
            push_patience: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// 15 minutes in at most 64 MB, on port 7171 of this machine alone.
    pub fn new() -> Self {
        Self::default()
    }
}
