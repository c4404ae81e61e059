//! Which service a process is, by the names that OpenTelemetry's semantic conventions give them.

use std::fmt;

use super::ProcessContext;
use crate::text::printable;

/// Name, version and instance of a service. Shown as `name version (instance)`, without control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service<'a> {
    /// `service.name`, which is not empty.
    pub name: &'a str,
    /// `service.version`.
    pub version: Option<&'a str>,
    /// `service.instance.id`.
    pub instance: Option<&'a str>,
}

impl<'a> Service<'a> {
    pub(super) fn of(context: &'a ProcessContext) -> Option<Self> {
        let attribute = |key| context.resource(key).filter(|value| !value.is_empty());
        Some(Self {
            name: attribute("service.name")?,
            version: attribute("service.version"),
            instance: attribute("service.instance.id"),
        })
    }
}

impl fmt::Display for Service<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.name))?;
        if let Some(version) = self.version {
            write!(f, " {}", printable(version))?;
        }
        if let Some(instance) = self.instance {
            write!(f, " ({})", printable(instance))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(resource: &[(&str, &str)]) -> ProcessContext {
        ProcessContext {
            resource: resource
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..ProcessContext::default()
        }
    }

    #[test]
    fn a_service_is_shown_with_what_is_known_of_it() {
        let all = context(&[
            ("service.instance.id", "a-1"),
            ("service.name", "check\nout"),
            ("service.version", "1.2"),
        ]);
        let service = all.service().unwrap();
        assert_eq!(service.to_string(), "check\\nout 1.2 (a-1)");
        assert_eq!(
            (service.name, service.version, service.instance),
            ("check\nout", Some("1.2"), Some("a-1"))
        );
        let name = context(&[("service.name", "x"), ("service.version", "")]);
        assert_eq!(name.service().unwrap().to_string(), "x");
        assert_eq!(context(&[("service.version", "1")]).service(), None);
        assert_eq!(context(&[("service.name", "")]).service(), None);
    }
}
