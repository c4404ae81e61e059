//! The attribute key map: names of attributes, each with the index by which records refer to it.
//!
//! One map per process, append-only: an index means the same name for as long as the process lives, so
//! readers may cache it. Looking a name up takes no lock. Names are never freed; there are at most 256.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use once_cell::race::OnceBox;

use crate::abi::thread_context::MAX_KEYS;
use crate::counters;

/// Name of the attribute with the span id of the trace's first span in this process, as 16 lower-case hex
/// digits. It is always the first of the map, where Datadog's readers expect it.
pub const LOCAL_ROOT_SPAN_ID: &str = "local_root_span_id";

/// A name in the attribute key map.
///
/// Make one for each attribute once, and keep it: making it searches the map, and the first one of a name
/// appends to the map and to the published process context.
///
/// ```
/// use otel_profiling::AttributeKey;
///
/// let key = AttributeKey::new("http.route")?;
/// assert_eq!(key.name(), "http.route");
/// assert_eq!(AttributeKey::new("http.route"), Ok(key));
/// # Ok::<(), otel_profiling::AttributeKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeKey(u8);

/// Why a name has no place in the attribute key map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeKeyError {
    /// The map is full.
    #[error("the attribute key map is full: a process can use at most 256 names of attributes")]
    Full,
    /// An empty name.
    #[error("the name of an attribute must not be empty")]
    Empty,
}

struct KeyMap {
    names: [OnceBox<Box<str>>; MAX_KEYS],
    len: AtomicUsize,
    append: Mutex<()>,
}

static MAP: KeyMap = KeyMap {
    names: [const { OnceBox::new() }; MAX_KEYS],
    len: AtomicUsize::new(0),
    append: Mutex::new(()),
};

impl KeyMap {
    fn find(&self, name: &str) -> Option<AttributeKey> {
        let len = self.len.load(Ordering::Acquire);
        let found = self
            .names
            .iter()
            .take(len)
            .position(|known| known.get().is_some_and(|known| **known == *name))?;
        u8::try_from(found).ok().map(AttributeKey)
    }

    /// The key of `name`, and whether it is new.
    fn find_or_append(&self, name: &str) -> Result<(AttributeKey, bool), AttributeKeyError> {
        if let Some(key) = self.find(name) {
            return Ok((key, false));
        }
        let _turn = self.append.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.find(name) {
            return Ok((key, false));
        }
        let index = self.len.load(Ordering::Relaxed);
        let (Some(slot), Ok(key)) = (self.names.get(index), u8::try_from(index)) else {
            return Err(AttributeKeyError::Full);
        };
        slot.get_or_init(|| Box::new(name.into()));
        self.len.store(index + 1, Ordering::Release);
        Ok((AttributeKey(key), true))
    }
}

impl AttributeKey {
    /// The key of `name`, which is appended to the map if it is not there yet.
    ///
    /// Appending updates the process context, if one is published; that takes some system calls.
    ///
    /// # Errors
    /// If the map is full, or the name empty. It is counted: see [`Counters`](crate::Counters).
    pub fn new(name: &str) -> Result<Self, AttributeKeyError> {
        if name.is_empty() {
            return Err(AttributeKeyError::Empty);
        }
        if let Some(key) = MAP.find(name) {
            return Ok(key);
        }
        let _first = Self::local_root_span_id();
        let found = MAP.find_or_append(name);
        match found {
            Ok((_, true)) => announce(),
            Ok((_, false)) => {}
            Err(_) => counters::KEYS_REFUSED.add(1),
        }
        found.map(|(key, _)| key)
    }

    /// The key of [`LOCAL_ROOT_SPAN_ID`].
    #[must_use]
    pub fn local_root_span_id() -> Self {
        // Every key is made after this one, so it is the first, and there was room.
        if let Ok((_, true)) = MAP.find_or_append(LOCAL_ROOT_SPAN_ID) {
            announce();
        }
        Self(0)
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        MAP.names
            .get(usize::from(self.0))
            .and_then(OnceBox::get)
            .map_or("", |name| name)
    }

    /// The index by which records refer to the name.
    #[must_use]
    pub fn index(self) -> u8 {
        self.0
    }

    /// The key with this index, if there is one.
    #[cfg_attr(not(feature = "otel"), allow(dead_code))]
    pub(crate) fn from_index(index: u8) -> Option<Self> {
        (usize::from(index) < MAP.len.load(Ordering::Acquire)).then_some(Self(index))
    }
}

impl fmt::Debug for AttributeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttributeKey({}, {:?})", self.0, self.name())
    }
}

/// All names, in the order of their indices.
#[cfg_attr(not(feature = "process-context"), allow(dead_code))]
pub(crate) fn names() -> Vec<&'static str> {
    let len = MAP.len.load(Ordering::Acquire);
    MAP.names
        .iter()
        .take(len)
        .filter_map(OnceBox::get)
        .map(|name| &**name)
        .collect()
}

/// Tells readers about a new name, if they were told anything before.
fn announce() {
    #[cfg(feature = "process-context")]
    if crate::process_context::is_published()
        && crate::process_context::update_with(|context| context).is_err()
    {
        // Readers ignore an index that they do not know.
        counters::KEYS_NOT_ANNOUNCED.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_refuses_names_and_keeps_what_it_has() {
        let map = KeyMap {
            names: [const { OnceBox::new() }; MAX_KEYS],
            len: AtomicUsize::new(0),
            append: Mutex::new(()),
        };
        for index in 0..MAX_KEYS {
            let (key, new) = map.find_or_append(&format!("key-{index}")).unwrap();
            assert!(new);
            assert_eq!(usize::from(key.index()), index);
        }
        assert_eq!(map.find_or_append("one-more"), Err(AttributeKeyError::Full));
        assert_eq!(
            map.find_or_append("key-255"),
            Ok((AttributeKey(255), false))
        );
    }

    #[test]
    fn threads_that_append_the_same_names_agree() {
        let keys = |prefix: usize| {
            (0..20)
                .map(|n| AttributeKey::new(&format!("same-{}", (n + prefix) % 20)).unwrap())
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4)
            .map(|n| std::thread::spawn(move || keys(n)))
            .collect();
        for thread in threads {
            for key in thread.join().unwrap() {
                assert_eq!(AttributeKey::new(key.name()), Ok(key));
                assert_eq!(AttributeKey::from_index(key.index()), Some(key));
            }
        }
        assert_eq!(names()[0], LOCAL_ROOT_SPAN_ID);
    }
}
