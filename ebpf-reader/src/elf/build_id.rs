//! The build id: a number in a file's notes that tells one build of a program from all others.

use std::fmt;
use std::sync::Arc;

use object::elf;

use super::ElfError;
use super::bytes::Bytes;
use super::headers::Headers;

/// Longest build id that is taken, in bytes. Linkers write 8, 16, 20 or 32; a longer one is none, as a part of it could
/// be that of another file.
const MAX_SIZE: usize = 64;
/// Bytes of a file's notes that are looked through, in all.
const MAX_NOTES: u64 = 64 << 10;
/// Sizes of name and contents, and the type.
const HEADER: usize = 12;
/// Whose note it is, with the NUL byte that is part of the name.
const OWNER: &[u8] = b"GNU\0";

/// The build id of a file, 1 to 64 bytes. Shown as hexadecimal digits in lower case; a clone shares the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Arc<[u8]>);

impl BuildId {
    /// Reads it from the notes that an ELF file has loaded (PT_NOTE); `None` if there is none among the first
    /// 64 KiB of them.
    ///
    /// # Errors
    /// If the file's headers or notes cannot be read, or contradict themselves.
    pub fn read<B: Bytes + ?Sized>(bytes: &B) -> Result<Option<Self>, ElfError> {
        let mut left = MAX_NOTES;
        for (offset, size) in Headers::read(bytes)?.notes {
            let size = size.min(left);
            left -= size;
            let mut notes = vec![0; usize::try_from(size).unwrap_or(0)];
            bytes.read_at(offset, &mut notes)?;
            let found = Self::in_notes(&notes);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Finds it among notes that follow each other.
    pub fn in_notes(notes: &[u8]) -> Option<Self> {
        // By the segment's alignment; linkers have put notes of both kinds into one segment, so that is no help.
        [4, 8].into_iter().find_map(|align| find(notes, align))
    }

    /// The build id with these hexadecimal digits, in lower or upper case; `None` if they are something else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        if pairs.len() > MAX_SIZE {
            return None;
        }
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
            .collect();
        Self::new(&bytes?)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_SIZE)
            .contains(&bytes.len())
            .then(|| Self(bytes.into()))
    }
}

