//! Where a text may say numbers: a quick search, so that careful readers look at few places only.

use super::words::{self, Said};

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its first byte.
    at: usize,
    /// How many bytes of letters begin there: a word, and what it says; none where digits do, a bracket or a sign such as
    /// `½`.
    word: Option<(usize, Said)>,
}

/// The places of a text in order: every number word, run of digits, point before a digit, opening bracket, and every
/// character that is neither ASCII nor a letter.
pub(crate) fn marks(text: &str) -> Vec<Mark> {
    let bytes = text.as_bytes();
    let mut marks = Vec::with_capacity(16);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match KINDS[usize::from(*byte)] {
            Kind::Other => {}
            Kind::Letter => {
                // Most of a text is words that say no number.
                at = start + letters(&bytes[start..]);
                if bytes.get(at).is_some_and(|next| !next.is_ascii()) {
                    at = start + words::letters(text, start);
                } else if words::may_say_a_number(&bytes[start..at]) {
                    let said = words::said(&text[start..at]).map(|said| (at - start, said));
                    marks.extend(said.map(|said| Mark { at: start, word: Some(said) }));
                }
            }
            Kind::Digit => {
                marks.push(Mark { at: start, word: None });
                at += bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            }
            Kind::Point if !bytes.get(at).is_some_and(u8::is_ascii_digit) => {}
            Kind::Point | Kind::Bracket => marks.push(Mark { at: start, word: None }),
            Kind::Wide => {
                // A word that begins so is no English one.
                let letters = words::letters(text, start);
                if letters == 0 {
                    marks.push(Mark { at: start, word: None });
                }
                at = start + if letters > 0 { letters } else { text[start..].chars().next().map_or(1, char::len_utf8) };
            }
        }
    }
    marks
}

/// How many ASCII letters begin there, eight bytes looked at together.
#[inline]
fn letters(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let (eights, rest) = bytes.as_chunks::<8>();
    for (index, eight) in eights.iter().enumerate() {
        let bytes = u64::from_le_bytes(*eight);
        // The top bit of each byte says whether its lower bits are from `a` on, and whether they are beyond `z`.
        let lower = (bytes | (0x20 * ONES)) & (0x7f * ONES);
        let from = lower + u64::from(0x80 - b'a') * ONES;
        let beyond = lower + u64::from(0x7f - b'z') * ONES;
        let others = (!from | beyond | bytes) & (0x80 * ONES);
        if others != 0 {
            return 8 * index + others.trailing_zeros() as usize / 8;
        }
    }
    8 * eights.len() + rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other,
    Letter,
    Digit,
    Bracket,
    Point,
    /// It is a part of a character that is not ASCII.
    Wide,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Kind::Letter,
            b'0'..=b'9' => Kind::Digit,
            b'(' => Kind::Bracket,
            b'.' => Kind::Point,
            0x80.. => Kind::Wide,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
};

/// Has `read` read at each place that it did not read beyond: with the length of the word that stands there and what it
/// says, or none. It returns how many bytes it read. Where digits stand that are none of its numbers, it is asked again
/// from the next one.
pub(crate) fn read_at(text: &str, marks: &[Mark], mut read: impl FnMut(usize, Option<(usize, Said)>) -> usize) {
    let mut passed = 0;
    for mark in marks.iter() {
        let mut at = mark.at;
        if at < passed {
            continue;
        }
        if let Some((letters, _)) = mark.word {
            passed = at + read(at, mark.word).max(letters);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn letters_are_counted_as_one_by_one(text in "[a-zA-Z]{0,20}[@`\\[{é ]?[a-z\\PC]{0,9}", from in 0..9usize) {
            let bytes = text.as_bytes().get(from..).unwrap_or_default();
            prop_assert_eq!(letters(bytes), bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count());
        }
    }

    #[test]
    fn only_what_may_say_a_number_is_marked() {
        let text = "Lan has twenty-five apples, 1,200.5 (half) ½ of điều and gés. An end. .5";
        let places: Vec<usize> = marks(text).iter().map(|mark| mark.at).collect();
        let expected = ["twenty", "five", "1,200", "200.5", ".5 (", "5 (", "(half", "half)", "½", ".5", "5"];
        let mut from = 0;
        let expected: Vec<usize> = expected
            .iter()
            .map(|part| {
                let at = from + text[from..].find(part).unwrap();
                from = at + text[at..].chars().next().unwrap().len_utf8();
                at
            })
            .collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn what_was_read_is_not_read_again_and_digits_that_are_no_number_are_tried_one_by_one() {
        let text = "x 1,200 and 345 two";
        let mut asked = Vec::new();
        read_at(text, &marks(text), |at, word| {
            asked.push((at, word.map(|(letters, _)| &text[at..at + letters])));
            if at == 2 { 5 } else { 0 }
        });
        assert_eq!(asked, [(2, None), (12, None), (13, None), (14, None), (16, Some("two"))]);
    }
}
