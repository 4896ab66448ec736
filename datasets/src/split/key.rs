//! When two questions are the same problem: equal after normalisation of typing, not of content.
//!
//! Invariant: text without LaTeX (no backslash, no formula in dollars, no script in braces) has had the same key since
//! the first version, and splits by it stay as they are.

use super::latex::{self, Part};
use crate::blanks;
use crate::nfc::nfc;

/// A question as the split and the search for duplicates see it: NFC, lower case, white space and invisible characters
/// collapsed, quotation marks and dashes made plain, no full stop or white space at the end. Numbers, signs and
/// decimal points stay. A question that nothing would be left of stays as it is.
///
/// LaTeX is brought to one writing as well (`x^{2}` is `x^2`, `\log_82` is `\log_8 2`, `\[a = b.\]` is `$a=b$.`); in
/// formulas the case stays, and so does the code of drawings.
pub fn normalise(question: &str) -> String {
    let has_latex = may_have_latex(question);
    if !has_latex && question.is_ascii() {
        return ended(ascii(question), question);
    }
    let mut out = Normalised { text: String::with_capacity(question.len()), gap: false };
    if has_latex {
        let characters: Vec<char> = nfc(question).chars().collect();
        for part in latex::parts(&characters) {
            out.push_part(part);
        }
    } else {
        nfc(question).chars().for_each(|character| out.push_prose(character));
    }
    ended(out.text, question)
}

/// Without full stops and white space at the end, unless nothing is left.
fn ended(mut text: String, question: &str) -> String {
    text.truncate(text.trim_end_matches(['.', ' ']).len());
    if text.is_empty() { question.trim().to_owned() } else { text }
}

/// A short key of a problem, 16 hexadecimal digits of the normalised question's hash.
pub fn problem_key(question: &str) -> String {
    blake3::hash(normalise(question).as_bytes()).to_hex()[..16].to_owned()
}

/// The same for a text of ASCII without LaTeX.
fn ascii(question: &str) -> String {
    let lower = question.to_ascii_lowercase();
    if blanks::are_single(&lower) && memchr::memchr(b'`', lower.as_bytes()).is_none() {
        return lower;
    }
    let is_white = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let is_gap = |pair: &[u8]| is_white(&pair[0]) && (pair[0] != b' ' || is_white(&pair[1]));
    let start = |text: &str| text.bytes().position(|byte| !is_white(&byte)).unwrap_or(text.len());
    let mut rest = &lower[..lower.bytes().rposition(|byte| !is_white(&byte)).map_or(0, |last| last + 1)];
    let mut text = String::with_capacity(rest.len());
    rest = &rest[start(rest)..];
    while let Some(end) = rest.as_bytes().windows(2).position(is_gap) {
        text.push_str(&rest[..end]);
        text.push(' ');
        rest = &rest[end..];
        rest = &rest[start(rest)..];
    }
    text.push_str(rest);
    if memchr::memchr(b'`', text.as_bytes()).is_some() { text.replace('`', "'") } else { text }
}

/// A dollar before a digit opens no formula where all dollars do and there is no backslash: the next one is money again.
fn may_have_latex(question: &str) -> bool {
    let bytes = question.as_bytes();
    let is_money = |at: usize| bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    !memchr::memchr_iter(b'$', bytes).all(is_money)
        || memchr::memchr3_iter(b'\\', b'{', b'[', bytes).any(|at| match bytes[at] {
            b'{' => bytes[..at].ends_with(b"^") || bytes[..at].ends_with(b"_"),
            b'[' => bytes[at..].starts_with(b"[asy]"),
            _ => true,
        })
}

/// A character without its typographic variants; none if it is invisible.
pub(super) fn plain(character: char) -> Option<char> {
    match character {
        '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{00ad}' => None,
        '‘' | '’' | '`' => Some('\''),
        '“' | '”' => Some('"'),
        '‐' | '‑' | '–' | '—' | '−' => Some('-'),
        other => Some(other),
    }
}

struct Normalised {
    text: String,
    gap: bool,
}

impl Normalised {
    fn push_prose(&mut self, character: char) {
        if character.is_ascii() {
            return self.push(character.to_ascii_lowercase());
        }
        character.to_lowercase().for_each(|lower| self.push(lower));
    }

    fn push(&mut self, character: char) {
        let Some(character) = plain(character) else { return };
        if character.is_whitespace() {
            self.space();
            return;
        }
        if std::mem::take(&mut self.gap) {
            self.text.push(' ');
        }
        self.text.push(character);
    }

