//! Trace ids and span ids.

use std::fmt;
use std::str::FromStr;

/// A trace id, in W3C order. Shown and parsed as 32 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span id, in W3C order. Shown and parsed as 16 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

/// The text is not an id: it has another length, other characters than hexadecimal digits, or only zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: needs {digits} hexadecimal digits, not all of them 0")]
pub struct ParseIdError {
    digits: usize,
}

impl FromStr for TraceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text.as_bytes())
            .map(Self)
            .ok_or(ParseIdError { digits: 32 })
    }
}

impl FromStr for SpanId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text.as_bytes())
            .map(Self)
            .ok_or(ParseIdError { digits: 16 })
    }
}

impl TraceId {
    /// The id, unless it is all zero, which means none.
    pub(crate) fn some(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    pub(super) fn from_hex(text: &[u8]) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl SpanId {
    pub(crate) fn some(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    pub(super) fn from_hex(text: &[u8]) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        for &digit in digits {
            *byte = *byte << 4 | u8::try_from(char::from(digit).to_digit(16)?).ok()?;
        }
    }
    (bytes != [0; N]).then_some(bytes)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(id.0[..2], [0x4b, 0xf9]);
        assert_eq!(id.to_string(), text);
        assert_eq!(
            "00f067aa0ba902b7".parse::<SpanId>().unwrap().to_string(),
            "00f067aa0ba902b7"
        );
    }

    #[test]
    fn what_is_no_id() {
        let zero = "0".repeat(32);
        let long = "1".repeat(33);
        for text in [
            "",
            "4bf9",
            "+bf92f3577b34da6a3ce929d0e0e4736",
            "ébf92f3577b34da6a3ce929d0e0e473",
            &zero,
            &long,
        ] {
            assert!(text.parse::<TraceId>().is_err(), "{text}");
        }
    }
}
