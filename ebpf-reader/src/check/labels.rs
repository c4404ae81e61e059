//! Rules of the custom labels' set.

use otel_profiling::abi::custom_labels::PARCA_RESERVED_NAMES;

use super::ledger::Ledger;
use super::thread::{MAX_LABELS, RawLabels, RawText};
use super::{Rule, Who, plural};

/// All rules of this file.
pub(super) const RULES: [Rule; 5] = [
    Rule::LabelsReadable,
    Rule::LabelsCapacity,
    Rule::LabelsValue,
    Rule::LabelsUtf8,
    Rule::LabelsNames,
];

/// What is remembered of all label sets together.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// Sets that were looked at, the same one as often as it was.
    looks: u64,
    most: u64,
}

impl Sets {
    /// One set that a thread publishes.
    pub(super) fn look(&mut self, ledger: &mut Ledger, who: &Who, set: &RawLabels) {
        self.looks += 1;
        let unreadable = |ledger: &mut Ledger, what: String| {
            ledger.fail(
                Rule::LabelsReadable,
                format!("{who}: {what}"),
                "store null or the address of a whole label set, and null before any part of it is freed",
            );
        };
        if !set.is_readable {
            unreadable(
                ledger,
                format!(
                    "the pointer is {:#x}, where no label set can be read",
                    set.address
                ),
            );
            return;
        }
        self.most = self.most.max(set.count);
        if set.count <= set.capacity {
            ledger.pass_with(
                Rule::LabelsCapacity,
                format!("at most {}", plural(self.most, "label")),
            );
        } else {
            ledger.fail(
                Rule::LabelsCapacity,
                format!("{who}: {} in storage for {}", plural(set.count, "label"), set.capacity),
                "set the capacity to the labels that fit the storage, and the count to at most that",
            );
        }
        let mut whole = true;
        for (position, label) in set.labels.iter().enumerate() {
            let Some(label) = label else {
                whole = false;
                unreadable(
                    ledger,
                    format!(
                        "label {position} of the storage at {:#x} cannot be read",
                        set.storage
                    ),
                );
                break;
            };
            if label.value.address == 0 {
                ledger.fail(
                    Rule::LabelsValue,
                    format!("{who}: the value of label {position} is a null pointer"),
                    "point to something also for an empty value; to leave a label out set its key's address to null",
                );
            } else {
                ledger.pass(Rule::LabelsValue);
            }
            // Readers skip it: what else is in it does not matter.
            if label.key.address == 0 {
                continue;
            }
            for (what, text) in [("key", &label.key), ("value", &label.value)] {
                match &text.bytes {
                    // Told above.
                    None if text.address == 0 => {}
                    None => {
                        whole = false;
                        unreadable(
                            ledger,
                            format!(
                                "the {what} of label {position}, {} at {:#x}, cannot be read",
                                plural(text.size, "byte"),
                                text.address
                            ),
                        );
                    }
                    Some(_) if is_utf8(text) => ledger.pass(Rule::LabelsUtf8),
                    Some(_) => ledger.fail(
                        Rule::LabelsUtf8,
                        format!("{who}: the {what} of label {position} is not UTF-8"),
                        "write UTF-8, and cut between characters only: Parca Agent drops other labels",
                    ),
                }
            }
            self.name(ledger, who, &label.key);
        }
        if whole {
            ledger.pass(Rule::LabelsReadable);
        }
    }

    fn name(&self, ledger: &mut Ledger, who: &Who, key: &RawText) {
        let Some(bytes) = &key.bytes else {
            return;
        };
        match PARCA_RESERVED_NAMES
            .iter()
            .find(|name| name.as_bytes() == bytes)
        {
            Some(name) => ledger.fail(
                Rule::LabelsNames,
                format!("{who}: a label named {name}"),
                "choose another name: the label would take the place of Parca's own",
            ),
            None => ledger.pass(Rule::LabelsNames),
        }
    }

    /// After the last look.
    pub(super) fn finish(self, ledger: &mut Ledger, why: &str) {
        if self.looks == 0 {
            ledger.skip_all(&RULES, why);
            return;
        }
        ledger.note(
            Rule::LabelsReadable,
            plural(self.looks, "label set") + " read",
        );
        if self.most > MAX_LABELS {
            ledger.note(
                Rule::LabelsUtf8,
                format!("of the first {MAX_LABELS} of {} labels", self.most),
            );
        }
        ledger.skip_all(&RULES, "no labels were published");
    }
}

/// Whether it is UTF-8, or may be where it goes on beyond what was read.
fn is_utf8(text: &RawText) -> bool {
    let Some(bytes) = &text.bytes else {
        return false;
    };
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && (bytes.len() as u64) < text.size,
    }
}
