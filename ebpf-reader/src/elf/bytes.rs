//! Where a file's bytes come from, and how its tables are read: in pieces, within bounds.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::pod;

use super::ElfError;

/// Bytes of a table that are read at once.
const CHUNK: u64 = 64 << 10;
/// Bytes of one table that are read at all: a file that has more is given up.
const MAX_TABLE: u64 = 64 << 20;

/// Something whose bytes can be read at an offset.
pub trait Bytes {
    /// Fills `buffer` with the bytes at `offset`, or fails.
    ///
    /// # Errors
    /// If there are not that many bytes, or they cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Bytes for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Bytes for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// One structure.
pub(super) fn read_pod<B: Bytes + ?Sized, T: pod::Pod>(
    bytes: &B,
    offset: u64,
) -> Result<T, ElfError> {
    let mut buffer = vec![0; size_of::<T>()];
    bytes.read_at(offset, &mut buffer)?;
    pod::from_bytes::<T>(&buffer)
        .map(|(value, _)| *value)
        .map_err(|()| ElfError::Malformed("a structure is cut short"))
}

/// A table of structures; `what` names it where it is too large.
pub(super) fn read_table<B: Bytes + ?Sized, T: pod::Pod>(
    bytes: &B,
    offset: u64,
    count: u64,
    what: &'static str,
) -> Result<Vec<T>, ElfError> {
    let mut table = Vec::new();
    for_each(bytes, offset, count, what, |_, entry: &T| {
        table.push(*entry);
        Ok(true)
    })?;
    Ok(table)
}

/// Calls `visit` with the index and value of each entry of a table until it returns `false`.
pub(super) fn for_each<B: Bytes + ?Sized, T: pod::Pod>(
    bytes: &B,
    offset: u64,
    count: u64,
    what: &'static str,
    mut visit: impl FnMut(u64, &T) -> Result<bool, ElfError>,
) -> Result<(), ElfError> {
    let size = size_of::<T>() as u64;
    let total = count
        .checked_mul(size)
        .filter(|&total| total <= MAX_TABLE)
        .ok_or(ElfError::TooLarge(what))?;
    let at_once = (CHUNK / size) * size;
    let mut buffer = Vec::new();
    let mut done = 0;
    while done < total {
        let length = at_once.min(total - done);
        buffer.resize(length as usize, 0);
        bytes.read_at(at(offset, done, 0, 0)?, &mut buffer)?;
        let entries = pod::slice_from_all_bytes::<T>(&buffer)
            .map_err(|()| ElfError::Malformed("a table is cut short"))?;
        for (index, entry) in (done / size..).zip(entries) {
            if !visit(index, entry)? {
                return Ok(());
            }
        }
        done += length;
    }
    Ok(())
}

/// The string that ends with a NUL byte at `offset`, if it is not longer than `max`.
pub(super) fn read_string<B: Bytes + ?Sized>(bytes: &B, offset: u64, max: usize) -> Option<String> {
    let mut text = Vec::new();
    let mut piece = [0; 64];
    while text.len() <= max {
        // The end of the file may lie right behind the string.
        let mut length = piece.len();
        while bytes
            .read_at(
                offset.checked_add(text.len() as u64)?,
                piece.get_mut(..length)?,
            )
            .is_err()
        {
            length /= 2;
            if length == 0 {
                return None;
            }
        }
        let read = piece.get(..length)?;
        match read.iter().position(|&byte| byte == 0) {
            Some(end) => {
                text.extend_from_slice(read.get(..end)?);
                return (text.len() <= max).then(|| String::from_utf8_lossy(&text).into_owned());
            }
            None => text.extend_from_slice(read),
        }
    }
    None
}

/// The offsets at which `names`, each with a NUL byte behind it, lie in a string table: a name may be the
/// end of a longer one.
pub(super) fn find_names<B: Bytes + ?Sized, const N: usize>(
    bytes: &B,
    offset: u64,
    size: u64,
    names: [&str; N],
) -> Result<[Vec<u32>; N], ElfError> {
    /// Positions of one name that are kept; there is one, and one for each longer name that shares it.
    const MAX_FOUND: usize = 64;
    if size > MAX_TABLE {
        return Err(ElfError::TooLarge("its table of names"));
    }
    let mut found = [const { Vec::new() }; N];
    let overlap = names.iter().map(|name| name.len()).max().unwrap_or(0) as u64;
    let mut buffer = Vec::new();
    let mut start = 0;
    while start < size {
        let length = CHUNK.saturating_add(overlap).min(size - start);
        buffer.resize(length as usize, 0);
        bytes.read_at(at(offset, start, 0, 0)?, &mut buffer)?;
        for (name, found) in names.iter().zip(&mut found) {
            let mut wanted = name.as_bytes().to_vec();
            wanted.push(0);
            for position in positions(&buffer, &wanted) {
                let Ok(position) = u32::try_from(start + position as u64) else {
                    break;
                };
                if found.len() < MAX_FOUND && !found.contains(&position) {
                    found.push(position);
                }
            }
        }
        start += CHUNK;
    }
    Ok(found)
}

/// Where `wanted`, which ends with a NUL byte, lies in `buffer`.
fn positions<'a>(buffer: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    buffer
        .iter()
        .enumerate()
        .filter(|&(_, &byte)| byte == 0)
        .filter_map(move |(end, _)| {
            let start = (end + 1).checked_sub(wanted.len())?;
            (buffer.get(start..=end)? == wanted).then_some(start)
        })
}

