//! Private copies of files: what is looked into must not change or shrink under the library that maps it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use object::LittleEndian as LE;
use object::elf;
use object::pod;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Largest file that is looked into. The debug information of large programs is some hundred megabytes.
pub(super) const MAX_FILE_SIZE: u64 = 1 << 30;

/// Most sections that are looked at for links.
const MAX_SECTIONS: u64 = 4096;

/// Sections that name another file. Such a file would be opened by name, wherever it is; it is looked for in
/// [`super::debug_file`], and nowhere else.
const LINKS: [&[u8]; 3] = [b".gnu_debuglink\0", b".gnu_debugaltlink\0", b".debug_sup\0"];

/// An unnamed temporary file with the same contents, holes included.
pub(super) fn private_copy(file: &File) -> io::Result<File> {
    let size = file.metadata()?.len();
    if size > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 1 GiB",
        ));
    }
    let copy = tempfile::tempfile()?;
    copy.set_len(size)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while at < size {
        let (start, end) = data(file, at, size)?;
        at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(buffer.len());
            let wanted = wanted.min(buffer.len());
            let Some(part) = buffer.get_mut(..wanted) else {
                break;
            };
            let read = file.read_at(part, at)?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
                // It has become shorter.
                return Ok(copy);
            };
            copy.write_all_at(part, at)?;
            at += read as u64;
        }
    }
    Ok(copy)
}

/// The next piece of a file that is not a hole.
fn data(file: &File, at: u64, size: u64) -> io::Result<(u64, u64)> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => {
            let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size);
            Ok((start.min(size), end.min(size)))
        }
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => Ok((size, size)),
        // A file system that does not know of holes.
        Err(Errno::INVAL) => Ok((at, size)),
        Err(error) => Err(error.into()),
    }
}

/// Renames the sections of a copy that name another file, so that nobody follows them.
pub(super) fn disarm(copy: &File) {
    // A file that is not understood here is not understood by the library either.
    let _ = rename_links(copy);
}

fn rename_links(copy: &File) -> Option<()> {
    let (offset, size) = section_names(copy)?;
    let mut names = vec![0; usize::try_from(size.min(1 << 24)).ok()?];
    copy.read_exact_at(&mut names, offset).ok()?;
    for link in LINKS {
        for at in positions(&names, link) {
            copy.write_all_at(b"_", offset.checked_add(at as u64)?)
                .ok()?;
        }
    }
    Some(())
}

/// Where `name` begins in `bytes`.
fn positions(bytes: &[u8], name: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(name.len()).enumerate();
    windows
        .filter(|(_, window)| *window == name)
        .map(|(at, _)| at)
        .collect()
}

/// Offset and size of the section that holds the sections' names.
fn section_names(file: &File) -> Option<(u64, u64)> {
    let header: elf::FileHeader64<LE> = read_pod(file, 0)?;
    let names = section(file, &header, u64::from(header.e_shstrndx.get(LE)))?;
    Some((names.sh_offset.get(LE), names.sh_size.get(LE)))
}

/// The contents of the section with this name, if they are no longer than `limit`.
pub(super) fn contents(file: &File, name: &[u8], limit: u64) -> Option<Vec<u8>> {
    let header: elf::FileHeader64<LE> = read_pod(file, 0)?;
    let (names, names_size) = section_names(file)?;
    for index in 0..u64::from(header.e_shnum.get(LE)).min(MAX_SECTIONS) {
        let section = section(file, &header, index)?;
        let at = u64::from(section.sh_name.get(LE));
        let mut found = vec![0; name.len() + 1];
        let fits = at.checked_add(found.len() as u64)? <= names_size;
        if !fits
            || file
                .read_exact_at(&mut found, names.checked_add(at)?)
                .is_err()
        {
            continue;
        }
        if found.strip_suffix(&[0]) == Some(name) {
            let size = section.sh_size.get(LE);
            let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| size <= limit)?];
            file.read_exact_at(&mut bytes, section.sh_offset.get(LE))
                .ok()?;
            return Some(bytes);
        }
    }
    None
}

/// The loaded pieces of a file: offset, address and size.
pub(super) fn segments(file: &File) -> Vec<(u64, u64, u64)> {
    let Some(header) = read_pod::<elf::FileHeader64<LE>>(file, 0) else {
        return Vec::new();
    };
    let size = size_of::<elf::ProgramHeader64<LE>>() as u64;
    let headers = (0..u64::from(header.e_phnum.get(LE)).min(64)).map_while(|index| {
        let at = header.e_phoff.get(LE).checked_add(index * size)?;
        read_pod::<elf::ProgramHeader64<LE>>(file, at)
    });
    headers
        .filter(|segment| segment.p_type.get(LE) == elf::PT_LOAD)
        .map(|segment| {
            (
                segment.p_offset.get(LE),
                segment.p_vaddr.get(LE),
                segment.p_filesz.get(LE),
            )
        })
        .collect()
}

fn section(
    file: &File,
    header: &elf::FileHeader64<LE>,
    index: u64,
) -> Option<elf::SectionHeader64<LE>> {
    let size = size_of::<elf::SectionHeader64<LE>>() as u64;
    let at = header
        .e_shoff
        .get(LE)
        .checked_add(index.checked_mul(size)?)?;
    read_pod(file, at)
}

fn read_pod<T: pod::Pod>(file: &File, offset: u64) -> Option<T> {
    let mut bytes = vec![0; size_of::<T>()];
    file.read_exact_at(&mut bytes, offset).ok()?;
    pod::from_bytes::<T>(&bytes).ok().map(|(found, _)| *found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_file_is_copied_without_filling_its_holes() {
        use std::os::unix::fs::MetadataExt as _;

        let file = tempfile::tempfile().unwrap();
        file.set_len(900 << 20).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"end", (900 << 20) - 3).unwrap();
        let copy = private_copy(&file).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), 900 << 20);
        assert!(copy.metadata().unwrap().blocks() < 4096);
        let mut end = [0; 3];
        copy.read_exact_at(&mut end, (900 << 20) - 3).unwrap();
        assert_eq!(&end, b"end");
        file.set_len(MAX_FILE_SIZE + 1).unwrap();
        assert_eq!(
            private_copy(&file).unwrap_err().to_string(),
            "the file is larger than 1 GiB"
        );
    }
}
