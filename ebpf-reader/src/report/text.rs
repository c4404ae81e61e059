//! Numbers and names in the columns of a report.

/// Text of at most `width` characters: from a longer one the middle is left out, as both ends tell more.
pub(crate) fn fitting(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head = kept / 2;
    let tail = kept - head;
    let mut fitting: String = text.chars().take(head).collect();
    fitting.push('…');
    fitting.extend(text.chars().skip(length - tail));
    fitting
}

pub(crate) fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Part of a whole, in per cent; 0 of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(fitting("abcdefghij", 10), "abcdefghij");
        assert_eq!(fitting("abcdefghijk", 10), "abcd…ghijk");
        assert_eq!(fitting("éèêë", 3), "é…ë");
        assert_eq!(fitting("abc", 0), "…");
    }
}
