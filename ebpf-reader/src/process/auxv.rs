//! The auxiliary vector: what the kernel tells a program that it has just set up, and what tells one program from
//! the next that the same process executes.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

const AT_NULL: u64 = 0;
const AT_ENTRY: u64 = 9;

/// Where the program begins that a process runs.
pub(super) fn entry(pid: u32) -> Option<u64> {
    find(&read(pid)?, AT_ENTRY)
}

/// What `execve` made of a process's memory. A forked child has its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// The old program is gone, and the new one is not set up yet.
    Unfinished,
    /// Fingerprint of the auxiliary vector: most addresses in it are chosen at random for each program.
    Finished(u64),
}

impl Image {
    /// A process's; `None` if it has no memory, or may not be read.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::from_vector(&read(pid)?)
    }

    fn from_vector(vector: &[u8]) -> Option<Self> {
        let (kind, _) = vector.split_first_chunk::<8>()?;
        if u64::from_ne_bytes(*kind) == AT_NULL {
            return Some(Self::Unfinished);
        }
        let mut fingerprint = DefaultHasher::new();
        vector.hash(&mut fingerprint);
        Some(Self::Finished(fingerprint.finish()))
    }

    /// Whether this was seen of the program that is `now` there and of which it is told only now that it was executed:
    /// the kernel tells so at the end of `execve`, when the program has long been there for everybody to see.
    pub(crate) fn is_that_of(self, now: Option<Self>) -> bool {
        self == Self::Unfinished || now == Some(self)
    }
}

fn read(pid: u32) -> Option<Vec<u8>> {
    let mut vector = Vec::new();
    File::open(format!("/proc/{pid}/auxv"))
        .ok()?
        .take(4096)
        .read_to_end(&mut vector)
        .ok()?;
    Some(vector)
}

fn find(vector: &[u8], wanted: u64) -> Option<u64> {
    let word = |bytes: [u8; 8]| u64::from_ne_bytes(bytes);
    let (words, _) = vector.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let [_, value] = pairs.iter().find(|[kind, _]| word(*kind) == wanted)?;
    Some(word(*value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn each_program_has_its_own() {
        let own = Image::of(std::process::id());
        assert!(matches!(own, Some(Image::Finished(_))));
        assert_eq!(Image::of(std::process::id()), own);
        // Two processes that run the same program.
        let mut children = [(); 2].map(|()| {
            let mut cat = Command::new("cat");
            cat.stdin(Stdio::piped()).spawn().unwrap()
        });
        let images = children.each_ref().map(|child| {
            loop {
                match Image::of(child.id()) {
                    Some(Image::Unfinished) => {}
                    image => break image,
                }
            }
        });
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(images[0].is_some() && images[1].is_some());
        assert_ne!(images[0], images[1]);
        assert_ne!(images[0], own);
        assert_eq!(Image::of(children[0].id()), None);
        assert_eq!(Image::of(u32::MAX), None);
    }

    #[test]
    fn what_was_seen_amid_an_execve_is_the_new_programs() {
        let image = |words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Image::from_vector(&bytes)
        };
        let unfinished = image(&[0, 0]).unwrap();
        let one = image(&[AT_ENTRY, 1, 0, 0]).unwrap();
        let two = image(&[AT_ENTRY, 2, 0, 0]).unwrap();
        assert_eq!(unfinished, Image::Unfinished);
        assert!(unfinished.is_that_of(Some(one)));
        assert!(one.is_that_of(Some(one)));
        assert!(!one.is_that_of(Some(two)));
        assert!(!one.is_that_of(None));
        // No memory at all: a process that ends, or one of the kernel's own.
        assert_eq!(image(&[]), None);
    }
}
