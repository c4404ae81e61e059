//! The service and method of a call, and a bound on how many of them are told to profilers.
//!
//! The path of a call is the client's choice: a server answers calls of methods that it does not have, too, if only to
//! refuse them. Each distinct value is a series in a profiler's storage, so there is an end to new ones.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

/// Methods that are told apart, for each layer.
pub(crate) const MAX_METHODS: usize = 1000;
/// What all further ones are called: the semantic conventions' word.
pub(crate) const OTHER: &str = "_OTHER";
/// Longer paths are not told; readers would see the start of them only.
const MAX_PATH: usize = 256;

/// The methods that were called so far, up to [`MAX_METHODS`].
#[derive(Debug, Default)]
pub(crate) struct Methods(RwLock<HashSet<Box<str>>>);

impl Methods {
    /// Service and method of the call with this path; `None` if it is none of gRPC's.
    pub(crate) fn of<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let found = split(path)?;
        Some(if self.tells(path) {
            found
        } else {
            (OTHER, OTHER)
        })
    }

    fn tells(&self, path: &str) -> bool {
        {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if known.contains(path) {
                return true;
            }
            if known.len() >= MAX_METHODS {
                return false;
            }
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_METHODS {
            known.insert(path.into());
        }
        known.contains(path)
    }
}

/// Splits `/package.Service/Method`.
fn split(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let named = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        !name.is_empty() && name.bytes().all(allowed)
    };
    (path.len() <= MAX_PATH && named(service) && named(method)).then_some((service, method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_service_and_method() {
        let methods = Methods::default();
        let of = |path| methods.of(path);
        assert_eq!(of("/a.b.C/D"), Some(("a.b.C", "D")));
        assert_eq!(of("/C/d_1"), Some(("C", "d_1")));
        for path in [
            "",
            "/",
            "//",
            "/a",
            "/a/",
            "//b",
            "a/b",
            "/a/b/c",
            "/a/b%20c",
            "/a/ä",
            "/users/7/x",
            "*",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        let long = format!("/{}/B", "a".repeat(MAX_PATH));
        assert_eq!(of(&long), None);
    }

    #[test]
    fn there_is_an_end_to_new_methods_but_known_ones_stay() {
        let methods = Methods::default();
        for number in 0..MAX_METHODS {
            let path = format!("/made.Up/Method{number}");
            assert_eq!(methods.of(&path), split(&path));
        }
        assert_eq!(methods.of("/made.Up/OneMore"), Some((OTHER, OTHER)));
        assert_eq!(methods.of("/made.Up/Method7"), Some(("made.Up", "Method7")));
        assert_eq!(methods.of("no path"), None);
    }
}
