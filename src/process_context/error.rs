//! Why a process context could not be published.

use std::io;

/// Why a process context could not be published; each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The encoded message is larger than readers accept.
    #[error(
        "the process context takes {size} bytes and readers refuse more than {limit}: \
         publish fewer or shorter attributes"
    )]
    TooLarge {
        /// Bytes of the message.
        size: usize,
        /// Most bytes that readers accept.
        limit: usize,
    },
    /// The attribute key map has more keys than a key index can tell apart.
    #[error(
        "the attribute key map has {count} keys and a key index counts to {limit}: use fewer keys"
    )]
    TooManyKeys {
        /// Keys in the map.
        count: usize,
        /// Most keys in a map.
        limit: usize,
    },
    /// An attribute was given under a key that describes the thread context.
    #[error(
        "the attribute {key:?} describes the thread context: \
         set it with `schema_version` or `attribute_keys` instead"
    )]
    ReservedAttribute {
        /// The key.
        key: String,
    },
    /// The kernel gave no memory for the mapping.
    #[error(
        "no memory mapping for the process context ({source}): raise the memory or mapping limit"
    )]
    Mapping {
        /// What the kernel said.
        source: io::Error,
    },
    /// The mapping could be given no name by which readers find it.
    #[error(
        "no reader could find the process context, since memfd_create failed ({memfd}) and so did naming \
         a mapping ({naming}): allow memfd_create in the sandbox of this process"
    )]
    Nameless {
        /// Why there is no memfd.
        memfd: io::Error,
        /// Why there is no name either.
        #[source]
        naming: io::Error,
    },
    /// The platform is not Linux.
    #[error("process contexts exist only on Linux: do not publish one here")]
    Unsupported,
}
