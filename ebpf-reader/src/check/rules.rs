//! The rules: their names, where they come from, and what they demand.

use std::fmt;

/// A specification, or a reader, that demands something.
const OTEP_4947: &str = "OTEP 4947";
const OTEP_4719: &str = "OTEP 4719";
const LABELS: &str = "custom-labels v1";

macro_rules! rules {
    ($($variant:ident $name:literal, $source:expr, $section:literal, $demand:literal;)*) => {
        /// One rule of the published layouts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $demand] $variant,)*
        }

        impl Rule {
            /// All rules, in the order in which they are reported.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, which stays the same.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The specification that demands it.
            pub const fn specification(self) -> &'static str {
                match self { $(Self::$variant => $source,)* }
            }

            /// The section of the specification.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)* }
            }

            /// What it demands, in one sentence.
            pub const fn demand(self) -> &'static str {
                match self { $(Self::$variant => $demand,)* }
            }
        }
    };
}

rules! {
    ContextSymbol "context.symbol", OTEP_4947, "Thread-Local Variable Resolution",
        "The thread-local symbol otel_thread_ctx_v1 is in .dynsym.";
    ContextType "context.type", OTEP_4947, "Thread-Local Variable Resolution",
        "otel_thread_ctx_v1 has the type STT_TLS.";
    ContextBinding "context.binding", OTEP_4947, "Thread-Local Variable Resolution",
        "otel_thread_ctx_v1 is bound globally or weakly.";
    ContextVisibility "context.visibility", OTEP_4947, "Thread-Local Variable Resolution",
        "otel_thread_ctx_v1 has default visibility.";
    ContextSize "context.size", OTEP_4947, "Thread-Local Variable",
        "otel_thread_ctx_v1 is one pointer, 8 bytes.";
    ContextHash "context.hash", OTEP_4947, "Thread-Local Variable Resolution",
        "The file's hash table leads to otel_thread_ctx_v1.";
    ContextAccess "context.access", OTEP_4947, "Thread-Local Variable Resolution",
        "otel_thread_ctx_v1 is accessed by TLSDESC, general dynamic, initial exec or local exec.";
    ContextAddress "context.address", OTEP_4947, "Reading Protocol",
        "The address of otel_thread_ctx_v1 that a reader computes is the one that the process itself has.";

    RecordReadable "record.readable", OTEP_4947, "Thread-Local Variable",
        "The pointer is null or leads to a record in readable memory.";
    RecordAlignment "record.alignment", OTEP_4947, "Thread-Local Context Record",
        "A record starts at an even address.";
    RecordValid "record.valid", OTEP_4947, "Thread-Local Context Record",
        "The byte `valid` is 1, or 0 while the record is not to be read.";
    RecordSize "record.size", OTEP_4947, "Thread-Local Context Record",
        "A record takes at most 640 bytes, 612 of them for attributes.";
    RecordIds "record.ids", OTEP_4947, "Thread-Local Context Record",
        "If one of trace id and span id is set, both are.";
    RecordFlags "record.flags", OTEP_4947, "Thread-Local Context Record",
        "The trace flags are zero if the ids are.";
    AttributesFit "attributes.fit", OTEP_4947, "Thread-Local Context Record",
        "The attributes fill attrs-data-size exactly.";
    AttributesUtf8 "attributes.utf8", OTEP_4947, "Thread-Local Context Record",
        "Values of attributes are UTF-8.";
    AttributesKeys "attributes.keys", OTEP_4947, "Thread-Local Context Record",
        "Each key index has a name in the attribute key map.";

    LabelsSymbol "labels.symbol", LABELS, "Symbols",
        "The thread-local symbol custom_labels_current_set is in .dynsym.";
    LabelsType "labels.type", LABELS, "Symbols",
        "custom_labels_current_set has the type STT_TLS.";
    LabelsBinding "labels.binding", LABELS, "Symbols",
        "custom_labels_current_set is bound globally or weakly.";
    LabelsVisibility "labels.visibility", LABELS, "Symbols",
        "custom_labels_current_set has default visibility.";
    LabelsSize "labels.size", LABELS, "Symbols",
        "custom_labels_current_set is one pointer, 8 bytes.";
    LabelsHash "labels.hash", LABELS, "Symbols",
        "The file's hash table leads to custom_labels_current_set.";
    LabelsAccess "labels.access", LABELS, "Symbols",
        "custom_labels_current_set is accessed by TLSDESC, general dynamic, initial exec or local exec.";
    LabelsAddress "labels.address", LABELS, "Symbols",
        "The address of custom_labels_current_set that a reader computes is the one that the process itself has.";
    LabelsVersion "labels.version", LABELS, "ABI version",
        "custom_labels_abi_version is an object of 4 bytes with the value 1.";
    LabelsReadable "labels.readable", LABELS, "Label set",
        "The pointer is null or leads to a label set whose labels and strings are in readable memory.";
    LabelsCapacity "labels.capacity", LABELS, "Label set",
        "A label set has at most as many labels as fit its storage.";
    LabelsValue "labels.value", LABELS, "Labels",
        "A label's value has an address, also where its key has none.";
    LabelsUtf8 "labels.utf8", LABELS, "Labels",
        "Keys and values are UTF-8.";
    LabelsNames "labels.names", "Parca Agent", "columns of its own",
        "No label is named cpu, thread_id, thread_name or node.";

    ProcessMapping "process.mapping", OTEP_4719, "Publication",
        "The process has one mapping named OTEL_CTX.";
    ProcessSignature "process.signature", OTEP_4719, "Header",
        "The mapping begins with OTEL_CTX.";
    ProcessVersion "process.version", OTEP_4719, "Header",
        "The header has version 2.";
    ProcessTime "process.time", OTEP_4719, "Header",
        "The timestamp is a CLOCK_BOOTTIME of this process's life.";
    ProcessSize "process.size", OTEP_4719, "Header",
        "The payload is at most 64 KiB.";
    ProcessPayload "process.payload", OTEP_4719, "Header",
        "The payload's address is readable.";
    ProcessMessage "process.message", OTEP_4719, "Payload",
        "The payload is a protobuf message ProcessContext.";
    ProcessSchema "process.schema", OTEP_4947, "Thread-Local Reference Data",
        "threadlocal.schema_version is known: tlsdesc_v1_dev.";
    ProcessKeys "process.keys", OTEP_4947, "Thread-Local Reference Data",
        "threadlocal.attribute_key_map is an array of at most 256 strings.";
    ProcessGrowth "process.growth", OTEP_4947, "Thread-Local Reference Data",
        "The attribute key map never changes or loses an entry.";
    ProcessUpdate "process.update", OTEP_4719, "Updating",
        "Another payload comes with another timestamp.";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_short_enough_for_a_column() {
        for (position, rule) in Rule::ALL.iter().enumerate() {
            assert!(rule.name().len() <= 18, "{rule}");
            assert!(rule.demand().ends_with('.') && !rule.section().is_empty());
            assert!(
                Rule::ALL
                    .iter()
                    .skip(position + 1)
                    .all(|other| other.name() != rule.name())
            );
        }
    }
}
