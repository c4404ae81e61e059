//! Text of other processes, made fit to be shown: control characters are shown, not obeyed.

use std::borrow::Cow;

/// The text without anything that a terminal would obey: control characters, and characters that turn the
/// direction of text around, break lines or cannot be seen, are shown as Rust writes them in strings.
///
/// ```
/// assert_eq!(ebpf_reader::text::printable("\u{1b}[2Jcart\n"), "\\u{1b}[2Jcart\\n");
/// assert_eq!(ebpf_reader::text::printable("größer"), "größer");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unfit(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something else than standing there.
pub fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Marks, embeddings, overrides and isolates of direction; separators of lines; what has no width.
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        for code in (0..0xa0).chain(0x2000..0x2100) {
            let character = char::from_u32(code).unwrap();
            let text = format!("a{character}b");
            let shown = printable(&text);
            assert!(!shown.contains(char::is_control), "{code:#x}");
            assert_eq!(shown == text, !is_unfit(character), "{code:#x}");
        }
        assert_eq!(printable("\r\n\t\u{7f}"), "\\r\\n\\t\\u{7f}");
        assert_eq!(printable("a\u{202e}b\u{9b}31m"), "a\\u{202e}b\\u{9b}31m");
        assert!(matches!(printable("/users/{id} ✓"), Cow::Borrowed(_)));
    }
}
