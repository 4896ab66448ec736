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

/// The number that a word of a problem says, as a quotient in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    over: i64,
    under: i64,
    /// It is the name of a part, `fourth` to `tenth`, which may also say an order.
    is_part: bool,
}

impl Said {
    /// The number.
    pub(crate) fn value(self) -> Exact {
        Exact::ratio(self.over, self.under)
    }

    /// The number's numerator and denominator.
    pub(crate) fn quotient(self) -> (i64, i64) {
        (self.over, self.under)
    }

    /// The number, unless it is that of a part.
    pub(crate) fn quantity(self) -> Option<Exact> {
        (!self.is_part).then(|| self.value())
    }
}

/// What a word says: a name from `one` to `hundred`, `half`, `third`, `quarter`, `twice`, `dozen` and their like, or a part,
/// `fourth` to `tenth`, in the plural too.
pub(crate) fn said(word: &str) -> Option<Said> {
    match whole(word) {
        Some(over) => (1..=100).contains(&over).then_some(Said { over, under: 1, is_part: false }),
        None if word.len() > LENGTH_MAX => None,
        None => match find(&OTHER, word) {
            Some((over, under)) => Some(Said { over, under, is_part: false }),
            None => part(word).map(|under| Said { over: 1, under, is_part: true }),
        },
    }
}

/// Into how many parts the name of one says that a whole is divided.
fn part(word: &str) -> Option<i64> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    (4..).zip(PARTS).find(|(_, name)| name.eq_ignore_ascii_case(singular)).map(|(under, _)| under)
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

/// False for nearly all words that [`said`] does not know: told by the length, the first and the last letter.
#[inline]
pub(super) fn may_say_a_number(word: &[u8]) -> bool {
    let letter = |byte: &u8| usize::from((byte | 0x20).wrapping_sub(b'a'));
    let (Some(first), Some(last)) = (word.first(), word.last()) else { return false };
    let lasts = LASTS.get(word.len()).and_then(|lasts| lasts.get(letter(first)));
    lasts.is_some_and(|lasts| letter(last) < 26 && lasts >> letter(last) & 1 == 1)
}

/// For each length and first letter of number words their last letters, a bit each.
const LASTS: [[u32; 26]; 10] = {
    const fn add(lasts: &mut [[u32; 26]; 10], length: usize, first: u8, last: u8) {
        lasts[length][(first - b'a') as usize] |= 1 << (last - b'a');
    }
    let mut lasts = [[0; 26]; 10];
    add(&mut lasts, "seventeen".len(), b's', b'n');
    let mut length = 1;
    while length <= LENGTH_MAX {
        let mut at = 0;
        while at < WHOLE[length].len() + OTHER[length].len() {
            let whole = WHOLE[length].len();
            let key = if at < whole { WHOLE[length][at].0 } else { OTHER[length][at - whole].0 };
            add(&mut lasts, length, (key >> (8 * (length - 1))) as u8, key as u8);
            at += 1;
        }
        length += 1;
    }
    let mut at = 0;
    while at < PARTS.len() {
        let name = PARTS[at].as_bytes();
        add(&mut lasts, name.len(), name[0], b'h');
        add(&mut lasts, name.len() + 1, name[0], b's');
        at += 1;
    }
    lasts
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
        assert!(["apples", "", "đôi", "the", "she", "s", "thousands"].iter().all(|word| said(word).is_none()));
        let parts = ["Fifths", "TENTH", "third", "seventeenth"];
        assert_eq!(parts.map(part), [Some(5), Some(10), None, None]);
        let texts = ["", "one", "one2", "één a", "a’s", "thé", "½"];
        assert_eq!(texts.map(|text| letters(text, 0)), [0, 3, 3, 5, 1, 4, 0]);
        let words = ["Seventeen", "thousand", "zero", "dozen", "", "seventeem", "th\u{ff}ree"];
        assert_eq!(words.map(whole), [Some(17), Some(1_000), Some(0), None, None, None, None]);
        let quantities = ["TWICE", "thirds", "hundred", "thousand", "zero", "seventeen", "halve", "eighths", "sixty"];
        let expected = [(2, 1), (1, 3), (100, 1), (0, 1), (0, 1), (17, 1), (0, 1), (1, 8), (60, 1)];
        assert_eq!(quantities.map(|word| said(word).map_or((0, 1), Said::quotient)), expected);
        assert_eq!(["eighths", "half"].map(|word| said(word).unwrap().quantity().is_some()), [false, true]);
    }

    #[test]
    fn no_number_word_is_passed_over() {
        let of_table =
            |key: u64| String::from_utf8(key.to_be_bytes().into_iter().filter(|b| *b > 0).collect()).unwrap();
        let keys = WHOLE.iter().flat_map(|words| words.iter().map(|word| word.0));
        let keys = keys.chain(OTHER.iter().flat_map(|words| words.iter().map(|word| word.0)));
        let parts = PARTS.iter().flat_map(|name| [(*name).to_owned(), format!("{name}s")]);
        for word in keys.map(of_table).chain(parts).chain(["seventeen".to_owned()]) {
            assert!(may_say_a_number(word.as_bytes()), "{word}");
            assert!(may_say_a_number(word.to_uppercase().as_bytes()), "{word}");
        }
    }
}