/// `base + skip + count * size`, or an error if that is not a file offset.
pub(super) fn at(base: u64, skip: u64, count: u64, size: u64) -> Result<u64, ElfError> {
    count
        .checked_mul(size)
        .and_then(|length| base.checked_add(skip)?.checked_add(length))
        .ok_or(ElfError::Malformed("a table lies outside the file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_a_nul_byte_or_are_none() {
        let bytes = b"abc\0/lib/ld.so\0x";
        assert_eq!(read_string(&bytes[..], 0, 3).as_deref(), Some("abc"));
        assert_eq!(read_string(&bytes[..], 0, 2), None);
        assert_eq!(
            read_string(&bytes[..], 4, 99).as_deref(),
            Some("/lib/ld.so")
        );
        assert_eq!(read_string(&bytes[..], 15, 99), None);
        assert_eq!(read_string(&bytes[..], u64::MAX, 99), None);
        assert_eq!(read_string(&[b'x'; 1000][..], 0, 99), None);
    }

    #[test]
    fn names_are_found_across_pieces_and_as_ends_of_others() {
        let mut names = vec![b'.'; CHUNK as usize - 2];
        names.extend(b"name\0my_name\0names\0");
        let size = names.len() as u64;
        let [found] = find_names(&names[..], 0, size, ["name"]).unwrap();
        let first = CHUNK as u32 - 2;
        assert_eq!(found, [first, first + 8]);
        assert!(find_names(&names[..], 0, size + 1, ["name"]).is_err());
        assert!(matches!(
            find_names(&names[..], 0, u64::MAX, ["name"]),
            Err(ElfError::TooLarge(_))
        ));
    }

    #[test]
    fn tables_are_read_whole_or_refused() {
        let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let table: Vec<u32> = read_table(&bytes[..], 0, 1_000_000, "it").unwrap();
        assert!(table.iter().enumerate().all(|(i, &word)| word == i as u32));
        let read = |count| read_table::<_, u32>(&bytes[..], 0, count, "it");
        assert!(matches!(read(1_000_001), Err(ElfError::Read(_))));
        assert!(matches!(read(u64::MAX), Err(ElfError::TooLarge("it"))));
        assert!(matches!(read(1 << 30), Err(ElfError::TooLarge("it"))));
    }
}
