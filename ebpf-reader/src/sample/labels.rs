//! Custom labels as a sampler delivers them: all of a sample's in one piece of memory.
//!
//! A sample has several, and each sample is compared with what is known already. In one piece that takes one
//! allocation and one comparison.

use std::fmt;

/// Sizes of a key and of a value, each two bytes in the order of this machine.
const SIZES: usize = 4;

/// One custom label as it was read: bytes, not checked to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Custom labels in the order in which they were published.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Of each label the sizes, the key, the value.
    bytes: Vec<u8>,
}

impl Labels {
    /// No labels; does not allocate.
    pub const NONE: Self = Self { bytes: Vec::new() };

    /// Takes `count` labels off the front of `bytes`, which are laid out as here; `None` if there are fewer.
    pub(crate) fn take(bytes: &mut &[u8], count: usize) -> Option<Self> {
        let mut rest = *bytes;
        for _ in 0..count {
            rest = split(rest)?.1;
        }
        let (labels, _) = bytes.split_at_checked(bytes.len() - rest.len())?;
        *bytes = rest;
        Some(Self {
            bytes: labels.to_vec(),
        })
    }

    /// Adds a label; `false` if its key or its value has more than 65,535 bytes, which no reader takes.
    pub fn push(&mut self, label: Label<'_>) -> bool {
        let sizes = (
            u16::try_from(label.key.len()),
            u16::try_from(label.value.len()),
        );
        let (Ok(key), Ok(value)) = sizes else {
            return false;
        };
        self.bytes.extend(key.to_ne_bytes());
        self.bytes.extend(value.to_ne_bytes());
        self.bytes.extend(label.key);
        self.bytes.extend(label.value);
        true
    }

    /// The labels, first to last; a key may be there more than once.
    pub fn iter(&self) -> impl Iterator<Item = Label<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (label, after) = split(rest)?;
            rest = after;
            Some(label)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What they take up, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The label at the front, and what follows it.
fn split(bytes: &[u8]) -> Option<(Label<'_>, &[u8])> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk::<SIZES>()?;
    let (key, rest) = rest.split_at_checked(u16::from_ne_bytes([a, b]).into())?;
    let (value, rest) = rest.split_at_checked(u16::from_ne_bytes([c, d]).into())?;
    Some((Label { key, value }, rest))
}

impl<'a> FromIterator<Label<'a>> for Labels {
    /// Leaves out what [`Labels::push`] refuses.
    fn from_iter<I: IntoIterator<Item = Label<'a>>>(labels: I) -> Self {
        let mut all = Self::NONE;
        for label in labels {
            all.push(label);
        }
        all
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.iter().map(|label| {
            (
                String::from_utf8_lossy(label.key),
                String::from_utf8_lossy(label.value),
            )
        });
        f.debug_list().entries(labels).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label<'a>(key: &'a str, value: &'a str) -> Label<'a> {
        Label {
            key: key.as_bytes(),
            value: value.as_bytes(),
        }
    }

    #[test]
    fn keeps_labels_in_order() {
        let all = [label("user", "1"), label("", ""), label("user", "2")];
        let labels: Labels = all.into_iter().collect();
        assert!(labels.iter().eq(all));
        assert!(!labels.is_empty() && Labels::NONE.is_empty());
        assert_eq!(
            format!("{labels:?}"),
            r#"[("user", "1"), ("", ""), ("user", "2")]"#
        );
    }

    #[test]
    fn equal_bytes_in_other_places_are_other_labels() {
        let labels = |key, value| Labels::from_iter([label(key, value)]);
        assert_ne!(labels("ab", "c"), labels("a", "bc"));
    }

    #[test]
    fn refuses_what_is_too_long() {
        let longest = "x".repeat(0xffff);
        let mut labels = Labels::NONE;
        assert!(labels.push(label(&longest, &longest)));
        assert!(!labels.push(label("a", &format!("{longest}x"))));
        assert!(labels.iter().eq([label(&longest, &longest)]));
    }

    #[test]
    fn takes_as_many_as_there_are() {
        let labels = Labels::from_iter([label("a", "1"), label("b", "2")]);
        let mut bytes = labels.bytes.clone();
        bytes.push(9);
        let mut rest = bytes.as_slice();
        let first = Labels::take(&mut rest, 1).expect("one");
        assert!(first.iter().eq([label("a", "1")]));
        assert_eq!(Labels::take(&mut rest, 2), None);
        let second = Labels::take(&mut rest, 1).expect("another");
        assert!(second.iter().eq([label("b", "2")]));
        assert_eq!(rest, [9]);
    }
}
