//! The name of a thread as the kernel keeps it.

use std::borrow::Cow;
use std::fmt;

/// Bytes of a name, the NUL at its end included (TASK_COMM_LEN).
const SIZE: usize = 16;

/// A thread's name: at most 15 bytes, which need not be UTF-8. Made and compared without allocating.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ThreadName([u8; SIZE]);

impl ThreadName {
    /// The bytes up to the first NUL, or the first 15.
    pub fn new(bytes: &[u8]) -> Self {
        let mut name = [0; SIZE];
        let bytes = bytes.iter().take(SIZE - 1).take_while(|&&byte| byte != 0);
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(name)
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The name, with U+FFFD for what is not UTF-8.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl From<&str> for ThreadName {
    fn from(name: &str) -> Self {
        Self::new(name.as_bytes())
    }
}

impl PartialEq<str> for ThreadName {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for ThreadName {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_string_lossy().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_the_first_nul() {
        let name = ThreadName::new(b"worker\0garbage..");
        assert_eq!(name, "worker");
        assert_eq!(name, ThreadName::from("worker"));
        assert_eq!(format!("{name:?}"), r#""worker""#);
        assert_eq!(ThreadName::default().as_bytes(), b"");
    }

    #[test]
    fn has_fifteen_bytes_at_most() {
        assert_eq!(ThreadName::from("0123456789abcdefgh"), "0123456789abcde");
        assert_eq!(ThreadName::from("0123456789abcde"), "0123456789abcde");
    }

    #[test]
    fn need_not_be_utf_8() {
        let name = ThreadName::new(b"a\xffb");
        assert_eq!(name.as_bytes(), b"a\xffb");
        assert_eq!(name.to_string_lossy(), "a\u{fffd}b");
    }
}