/// Finds the note, if the contents of notes and the notes themselves begin at multiples of `align`.
fn find(mut notes: &[u8], align: usize) -> Option<BuildId> {
    while let Some((header, _)) = notes.split_first_chunk::<HEADER>() {
        let (words, _) = header.as_chunks::<4>();
        let &[name_size, size, kind] = words else {
            return None;
        };
        let length = |word| usize::try_from(u32::from_le_bytes(word)).ok();
        let name_end = HEADER.checked_add(length(name_size)?)?;
        let start = name_end.checked_next_multiple_of(align)?;
        let end = start.checked_add(length(size)?)?;
        let name = notes.get(HEADER..name_end)?;
        if u32::from_le_bytes(kind) == elf::NT_GNU_BUILD_ID && name == OWNER {
            return BuildId::new(notes.get(start..end)?);
        }
        // Behind the header in any case, so that this ends.
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
    None
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// A note whose contents begin at a multiple of `align`, and which ends at one.
    fn note(align: usize, name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let mut note = Vec::new();
        note.extend(word(name.len()));
        note.extend(word(contents.len()));
        note.extend(kind.to_le_bytes());
        note.extend(name);
        note.resize(note.len().next_multiple_of(align), 0);
        note.extend(contents);
        note.resize(note.len().next_multiple_of(align), 0);
        note
    }

    fn found(notes: &[u8]) -> Option<String> {
        BuildId::in_notes(notes).map(|id| id.to_string())
    }

    /// A file with these pieces of notes, one PT_NOTE for each, behind each other.
    fn file(pieces: &[&[u8]]) -> Vec<u8> {
        let segments = u16::try_from(pieces.len()).unwrap();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend(elf::ET_DYN.to_le_bytes());
        file.extend(elf::EM_X86_64.to_le_bytes());
        file.extend([1, 0, 0, 0]);
        // Entry, where the segments are told, where the sections.
        for offset in [0_u64, 64, 0] {
            file.extend(offset.to_le_bytes());
        }
        // Flags; sizes and numbers of headers.
        file.extend([0; 4]);
        for number in [64, 56, segments, 64, 0, 0] {
            file.extend(number.to_le_bytes());
        }
        let mut offset = 64 + 56 * pieces.len() as u64;
        for piece in pieces {
            file.extend(elf::PT_NOTE.to_le_bytes());
            file.extend([4, 0, 0, 0]);
            let size = piece.len() as u64;
            for number in [offset, offset, offset, size, size, 4] {
                file.extend(number.to_le_bytes());
            }
            offset += size;
        }
        file.extend(pieces.concat());
        file
    }

    #[test]
    fn it_is_found_among_other_notes() {
        let id = [0xab; 20];
        let expected = "ab".repeat(20);
        for align in [4, 8] {
            let notes = [
                note(align, b"GNU\0", 5, &[7; 16]),
                note(align, b"Xen\0", 3, b"not it"),
                note(align, b"", 3, b""),
                note(align, b"GNU", 3, &[1; 20]),
                note(align, b"GNU\0", 3, &id),
                note(align, b"GNU\0", 3, &[2; 20]),
            ];
            assert_eq!(found(&notes.concat()), Some(expected.clone()), "{align}");
            assert_eq!(found(&notes[..4].concat()), None, "{align}");
        }
        // The last note may end without the bytes that fill it up.
        let mut last = note(4, b"GNU\0", 3, &id[..5]);
        last.truncate(21);
        assert_eq!(found(&last), Some("ab".repeat(5)));
    }

    #[test]
    fn sizes_that_lie_lead_nowhere() {
        let good = note(4, b"GNU\0", 3, &[0xab; 20]);
        for at in [0, 4] {
            for size in [0, 21, 64, 1 << 20, u32::MAX - 12, u32::MAX - 3, u32::MAX] {
                let mut bad = good.clone();
                bad[at..at + 4].copy_from_slice(&size.to_le_bytes());
                assert_eq!(found(&bad), None, "{at} {size}");
            }
        }
        for end in 0..good.len() {
            assert_eq!(found(&good[..end]), None, "{end}");
        }
        assert_eq!(found(&note(4, b"GNU\0", 3, &[])), None);
        assert!(found(&note(4, b"GNU\0", 3, &[1; 64])).is_some());
        assert_eq!(found(&note(4, b"GNU\0", 3, &[1; 65])), None);
    }

    #[test]
    fn every_segment_of_notes_is_looked_into_up_to_a_bound() {
        let (other, id) = (
            note(8, b"GNU\0", 5, &[0; 16]),
            note(4, b"GNU\0", 3, &[3; 8]),
        );
        let read = |file: &[u8]| BuildId::read(file).unwrap().map(|id| id.to_string());
        let expected = Some("03".repeat(8));
        assert_eq!(read(&file(&[&other, &id])), expected);
        assert_eq!(read(&file(&[&other])), None);
        assert_eq!(read(&file(&[])), None);
        // Other notes that fill what is looked through, and too many of them.
        let filling = |size: usize| note(4, b"x\0\0\0", 1, &vec![0; size - 16]);
        let fits = filling((64 << 10) - id.len());
        assert_eq!(read(&file(&[&fits, &id])), expected);
        assert_eq!(read(&file(&[&filling(64 << 10), &id])), None);
        assert_eq!(read(&file(&[&filling(1 << 20), &id])), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let good = file(&[&note(4, b"GNU\0", 3, &[3; 8])]);
        for end in 0..good.len() {
            assert!(BuildId::read(&good[..end]).is_err(), "{end}");
        }
        // Offset and size of the notes.
        for at in [64 + 8, 64 + 32] {
            let mut bad = good.clone();
            bad[at..at + 8].fill(0xff);
            assert!(BuildId::read(&bad[..]).is_err(), "{at}");
        }
    }

    #[test]
    fn digits_and_back() {
        let id = BuildId::from_hex("00ff10AB").unwrap();
        assert_eq!(id.as_bytes(), [0, 0xff, 0x10, 0xab]);
        assert_eq!(id.to_string(), "00ff10ab");
        assert_eq!(format!("{id:?}"), "00ff10ab");
        assert!(BuildId::from_hex(&"0".repeat(128)).is_some());
        let long = "0".repeat(130);
        for text in [
            "",
            "0",
            "abc",
            "0x12",
            "zz",
            "+1",
            "é",
            "go/build/id",
            &long,
        ] {
            assert_eq!(BuildId::from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn it_is_the_one_that_readelf_shows() -> io::Result<()> {
        for path in [std::env::current_exe()?, "/bin/sh".into()] {
            let Ok(output) = Command::new("readelf").arg("-n").arg(&path).output() else {
                eprintln!("skipped: needs readelf");
                return Ok(());
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let expected = text.lines().find_map(|line| line.split_once("Build ID: "));
            let read = BuildId::read(&File::open(&path)?).unwrap();
            assert_eq!(
                read.map(|id| id.to_string()).as_deref(),
                expected.map(|(_, id)| id.trim()),
                "{}",
                path.display()
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_notes_without_a_panic(notes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BuildId::in_notes(&notes);
        }

        #[test]
        fn damage_makes_no_other_file_than_one_that_ends(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = file(&[&note(8, b"GNU\0", 5, &[0; 16]), &note(4, b"GNU\0", 3, &[3; 8])]);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(Some(id)) = BuildId::read(&bytes[..]) {
                prop_assert!((1..=MAX_SIZE).contains(&id.as_bytes().len()));
            }
        }
    }
}
