//! What has to hold for any bytes that another process may show: each parser ends, does not panic, and keeps to its
//! bounds. Run by the fuzz targets, and by `ebpf-reader/tests/corpora.rs` on the committed corpora.

use ebpf_reader::elf::{BuildId, Elf, Pointer};
use ebpf_reader::image::Image;
use ebpf_reader::process::Maps;
use ebpf_reader::process_context::ProcessContext;
use ebpf_reader::text::printable;

/// Where the memory of the fuzzed process begins.
const BASE: u64 = 0x1_0000;

/// A program's file: its thread-local symbols, its build id.
pub(crate) fn elf(bytes: &[u8]) {
    for id in [
        BuildId::read(bytes).ok().flatten(),
        BuildId::in_notes(bytes),
    ]
    .into_iter()
    .flatten()
    {
        assert!((1..=64).contains(&id.as_bytes().len()));
        assert_eq!(BuildId::from_hex(&id.to_string()), Some(id));
    }
    for elf in [Elf::read(bytes), Elf::read_with_symtab(bytes)] {
        let Ok(elf) = elf else {
            continue;
        };
        for pointer in Pointer::ALL {
            let offset = elf.tls_offset(pointer);
            assert!(offset.is_none_or(|offset| elf.tls.is_some_and(|tls| offset < tls.memsz)));
            let _ = elf.main_executable_place(pointer);
        }
        if let Ok(references) = elf.references(bytes) {
            assert!(references.len() <= bytes.len());
        }
    }
}

/// A thread context record, and its attributes.
pub(crate) fn record(bytes: &[u8]) {
    let found = Image::new(BASE, bytes).published(BASE, 0);
    assert!(found.custom_labels.is_empty());
    if let Some(context) = found.thread_context {
        assert!(context.attrs_data.len() <= 612.max(bytes.len()));
        let mut size = 0;
        for (_, value) in context.attributes() {
            size += 2 + value.len();
            shown(&String::from_utf8_lossy(value));
        }
        assert!(size <= context.attrs_data.len());
    }
}

/// A set of custom labels, with everything that it points to.
pub(crate) fn label_set(bytes: &[u8]) {
    let found = Image::new(BASE, bytes).published(0, BASE);
    assert!(found.thread_context.is_none());
    assert!(found.custom_labels.iter().count() <= 16);
    for label in found.custom_labels.iter() {
        assert!(label.key.len() <= 64 && label.value.len() <= 256);
        shown(&String::from_utf8_lossy(label.key));
        shown(&String::from_utf8_lossy(label.value));
    }
}

/// The payload of a process context.
pub(crate) fn process_context(bytes: &[u8]) {
    let Some(context) = ProcessContext::decode(bytes) else {
        return;
    };
    let attributes = [&context.resource, &context.attributes];
    for attributes in attributes {
        assert!(attributes.len() <= 256);
    }
    assert!(context.attribute_keys.len() <= 256);
    let size: usize = attributes
        .into_iter()
        .flatten()
        .map(|(key, value)| key.len() + value.len())
        .chain(context.attribute_keys.iter().map(String::len))
        .sum();
    // Strings are as long as they were; other values are cut at 4,096 bytes.
    assert!(size <= 64 * 1024 + 768 * 4096);
    if let Some(service) = context.service() {
        let text = service.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// The mappings of a process.
pub(crate) fn maps(bytes: &[u8]) {
    let maps = Maps::parse(bytes);
    for mapping in maps.iter() {
        assert!(mapping.start < mapping.end);
        assert!(mapping.path().len() <= mapping.name.len());
        shown(&mapping.name);
    }
}

fn shown(text: &str) {
    let shown = printable(text);
    assert!(!shown.contains(char::is_control), "{shown:?}");
}
