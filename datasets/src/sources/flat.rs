//! JSON objects that hold nothing but texts, read without building a tree: what most records are.

use std::borrow::Cow;

/// The texts of an object that has these fields and no others, each once. None for any other bytes, be they JSON or not:
/// the reader of all JSON judges them. What is read here it reads alike.
pub(super) fn texts<'a, const N: usize>(bytes: &'a [u8], names: [&str; N]) -> Option<[Cow<'a, str>; N]> {
    let holds_control = bytes.iter().fold(false, |found, byte| found | (*byte < b' '));
    if holds_control {
        return None;
    }
    let mut reader = Reader { text: std::str::from_utf8(bytes).ok()?, at: 0 };
    let mut texts = [const { None }; N];
    reader.sign(b'{')?;
    for member in 0..N {
        if member > 0 {
            reader.sign(b',')?;
        }
        let name = reader.string()?;
        let place = names.iter().position(|known| *known == name)?;
        reader.sign(b':')?;
        if texts[place].replace(reader.string()?).is_some() {
            return None;
        }
    }
    reader.sign(b'}')?;
    reader.skip_blanks();
    if reader.at < bytes.len() || texts.iter().any(Option::is_none) {
        return None;
    }
    Some(texts.map(Option::unwrap_or_default))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip_blanks(&mut self) {
        while self.text.as_bytes().get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    /// A sign, with blanks before it.
    fn sign(&mut self, sign: u8) -> Option<()> {
        self.skip_blanks();
        (self.text.as_bytes().get(self.at) == Some(&sign)).then(|| self.at += 1)
    }

    /// A string, with blanks before it.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.sign(b'"')?;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let end = memchr::memchr2(b'"', b'\\', rest.as_bytes())?;
            let piece = &rest[..end];
            let is_end = rest.as_bytes()[end] == b'"';
            if is_end && text.is_empty() {
                text = Cow::Borrowed(piece);
            } else {
                let room = rest.len();
                let text = text.to_mut();
                if text.is_empty() {
                    text.reserve(room);
                }
                text.push_str(piece);
            }
            self.at += end + 1;
            if is_end {
                return Some(text);
            }
            text.to_mut().push(match self.text.as_bytes().get(self.at)? {
                b'n' => '\n',
                b'"' => '"',
                b'\\' => '\\',
                b'/' => '/',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'u' => self.four_digits()?,
                _ => return None,
            });
            self.at += 1;
        }
    }
}

impl Reader<'_> {
    /// The character of `\u2019`; none of a half of a pair.
    fn four_digits(&mut self) -> Option<char> {
        let digits = self.text.get(self.at + 1..self.at + 5)?;
        self.at += 4;
        let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        char::from_u32(u32::from_str_radix(digits, 16).ok()?).filter(|character| is_plain && *character != '\0')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_object_of_the_named_texts_is_read() {
        let read = |text: &'static str| texts(text.as_bytes(), ["a", "b"]).map(|texts| texts.map(Cow::into_owned));
        let both = Some(["x\n\"y\\".to_owned(), "số".to_owned()]);
        assert_eq!(read(r#"{"a": "x\n\"y\\", "b": "số"}"#), both);
        assert_eq!(read(r#"{"a": "x\u000a\u0022y\\", "b": "s\u1ed1"}"#), both);
        assert_eq!(read(r#" { "b" :"số","a":"x\n\"y\\" } "#), both);
        let others = [
            r#"{"a": "x"}"#,
            r#"{"a": "x", "a": "y"}"#,
            r#"{"a": "x", "b": "y", "c": "z"}"#,
            r#"{"a": "x", "b": 1}"#,
            r#"{"a": "x", "b": "y"} z"#,
            r#"{"a": "x", "b": "\u0000"}"#,
            r#"{"a": "x", "b": "\ud83c\udf4e"}"#,
            r#"{"a": "x", "b": "\u+123"}"#,
            r#"{"a": "x", "b": "y}"#,
            "{\"a\": \"x\t\", \"b\": \"y\"}",
        ];
        assert!(others.into_iter().all(|text| read(text).is_none()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_alike(text in r#"\{ ?"(q|a)" ?: ?"(\PC|\\(["\\/nrtbfu]|u[0-9a-fA-F]{4})){0,4}"( ?, ?"(q|a)": "(\\n|\PC){0,3}")?\} ?"#) {
            let all: Option<Value> = serde_json::from_str(&text).ok();
            if let Some([q, a]) = texts(text.as_bytes(), ["q", "a"]) {
                let all = all.unwrap();
                prop_assert_eq!((all["q"].as_str(), all["a"].as_str()), (Some(&*q), Some(&*a)), "{}", text);
                prop_assert_eq!(all.as_object().unwrap().len(), 2);
            }
        }
    }
}
