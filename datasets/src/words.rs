//! Words, numbers and signs of a text, as near-duplicates and contamination count them.

/// What becomes a token besides words and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Each sign that carries meaning, such as `+`, `^` or `(`; not the punctuation of sentences.
    Kept,
    /// None.
    Dropped,
}

/// The tokens of a text in order: runs of letters, and runs of digits with their decimal point.
///
/// A letter beside a digit is a token of its own (`2x` is `2`, `x`), and a comma ends a number: a list is not told from
/// thousands.
pub fn words(text: &str, signs: Signs) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            let length = match first {
                _ if is_digit(first) => number_length(rest),
                _ if first.is_alphanumeric() => {
                    rest.find(|next: char| !next.is_alphanumeric() || is_digit(next)).unwrap_or(rest.len())
                }
                _ => first.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            rest = after;
            let is_punctuation = || first.is_whitespace() || ".,;:?!'\"$".contains(first);
            if first.is_alphanumeric() || (signs == Signs::Kept && !is_punctuation()) {
                return Some(token);
            }
        }
    })
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

/// Digits, with a point between two of them.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while digit(end) || (end > 0 && bytes.get(end) == Some(&b'.') && digit(end + 1)) {
        end += 1;
    }
    end
}

/// A 64-bit hash of a token, the same on every machine: FNV-1a, mixed by the end of SplitMix64.
pub(crate) fn hash(token: &str) -> u64 {
    let fnv = token
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    mix(fnv)
}

/// SplitMix64's last step: every bit of the input reaches every bit of the output.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_signs() {
        let all = |text, signs| words(text, signs).collect::<Vec<_>>();
        assert_eq!(all("Tom's 2.5 kg, 3. Ok?", Signs::Kept), ["Tom", "s", "2.5", "kg", "3", "Ok"]);
        assert_eq!(all(r"$2x^2-\pi\le 1,5$", Signs::Kept), ["2", "x", "^", "2", "-", "\\", "pi", "\\", "le", "1", "5"]);
        assert_eq!(all("z^4 - z.4", Signs::Dropped), ["z", "4", "z", "4"]);
        assert_eq!(all("số 1.2.3 🍎", Signs::Dropped), ["số", "1.2.3"]);
        assert_eq!(all(" .,", Signs::Kept), [""; 0]);
    }
}
