//! Rules of the thread context's record and its attributes.

use std::collections::BTreeMap;

use otel_profiling::abi::thread_context::{
    ATTR_HEADER_SIZE, MAX_ATTRS_SIZE, MAX_RECORD_SIZE, VALID, attributes,
};

use super::ledger::Ledger;
use super::thread::RawRecord;
use super::{Rule, Who, plural};

/// All rules of this file.
pub(super) const RULES: [Rule; 9] = [
    Rule::RecordReadable,
    Rule::RecordAlignment,
    Rule::RecordValid,
    Rule::RecordSize,
    Rule::RecordIds,
    Rule::RecordFlags,
    Rule::AttributesFit,
    Rule::AttributesUtf8,
    Rule::AttributesKeys,
];

/// What is remembered of all records together.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Records that were looked at, the same one as often as it was.
    looks: u64,
    largest: usize,
    repeated: u64,
    /// Key indices in use, with a thread that used it.
    used: BTreeMap<u8, Who>,
}

impl Records {
    /// One record that a thread publishes.
    pub(super) fn look(&mut self, ledger: &mut Ledger, who: &Who, record: &RawRecord) {
        self.looks += 1;
        if record.address.is_multiple_of(2) {
            ledger.pass(Rule::RecordAlignment);
        } else {
            ledger.fail(
                Rule::RecordAlignment,
                format!("{who}: a record at {:#x}", record.address),
                "align the record to 2 bytes: readers ignore one at an odd address",
            );
        }
        if record.header.is_none() {
            ledger.fail(
                Rule::RecordReadable,
                format!(
                    "{who}: the pointer is {:#x}, where no record can be read",
                    record.address
                ),
                "store null or the address of a whole record, and null before the record is freed",
            );
            return;
        }
        match record.valid() {
            VALID => ledger.pass_with(Rule::RecordValid, "1"),
            0 => {
                ledger.pass_with(Rule::RecordValid, "0: readers ignore the record");
                return;
            }
            other => {
                ledger.fail(
                    Rule::RecordValid,
                    format!("{who}: {other}"),
                    "write 1 when the record is complete; readers ignore it with any other value",
                );
                return;
            }
        }
        self.ids(ledger, who, record);
        let size = usize::from(record.attrs_size());
        if size > MAX_ATTRS_SIZE {
            ledger.pass(Rule::RecordReadable);
            ledger.fail(
                Rule::RecordSize,
                format!("{who}: {size} bytes of attributes"),
                format!(
                    "publish at most {MAX_ATTRS_SIZE} bytes of attributes: readers cut off the rest"
                ),
            );
            return;
        }
        self.largest = self.largest.max(size);
        ledger.pass_with(
            Rule::RecordSize,
            format!(
                "at most {} of {MAX_RECORD_SIZE} bytes",
                self.largest + MAX_RECORD_SIZE - MAX_ATTRS_SIZE
            ),
        );
        match &record.attrs {
            Some(attrs) => {
                ledger.pass(Rule::RecordReadable);
                self.attributes(ledger, who, attrs);
            }
            None => ledger.fail(
                Rule::RecordReadable,
                format!(
                    "{who}: the {size} bytes of attributes of the record at {:#x} cannot be read",
                    record.address
                ),
                "raise attrs-data-size only after the attributes are written, and free no record that is published",
            ),
        }
    }

    fn ids(&mut self, ledger: &mut Ledger, who: &Who, record: &RawRecord) {
        let has_trace = record.trace_id() != [0; 16];
        let has_span = record.span_id() != [0; 8];
        if has_trace == has_span {
            ledger.pass(Rule::RecordIds);
        } else {
            let (set, unset) = if has_trace {
                ("trace", "span")
            } else {
                ("span", "trace")
            };
            ledger.fail(
                Rule::RecordIds,
                format!("{who}: a {set} id without a {unset} id"),
                "set both ids or none",
            );
        }
        if has_trace || has_span || record.trace_flags() == 0 {
            ledger.pass(Rule::RecordFlags);
        } else {
            ledger.fail(
                Rule::RecordFlags,
                format!("{who}: flags {:#04x} without ids", record.trace_flags()),
                "clear the trace flags with the ids",
            );
        }
    }

    fn attributes(&mut self, ledger: &mut Ledger, who: &Who, attrs: &[u8]) {
        let mut whole = 0;
        let mut seen = [false; 256];
        for (key, value) in attributes(attrs) {
            whole += ATTR_HEADER_SIZE + value.len();
            self.used.entry(key).or_insert_with(|| who.clone());
            if let Some(seen) = seen.get_mut(usize::from(key)) {
                self.repeated += u64::from(std::mem::replace(seen, true));
            }
            if std::str::from_utf8(value).is_ok() {
                ledger.pass(Rule::AttributesUtf8);
            } else {
                ledger.fail(
                    Rule::AttributesUtf8,
                    format!("{who}: the value of key {key} is not UTF-8"),
                    "write UTF-8, and cut values between characters only",
                );
            }
        }
        if attrs.is_empty() {
            return;
        }
        if whole == attrs.len() {
            // An update that is appended repeats a key: the last entry counts.
            ledger.pass_with(
                Rule::AttributesFit,
                match self.repeated {
                    0 => String::new(),
                    _ => "keys are repeated: the last entry counts".to_owned(),
                },
            );
        } else {
            ledger.fail(
                Rule::AttributesFit,
                format!(
                    "{who}: {} after the last whole entry",
                    plural(attrs.len() as u64 - whole as u64, "byte")
                ),
                "set attrs-data-size to the sum of 2 + length over all entries",
            );
        }
    }

    /// After the last look: are all key indices known? `keys` is the key map as it was read afterwards; `None`
    /// if there is none.
    pub(super) fn finish(self, ledger: &mut Ledger, keys: Option<&[String]>, why: &str) {
        if self.looks == 0 {
            ledger.skip_all(&RULES, why);
            return;
        }
        ledger.note(Rule::RecordReadable, plural(self.looks, "record") + " read");
        ledger.skip_all(
            &[
                Rule::AttributesFit,
                Rule::AttributesUtf8,
                Rule::AttributesKeys,
            ],
            "no attributes were published",
        );
        ledger.skip_all(&RULES, "no record could be read");
        let Some(keys) = keys else {
            if !self.used.is_empty() {
                ledger.skip(Rule::AttributesKeys, "the attribute key map cannot be read");
            }
            return;
        };
        let used = self.used.len() as u64;
        for (key, who) in self.used {
            if keys.get(usize::from(key)).is_some() {
                ledger.pass_with(Rule::AttributesKeys, plural(used, "key") + " in use");
            } else {
                ledger.fail(
                    Rule::AttributesKeys,
                    format!("{who}: key {key}, and the map has {}", plural(keys.len() as u64, "name")),
                    "add the name to threadlocal.attribute_key_map and update the process context before the index is used",
                );
            }
        }
    }
}
