//! English number words: the one table of them.

use super::exact::Exact;

/// A word as [`key`] has it, with its number.
type Word<T> = (u64, T);
/// Words by their length. (`seventeen` is the one that is too long for a key.)
type Table<T> = [&'static [Word<T>]; LENGTH_MAX + 1];
const LENGTH_MAX: usize = 8;

/// Whole numbers.
const WHOLE: Table<i64> = [
    &[],
    &[],
    &[],
    &[(key("one"), 1), (key("two"), 2), (key("six"), 6), (key("ten"), 10)],
    &[(key("zero"), 0), (key("four"), 4), (key("five"), 5), (key("nine"), 9)],
    &[
        (key("three"), 3),
        (key("seven"), 7),
        (key("eight"), 8),
        (key("forty"), 40),
        (key("fifty"), 50),
        (key("sixty"), 60),
    ],
    &[
        (key("eleven"), 11),
        (key("twelve"), 12),
        (key("twenty"), 20),
        (key("thirty"), 30),
        (key("eighty"), 80),
        (key("ninety"), 90),
    ],
    &[(key("fifteen"), 15), (key("sixteen"), 16), (key("seventy"), 70), (key("hundred"), 100)],
    &[
        (key("thirteen"), 13),
        (key("fourteen"), 14),
        (key("eighteen"), 18),
        (key("nineteen"), 19),
        (key("thousand"), 1_000),
    ],
];

/// What says a number without being its name, as a quotient.
const OTHER: Table<(i64, i64)> = [
    &[],
    &[],
    &[],
    &[],
    &[(key("half"), (1, 2))],
    &[(key("twice"), (2, 1)), (key("dozen"), (12, 1)), (key("third"), (1, 3))],
    &[(key("double"), (2, 1)), (key("triple"), (3, 1)), (key("thrice"), (3, 1)), (key("thirds"), (1, 3))],
    &[(key("quarter"), (1, 4))],
    &[(key("quarters"), (1, 4))],
];

/// The whole number that a word names, in upper or lower case: `zero` to `twenty`, tens, `hundred`, `thousand`.
pub(crate) fn whole(word: &str) -> Option<i64> {
    if word.len() > LENGTH_MAX {
        return word.eq_ignore_ascii_case("seventeen").then_some(17);
    }
    find(&WHOLE, word)
}

/// The number that a word of a problem says: a name from `one` to `hundred`, or `half`, `third`, `quarter`, `twice`, `dozen`
/// and their like.
pub(crate) fn quantity(word: &str) -> Option<Exact> {
    match whole(word) {
        Some(value) => (1..=100).contains(&value).then(|| value.into()),
        None if word.len() > LENGTH_MAX => None,
        None => find(&OTHER, word).map(|(over, under)| Exact::ratio(over, under)),
    }
}

/// The part of one that a word names, `fourth` to `tenth`, in the plural too.
pub(crate) fn part(word: &str) -> Option<Exact> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    let under = (4..).zip(PARTS).find(|(_, name)| name.eq_ignore_ascii_case(singular))?.0;
    Some(Exact::ratio(1, under))
}

const PARTS: [&str; 7] = ["fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

/// How many bytes the letters take that begin at a byte of a text.
pub(crate) fn letters(text: &str, at: usize) -> usize {
    let bytes = &text.as_bytes()[at..];
    let mut ascii = 0;
    while bytes.get(ascii).is_some_and(u8::is_ascii_alphabetic) {
        ascii += 1;
    }
    match bytes.get(ascii) {
        Some(0x80..) => text[at..].find(|c: char| !c.is_alphabetic()).unwrap_or(bytes.len()),
        _ => ascii,
    }
}

/// False for most of the words of which neither [`quantity`] nor [`part`] knows: told by the first letter and the length.
pub(crate) fn may_say_a_number(word: &[u8]) -> bool {
    let first = word.first().map_or(0, |first| (first | 0x20).wrapping_sub(b'a'));
    LENGTHS.get(usize::from(first)).is_some_and(|lengths| word.len() < 16 && lengths >> word.len() & 1 == 1)
}

/// For each first letter the lengths that number words have, a bit each.
const LENGTHS: [u16; 26] = {
    let mut lengths = [0; 26];
    lengths[(b's' - b'a') as usize] = 1 << "seventeen".len();
    let mut length = 1;
    while length <= LENGTH_MAX {
        let mut at = 0;
        while at < WHOLE[length].len() + OTHER[length].len() {
            let whole = WHOLE[length].len();
            let key = if at < whole { WHOLE[length][at].0 } else { OTHER[length][at - whole].0 };
            let first = (key >> (8 * (length - 1))) as u8;
            lengths[(first - b'a') as usize] |= 1 << length;
            at += 1;
        }
        length += 1;
    }
    let mut at = 0;
    while at < PARTS.len() {
        let name = PARTS[at].as_bytes();
        lengths[(name[0] - b'a') as usize] |= 0b11 << name.len();
        at += 1;
    }
    lengths
};

fn find<T: Copy>(table: &Table<T>, word: &str) -> Option<T> {
    let key = key(word);
    table[word.len()].iter().find(|(name, _)| *name == key).map(|(_, number)| *number)
}

/// The letters of a word of no more than eight, in lower case, as one number. (Of all bytes only letters become letters.)
const fn key(word: &str) -> u64 {
    let (bytes, mut key, mut at) = (word.as_bytes(), 0, 0);
    while at < bytes.len() {
        key = key << 8 | (bytes[at] | 0x20) as u64;
        at += 1;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_stands_where_it_is_looked_for() {
        for length in 0..=LENGTH_MAX {
            let keys = WHOLE[length].iter().map(|word| word.0).chain(OTHER[length].iter().map(|word| word.0));
            for found in keys {
                assert_eq!(found.leading_zeros() as usize / 8, 8 - length, "{found:x}");
            }
        }
        for word in ["fourths", "Tenth", "seventeen", "twenty", "half", "quarters", "zero", "THIRDS"] {
            assert!(may_say_a_number(word.as_bytes()), "{word}");
        }
        assert!(["apples", "", "đôi"].iter().all(|word| !may_say_a_number(word.as_bytes())));
        assert_eq!(
            (part("Fifths"), part("TENTH"), part("third")),
            (Some(Exact::ratio(1, 5)), Some(Exact::ratio(1, 10)), None)
        );
        let texts = ["", "one", "one2", "één a", "a’s", "thé", "½"];
        assert_eq!(texts.map(|text| letters(text, 0)), [0, 3, 3, 5, 1, 4, 0]);
        let words = ["Seventeen", "thousand", "zero", "dozen", "", "seventeem", "th\u{ff}ree"];
        assert_eq!(words.map(whole), [Some(17), Some(1_000), Some(0), None, None, None, None]);
        let quantities = ["TWICE", "thirds", "hundred", "thousand", "zero", "seventeen", "halve"];
        let expected =
            [(2, 1), (1, 3), (100, 1), (0, 1), (0, 1), (17, 1), (0, 1)].map(|(over, under)| Exact::ratio(over, under));
        assert_eq!(quantities.map(|word| quantity(word).unwrap_or(Exact::zero())), expected);
    }
}
