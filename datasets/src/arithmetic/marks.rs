//! Where a text may say numbers: a quick search, so that careful readers look at few places only.

use super::words;

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its first byte.
    at: usize,
    /// How many bytes of letters begin there: a word; none where digits do, a bracket or a sign such as `½`.
    letters: usize,
}

/// The places of a text in order: every number word, run of digits, point before a digit, opening bracket, and every
/// character that is neither ASCII nor a letter.
pub(crate) fn marks(text: &str) -> Vec<Mark> {
    let bytes = text.as_bytes();
    let mut marks = Vec::with_capacity(16);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 0x80.. => {
                let letters = words::letters(text, at);
                if letters == 0 || words::may_say_a_number(&text[at..at + letters]) {
                    marks.push(Mark { at, letters });
                }
                at += if letters > 0 { letters } else { text[at..].chars().next().map_or(1, char::len_utf8) };
            }
            b'0'..=b'9' => {
                marks.push(Mark { at, letters: 0 });
                while is_digit(at) {
                    at += 1;
                }
            }
            b'(' | b'.' => {
                if byte == b'(' || is_digit(at + 1) {
                    marks.push(Mark { at, letters: 0 });
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    marks
}

/// Has `read` read at each place that it did not read beyond: with the word that stands there, or none. It returns how
/// many bytes it read. Where digits stand that are none of its numbers, it is asked again from the next one.
pub(crate) fn read_at<'t>(text: &'t str, marks: &[Mark], mut read: impl FnMut(usize, Option<&'t str>) -> usize) {
    let mut passed = 0;
    for mark in marks.iter() {
        let mut at = mark.at;
        if at < passed {
            continue;
        }
        if mark.letters > 0 {
            passed = at + read(at, Some(&text[at..at + mark.letters])).max(mark.letters);
            continue;
        }
        loop {
            let length = read(at, None);
            if length > 0 {
                passed = at + length;
                break;
            }
            at += 1;
            if !text.as_bytes().get(at).is_some_and(u8::is_ascii_digit) {
                break;
            }
        }
    }
}
