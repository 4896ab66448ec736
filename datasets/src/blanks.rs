//! White space that needs no collapsing.

/// Whether a text is ASCII, begins with no white space, and has none but single blanks.
pub(crate) fn are_single(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Whole texts are looked at without a branch, many bytes at once.
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    let doubled = pairs.fold(false, |found, (byte, next)| found | (*byte == b' ' && *next == b' '));
    let other = bytes.iter().fold(false, |found, byte| found | matches!(byte, b'\t'..=b'\r' | 0x80..));
    !doubled && !other && bytes.first() != Some(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_blanks_between_ascii_words_are_single() {
        assert!(["", "a", "a b, c. ", "\u{1}a"].into_iter().all(are_single));
        let others = [" a", "a  b", "a\tb", "a\n", "a\u{b}", "a\u{a0}b", "é", "a   "];
        assert!(!others.into_iter().any(are_single));
    }
}
