//! Unicode's normal form NFC, which all texts are brought to.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The text in NFC: itself, nearly always.
pub(crate) fn nfc(text: &str) -> Cow<'_, str> {
    // Below U+0300 and in most of the punctuation nothing composes.
    let is_inert = |character: char| matches!(character, ..'\u{300}' | '\u{2010}'..='\u{2027}');
    let is_normal = || text.chars().all(is_inert) || is_nfc_quick(text.chars()) == IsNormalized::Yes;
    if text.is_ascii() || is_normal() { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_character_that_is_passed_over_is_changed_by_nfc() {
        for character in ('\0'..'\u{300}').chain('\u{2010}'..='\u{2027}') {
            assert!([character].into_iter().nfc().eq([character]), "{character:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_the_normal_form(text in "(\\PC|e\u{301}|\u{2126}|’|é|\u{340}){0,12}") {
            prop_assert_eq!(nfc(&text), text.nfc().collect::<String>());
        }
    }
}
