//! Which requests are published: prefixes of the path.
//!
//! | include prefixes | ignore prefixes | published |
//! |---|---|---|
//! | none given | none of them fits | yes |
//! | one of them fits | none of them fits | yes |
//! | given, and none fits | any | no |
//! | any | one of them fits | no |
//!
//! The same as otel-profiling-go's filter of gRPC methods. An ignored prefix wins, however short it is.

/// The prefixes of a layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathFilter {
    include: Vec<Box<str>>,
    ignore: Vec<Box<str>>,
}

impl PathFilter {
    pub(crate) fn include(&mut self, prefix: &str) {
        self.include.push(prefix.into());
    }

    pub(crate) fn ignore(&mut self, prefix: &str) {
        self.ignore.push(prefix.into());
    }

    /// Whether a request for `path` is published.
    pub(crate) fn admits(&self, path: &str) -> bool {
        let fits =
            |prefixes: &[Box<str>]| prefixes.iter().any(|prefix| path.starts_with(&**prefix));
        (self.include.is_empty() || fits(&self.include)) && !fits(&self.ignore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(include: &[&str], ignore: &[&str], path: &str, admitted: bool) {
        let mut filter = PathFilter::default();
        include.iter().for_each(|prefix| filter.include(prefix));
        ignore.iter().for_each(|prefix| filter.ignore(prefix));
        assert_eq!(filter.admits(path), admitted, "{filter:?} and {path}");
    }

    #[test]
    fn without_prefixes_everything_is_published() {
        check(&[], &[], "/test.Prefix/Method", true);
        check(&[], &[], "", true);
    }

    #[test]
    fn with_include_prefixes_one_has_to_fit() {
        check(&["/api"], &[], "/api/users", true);
        check(&["/api"], &[], "/apiary", true);
        check(&["/api"], &[], "/other", false);
        check(&["/api"], &[], "/ap", false);
        check(&["/other", "/api"], &[], "/api/users", true);
    }

    #[test]
    fn an_ignore_prefix_that_fits_excludes() {
        check(&[], &["/health"], "/healthz", false);
        check(&[], &["/health"], "/api", true);
        check(&[], &["/metrics", "/health"], "/health", false);
    }

    #[test]
    fn ignore_wins_over_include() {
        check(&["/api"], &["/api/internal"], "/api/internals", false);
        check(&["/api"], &["/api/internal"], "/api/users", true);
        // Also where the included prefix is the longer one.
        check(&["/api/users"], &["/api"], "/api/users", false);
        check(&["/api"], &["/health"], "/other", false);
    }

    #[test]
    fn an_empty_prefix_fits_every_path() {
        check(&[""], &[], "/any", true);
        check(&[], &[""], "/any", false);
    }
}
