//! Text of other processes on a terminal: nothing in it is obeyed, and it keeps to its column.

/// Text with control characters shown instead of obeyed, and those that would turn or hide the text around them.
pub(crate) fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let show = |c: char| match obeyed(c) {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(show).collect()
}

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
    fn nothing_is_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jé\n"), "a\\u{1b}[2Jé\\n");
        assert_eq!(printable("\u{202e}exe"), "\\u{202e}exe");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(fitting("abcdefghij", 10), "abcdefghij");
        assert_eq!(fitting("abcdefghijk", 10), "abcd…ghijk");
        assert_eq!(fitting("éèêë", 3), "é…ë");
        assert_eq!(fitting("abc", 0), "…");
    }
}