    /// White space before the next character, unless the text begins with it.
    fn space(&mut self) {
        self.gap = !self.text.is_empty();
    }

    fn push_part(&mut self, part: Part<'_>) {
        match part {
            Part::Text(text) => self.push_text(text),
            Part::Drawing(code) => {
                self.space();
                self.push_all("[asy]");
                code.iter().for_each(|character| self.push(*character));
                self.push_all("[/asy]");
                self.space();
            }
            Part::Formula(source) => {
                let (formula, punctuation) = latex::formula(source);
                self.space();
                self.push_all(&format!("${formula}$"));
                self.push_all(&punctuation);
                self.space();
            }
            Part::Command(source) => {
                let (formula, punctuation) = latex::formula(source);
                self.space();
                self.push_all(&formula);
                self.push_all(&punctuation);
                self.space();
            }
            // Prose as `x^2` is, so its case goes as there.
            Part::Script(source) => latex::formula(source).0.chars().for_each(|character| self.push_prose(character)),
        }
    }

    fn push_all(&mut self, text: &str) {
        text.chars().for_each(|character| self.push(character));
    }

    /// Prose, with the escapes of LaTeX: `\$` is a dollar, `\\` and `\,` are white space.
    fn push_text(&mut self, text: &[char]) {
        let mut characters = text.iter().copied();
        let digit_before = self.text.ends_with(|last: char| last.is_ascii_digit());
        if let Some(first) = text.first() {
            match first {
                // A number does not run into the script before it, and a sentence's end does not leave its formula.
                '0'..='9' if digit_before => self.space(),
                '.' | ',' | ';' | ':' | '?' | '!' | ')' => self.gap = false,
                _ => {}
            }
        }
        while let Some(character) = characters.next() {
            if character != '\\' {
                self.push_prose(character);
                continue;
            }
            match characters.next() {
                Some(escaped @ ('$' | '%' | '#' | '&')) => self.push(escaped),
                Some('\\' | ',' | ';' | ':' | '!' | '>') => self.space(),
                Some(white) if white.is_whitespace() => self.space(),
                Some(other) => {
                    self.push('\\');
                    self.push_prose(other);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    /// The key's text before LaTeX was looked at.
    fn without_latex(question: &str) -> String {
        let mut out = Normalised { text: String::new(), gap: false };
        question.nfc().for_each(|character| out.push_prose(character));
        let text = out.text.trim_end_matches(['.', ' ']);
        if text.is_empty() { question.trim().to_owned() } else { text.to_owned() }
    }

    #[test]
    fn what_nothing_is_left_of_is_no_duplicate_of_its_like() {
        for (one, other) in [(".", r" \\\ ."), ("...", "."), (r"\\", r"\,")] {
            assert!(!normalise(one).is_empty());
            assert_ne!(normalise(one), normalise(other));
        }
    }

    #[test]
    fn one_problem_in_two_writings_has_one_key() {
        let pairs = [
            (r"Solve $3y^2 + 7y - 4=0$. What is $(r-1)(s-1)$?", r"Solve $3y^{2}+7y-4=0$. What is $(r-1)(s-1)$?"),
            (r"Find $\log_9 3$.", r"Find $\log_93$."),
            (r"Find \log_9 3.", r"find \log_93"),
            ("Compute x^{2} + 1 for a_{n}", "Compute x^2 + 1 for a_n"),
            (r"We know $h(9) + h(3) = 8.$ Find $h$.", r"We know $h(9)+h(3)=8$. Find $h$."),
            ("It holds\n\\[b_k < b_{k + 1}\\]where $k \\ge 7.$", r"It holds $b_k<b_{k+1}$ where $k\geq 7$."),
            ("$\\log_{12}\\tan t - \\cos\nt= -2$", r"$\log_{12} \tan t - \cos t = -2$"),
            (r"Find $pq\,$.", "Find $pq$.\n"),
            (r"Given  $9^{p}=7,$ what is $k\cdot p$", r"Given $9^p = 7$, what is $k \cdot p$"),
            (r"$\dfrac12 + \frac{1}{2} + \tfrac 1 2$", r"$\frac{1}{2}+\frac12+\frac 12$"),
            (r"$\left( x \right)^{\circ} = 10{,}000$", r"$(x)^\circ = 10,000$"),
            (r"$\sqrt{2} + \sqrt[3]{x}$", r"$\sqrt2+\sqrt[3] x$"),
            (r"It costs \$5 or $x$ dollars", r"it costs \$5 or \(x\) dollars"),
            ("\\begin{align*} x &= 1 \\\\ y &= 2 \\end{align*}", r"\begin{align*}x&=1\\y&=2\end{align*}"),
            ("a curve $y = x^2 + bx + c$", "a curve $y=x^2+bx+c$"),
            ("cafe\u{301} $x^{2}$", "caf\u{e9} $x^2$"),
        ];
        for (one, other) in pairs {
            assert_eq!(normalise(one), normalise(other));
        }
    }

    #[test]
    fn what_differs_in_content_differs_in_key() {
        let pairs = [
            ("$z^4 + z^2 + 5$", "$z^4 - z^2 + 5$"),
            ("$22.5$", "$225$"),
            (r"$\log_{93}$", r"$\log_93$"),
            ("$2^{10}$", "$2^10$"),
            ("x^{2}0", "x^20"),
            ("x^{20}", "x^20 0"),
            (r"$\Delta$", r"$\delta$"),
            ("$A + a$", "$a + a$"),
            (r"$\frac{12}{3}$", r"$\frac{1}{23}$"),
            (r"$\frac{1}{23}$", r"$\frac{1}{2}3$ "),
            ("$n!$", "$n$"),
            ("[asy]draw((0,0)--(1,2));[/asy] Find it", "[asy]draw((0,0)--(2,1));[/asy] Find it"),
            ("$(1,2]$", "$[1,2)$"),
            ("$1 2$", "$12$"),
            (r"$x \le 1$", r"$x < 1$"),
            (r"$\sqrt{xy}$", r"$\sqrt{x}y$"),
        ];
        for (one, other) in pairs {
            assert_ne!(normalise(one), normalise(other));
        }
        // Two braces side by side are not two arguments of one digit, and money is no formula.
        assert_eq!(normalise(r"$\frac{1}{2}3$"), normalise(r"$\frac123$"));
        assert_eq!(normalise("A $5 ticket, two $30 ones and 4$."), "a $5 ticket, two $30 ones and 4$");
    }

    proptest! {
        #[test]
        fn text_without_latex_keeps_its_key(text in "[^\\\\$^_\\[]{0,80}", money in 0u32..999) {
            prop_assert_eq!(normalise(&text), without_latex(&text));
            let text = format!("{text} for ${money} or ${money} each, x^2_3");
            prop_assert_eq!(normalise(&text), without_latex(&text));
        }

        #[test]
        fn any_text_has_a_key_and_white_space_around_it_does_not_matter(text in "[\\\\${}^_a-c0-2 .,(\\[\\])\\n]{0,40}") {
            let key = normalise(&text);
            prop_assert_eq!(normalise(&format!(" {text}\n")), key);
        }
    }

    #[test]
    fn a_megabyte_of_openings_takes_no_time() {
        for opening in ["{", "$", "\\(", "\\[", "[asy]", "\\begin{a}", "^{", "\\frac", "\\sqrt[", "$ $a", "\\", "_{{"] {
            let started = std::time::Instant::now();
            normalise(&opening.repeat((1 << 20) / opening.len()));
            assert!(started.elapsed().as_secs() < 5, "{opening}: {:?}", started.elapsed());
        }
    }

    fn official(name: &str, field: &str) -> Vec<(String, String)> {
        let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/{}"), name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(!text.is_empty() || std::env::var("CI").as_deref() != Ok("true"), "{path} is missing");
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            (text("unique_id"), text(field))
        };
        text.split('\n').filter(|line| !line.is_empty()).map(row).collect()
    }

    #[test]
    fn the_official_files_have_the_pairs_that_were_counted_by_hand_and_no_others() {
        let mut math = official("math/train.jsonl", "problem");
        math.extend(official("math/test.jsonl", "problem"));
        let mut same = std::collections::BTreeMap::<String, Vec<&str>>::new();
        for (id, problem) in &math {
            same.entry(normalise(problem)).or_default().push(id.trim_end_matches(".json"));
        }
        let pairs: Vec<_> = same.into_values().filter(|ids| ids.len() > 1).collect();
        assert!(math.is_empty() || pairs.len() == 9 && pairs.iter().all(|pair| pair.len() == 2), "{pairs:?}");
        for name in ["gsm8k/train.jsonl", "gsm8k/test.jsonl"] {
            let changed = |(_, question): &&(String, String)| normalise(question) != without_latex(question);
            let rows = official(name, "question");
            let changed: Vec<_> = rows.iter().filter(changed).collect();
            assert!(changed.is_empty(), "{name}: {} keys are new: {:?}", changed.len(), changed.first());
        }
    }
}
