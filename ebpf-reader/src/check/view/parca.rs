//! Parca Agent: custom labels of the main executable, or of a shared object with one of two names.

use std::collections::HashSet;

use otel_profiling::abi::custom_labels::{
    PARCA_MAX_KEY_SIZE, PARCA_MAX_LABELS, PARCA_MAX_VALUE_SIZE, PARCA_RESERVED_NAMES, VERSION,
    VERSION_SYMBOL,
};

use super::{ThreadView, View};
use crate::check::module::Module;
use crate::check::observe::{Seen, ThreadLook};
use crate::check::thread::{RawLabels, RawText};
use crate::check::{plural, signed};
use crate::elf::{Access, Machine, Pointer};
use crate::sample::{Locations, Place};
use crate::text::printable;

/// What it sees of a process.
pub(super) fn view(view: &mut View, seen: &Seen) {
    let Some(offset) = find(view, &seen.modules, Some(&seen.locations)) else {
        return;
    };
    view.follows = true;
    let threads = seen.threads.values().filter_map(|thread| {
        let labels = labels_at(thread, offset)?;
        Some(read(thread, labels))
    });
    view.threads.extend(threads);
}

/// The labels that a thread publishes at this offset from its thread pointer.
fn labels_at(thread: &ThreadLook, offset: i64) -> Option<&RawLabels> {
    let slot = thread
        .label_slots
        .iter()
        .find(|slot| slot.place == Place::Static { offset })?;
    thread
        .labels
        .as_ref()
        .filter(|labels| slot.value == Some(labels.address))
}

/// The offset from the thread pointer that it would use. Of a file, nothing is known of the places in a process.
pub(super) fn find(
    view: &mut View,
    modules: &[Module],
    locations: Option<&Locations>,
) -> Option<i64> {
    let pointer = Pointer::CustomLabels;
    let mut defines = modules
        .iter()
        .filter(|module| module.elf.tls_offset(pointer).is_some())
        .peekable();
    if defines.peek().is_none() {
        view.note("finds no custom_labels_current_set in .dynsym: crate feature `custom-labels`, and export it");
    }
    for module in defines {
        let name = &module.name;
        if !has_version(module) {
            view.note(format!(
                "leaves {name} out: {VERSION_SYMBOL} is not an exported {VERSION}"
            ));
            continue;
        }
        if module.is_executable {
            let Some(offset) = offset_in_executable(module) else {
                view.note(format!(
                    "leaves {name} out: its dynamic symbols have no hash table"
                ));
                continue;
            };
            let right = module.elf.main_executable_place(pointer);
            if right == Some(Place::Static { offset }) {
                view.note(format!(
                    "finds the labels of {name} at thread pointer {}",
                    signed(offset)
                ));
                return Some(offset);
            }
            view.note(format!(
                "computes thread pointer {} for {name}, which is wrong: it does not know of a PT_TLS whose address is not \
                 aligned",
                signed(offset)
            ));
            continue;
        }
        if !is_known_name(&module.file_name) {
            view.note(format!(
                "leaves {name} out: it looks into shared objects named libcustomlabels*.so or customlabels.node only"
            ));
            continue;
        }
        let has_descriptor = module.references.iter().any(|reference| {
            reference.pointer == pointer && reference.access == Access::Descriptor
        });
        if !has_descriptor {
            view.note(format!(
                "leaves {name} out: it has no TLSDESC relocation for the symbol"
            ));
            continue;
        }
        let Some(locations) = locations else {
            view.note(format!(
                "finds the labels of {name} if they get static thread-local storage"
            ));
            return Some(0);
        };
        let place = locations
            .custom_labels
            .iter()
            .find_map(|place| match place {
                Place::Static { offset } => Some(offset),
                Place::Dynamic { .. } => None,
            });
        let Some(offset) = place else {
            view.note(format!(
                "leaves {name} out: its block is not in static thread-local storage"
            ));
            continue;
        };
        view.note(format!(
            "finds the labels of {name} at thread pointer {}",
            signed(offset)
        ));
        return Some(offset);
    }
    None
}

fn has_version(module: &Module) -> bool {
    module
        .elf
        .custom_labels_version
        .exported
        .is_some_and(|symbol| module.constant(&symbol) == Some(VERSION))
}

/// Its own arithmetic, without regard to the address of the segment.
fn offset_in_executable(module: &Module) -> Option<i64> {
    let symbol = module.elf.named(Pointer::CustomLabels).exported?;
    let tls = module.elf.tls?;
    let offset = match module.elf.machine {
        Machine::X86_64 => symbol
            .value
            .wrapping_sub(tls.memsz.checked_next_multiple_of(tls.align)?),
        Machine::Aarch64 => symbol
            .value
            .wrapping_add(16_u64.checked_next_multiple_of(tls.align)?),
    };
    Some(offset.cast_signed())
}

fn is_known_name(name: &str) -> bool {
    name == "customlabels.node" || (name.starts_with("libcustomlabels") && name.ends_with(".so"))
}

/// What it reads of a label set.
fn read(thread: &ThreadLook, labels: &RawLabels) -> ThreadView {
    let mut view = ThreadView::of(thread);
    if !labels.is_readable {
        view.miss("the label set cannot be read");
        return view;
    }
    let beyond = labels.count.saturating_sub(PARCA_MAX_LABELS as u64);
    if beyond > 0 {
        view.miss(format!(
            "{} after the first {PARCA_MAX_LABELS}",
            plural(beyond, "label")
        ));
    }
    let mut seen = HashSet::new();
    for (position, label) in labels.labels.iter().take(PARCA_MAX_LABELS).enumerate() {
        let Some(label) = label else {
            view.miss(format!("label {position} cannot be read"));
            break;
        };
        if label.key.address == 0 {
            continue;
        }
        let (Some(key), Some(value)) = (&label.key.bytes, &label.value.bytes) else {
            view.miss(format!("label {position} cannot be read"));
            continue;
        };
        let (key, key_cut) = cut(key, &label.key, PARCA_MAX_KEY_SIZE);
        let (value, value_cut) = cut(value, &label.value, PARCA_MAX_VALUE_SIZE);
        let Ok(key) = std::str::from_utf8(key) else {
            view.miss(format!(
                "label {position}: the key is not UTF-8{}",
                note(key_cut, " any more")
            ));
            continue;
        };
        let shown = printable(key).into_owned();
        if !seen.insert(key) {
            view.miss(format!("label {position}: {shown} is there already"));
            continue;
        }
        if PARCA_RESERVED_NAMES.contains(&key) {
            view.miss(format!("{shown} clashes with a column of its own"));
        }
        if let Some(cut) = key_cut {
            view.miss(format!("{shown}: the key is cut {cut}"));
        }
        if let Some(cut) = value_cut {
            view.miss(format!("{shown}: the value is cut {cut}"));
        }
        view.see(key, String::from_utf8_lossy(value));
    }
    view
}

/// What is left of a string, and why something is missing.
fn cut<'a>(bytes: &'a [u8], text: &RawText, max: usize) -> (&'a [u8], Option<String>) {
    let kept = bytes.get(..max).unwrap_or(bytes);
    match kept.iter().position(|&byte| byte == 0) {
        Some(zero) => (
            kept.get(..zero).unwrap_or(kept),
            Some("at a zero byte".to_owned()),
        ),
        None if text.size > max as u64 => {
            (kept, Some(format!("from {} to {max} bytes", text.size)))
        }
        None => (kept, None),
    }
}

fn note(cut: Option<String>, text: &str) -> &str {
    if cut.is_some() { text } else { "" }
}
