//! Units: which words are some, and how those of one dimension relate.

use std::collections::BTreeMap;

use super::tokens::{Placed, Token};
use crate::arithmetic::Exact;

/// A unit as a scale and the powers of its base units; an unknown word is a base of its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// What number words beside the unit multiply by: that of `million dollars`.
    pub(super) multiplier: Exact,
    pub(super) scale: Exact,
    pub(super) bases: BTreeMap<String, i32>,
}

/// Names, base and how many (over how many) bases they make.
const UNITS: &[(&[&str], &str, i64, i64)] = &[
    (&["m", "meter", "metre", "mét"], "metre", 1, 1),
    (&["mm", "millimeter", "millimetre", "milimét"], "metre", 1, 1_000),
    (&["cm", "centimeter", "centimetre", "xentimét"], "metre", 1, 100),
    (&["dm", "decimeter", "đêximét"], "metre", 1, 10),
    (&["km", "kilometer", "kilometre", "kilômét"], "metre", 1_000, 1),
    (&["in", "inch", "inche"], "inch", 1, 1),
    (&["ft", "foot", "feet"], "inch", 12, 1),
    (&["yd", "yard"], "inch", 36, 1),
    (&["mi", "mile"], "inch", 63_360, 1),
    (&["s", "sec", "second", "giây"], "second", 1, 1),
    (&["min", "minute", "phút", "mins"], "second", 60, 1),
    (&["h", "hr", "hour", "giờ", "hrs", "tiếng"], "second", 3_600, 1),
    (&["day", "ngày"], "second", 86_400, 1),
    (&["week", "tuần"], "second", 604_800, 1),
    (&["month", "tháng"], "month", 1, 1),
    (&["year", "năm", "yr"], "month", 12, 1),
    (&["mg", "milligram"], "gram", 1, 1_000),
    (&["g", "gram", "gam"], "gram", 1, 1),
    (&["kg", "kilogram", "ki-lô-gam", "kilôgam"], "gram", 1_000, 1),
    (&["tấn", "tonne"], "gram", 1_000_000, 1),
    (&["oz", "ounce"], "ounce", 1, 1),
    (&["lb", "pound", "lbs"], "ounce", 16, 1),
    (&["ml", "mL", "milliliter", "millilitre"], "litre", 1, 1_000),
    (&["l", "L", "liter", "litre", "lít"], "litre", 1, 1),
    (&["cent", "¢", "penny", "pennies", "pence"], "dollar", 1, 100),
    (&["dollar", "usd", "USD", "buck"], "dollar", 1, 1),
    (&["euro", "eur", "EUR"], "euro", 1, 1),
    (&["đồng", "vnd", "VND", "VNĐ", "đ", "dong"], "dong", 1, 1),
    (&["dozen", "tá"], "", 12, 1),
    (&["hundred", "trăm"], "", 100, 1),
    (&["thousand", "nghìn", "ngàn"], "", 1_000, 1),
    (&["million", "triệu", "millions"], "", 1_000_000, 1),
    (&["billion", "tỷ", "tỉ", "billions"], "", 1_000_000_000, 1),
    (&["trillion"], "", 1_000_000_000_000, 1),
    (&["mph"], "mile/hour", 1, 1),
    (&["kph", "kmh"], "km/hour", 1, 1),
    (&["unit", "đơn"], "unit", 1, 1),
];

fn entry(word: &str) -> Option<&'static (&'static [&'static str], &'static str, i64, i64)> {
    let find = |word: &str| UNITS.iter().find(|(names, ..)| names.contains(&word));
    let lower = word.to_lowercase();
    find(word).or_else(|| find(&lower)).or_else(|| find(lower.strip_suffix('s')?))
}

/// Whether a word is a unit of the table, or a percent or degree.
pub(super) fn is_known(word: &str) -> bool {
    entry(word).is_some() || is_percent(word) || is_degree(word)
}

/// `percent`, `pct`, `phần trăm` (its first word).
pub(super) fn is_percent(word: &str) -> bool {
    matches!(word.to_lowercase().as_str(), "percent" | "pct" | "percents" | "percentage" | "phần trăm" | "per cent")
}

/// `degrees`, `độ`.
pub(super) fn is_degree(word: &str) -> bool {
    matches!(word.to_lowercase().as_str(), "degree" | "degrees" | "deg" | "độ")
}

/// Single letters are units after a space at the end (`5 m`), and after `/` or `·` of a unit (`km/h`).
pub(super) fn mark(mut tokens: Vec<Placed>) -> Vec<Placed> {
    for index in 1..tokens.len() {
        let Token::Name(name) = &tokens[index].token else { continue };
        if !matches!(name.as_str(), "m" | "g" | "l" | "L" | "h" | "s" | "đ") {
            continue;
        }
        let before = &tokens[index - 1].token;
        let ends = tokens[index + 1..].first().is_none_or(|next| {
            matches!(next.token, Token::Mark('^' | ',' | ';' | '/') | Token::Connector(_) | Token::Close(_))
        });
        let amount = matches!(before, Token::Number { .. }) && tokens[index].spaced && ends;
        let power = matches!(before, Token::Number { .. })
            && name == "m"
            && matches!(tokens.get(index + 1).map(|t| &t.token), Some(Token::Mark('^')))
            && tokens.len() >= index + 3
            && tokens.len() <= index + 5
            && tokens[..index - 1].iter().all(|t| !matches!(t.token, Token::Name(_)));
        let per = matches!(before, Token::Mark('/'))
            && index >= 2
            && matches!(tokens[index - 2].token, Token::Word(_))
            && ends;
        if amount || power || per {
            tokens[index].token = Token::Word(name.clone());
        }
    }
    tokens
}

/// The unit that words make: `square feet`, `cm^2`, `km / h`, `miles per hour`.
pub(super) fn unit(text: &str) -> Unit {
    let mut unit = Unit { multiplier: Exact::one(), scale: Exact::one(), bases: BTreeMap::new() };
    let spaced = text.replace('/', " / ").replace('^', " ^ ").replace('*', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (mut sign, mut power) = (1, 1);
    let mut index = 0;
    while let Some(word) = words.get(index) {
        index += 1;
        match word.to_lowercase().as_str() {
            "/" | "per" | "mỗi" | "trên" => sign = -1,
            "square" | "sq" | "vuông" => power = 2,
            "cubic" | "khối" | "cu" => power = 3,
            "of" | "a" | "an" | "the" | "in" if words.len() > 1 => {}
            _ => {
                let mut exponent = std::mem::replace(&mut power, 1);
                // `mét vuông`: the Vietnamese adjective follows.
                match words.get(index).copied() {
                    Some("^") => {
                        exponent = words
                            .get(index + 1)
                            .and_then(|n| n.parse().ok())
                            .filter(|n| (-9..=9).contains(n))
                            .unwrap_or(1);
                        index += 2;
                    }
                    Some("vuông" | "squared") => (exponent, index) = (2, index + 1),
                    Some("khối" | "cubed") => (exponent, index) = (3, index + 1),
                    _ => {}
                }
                unit.times(word, sign * exponent);
            }
        }
    }
    unit.bases.retain(|_, power| *power != 0);
    unit
}

impl Unit {
    fn times(&mut self, word: &str, exponent: i32) {
        let Some((_, base, over, under)) = entry(word) else {
            let lower = word.to_lowercase();
            let singular = lower.strip_suffix('s').filter(|s| s.len() > 2).unwrap_or(&lower);
            *self.bases.entry(singular.to_owned()).or_default() += exponent;
            return;
        };
        if let Some((above, below)) = base.split_once('/') {
            self.times(above, exponent);
            self.times(below, -exponent);
            return;
        }
        let factor = Exact::new((*over).into(), (*under).into());
        if base.is_empty() {
            self.multiplier *= factor;
        } else {
            self.scale *= factor.pow(exponent);
            *self.bases.entry((*base).to_owned()).or_default() += exponent;
        }
    }
}

/// The unit of one word of the table as text, for messages in tests.
#[cfg(test)]
fn written(text: &str) -> String {
    let unit = unit(text);
    let bases: Vec<String> = unit.bases.iter().map(|(base, power)| format!("{base}^{power}")).collect();
    format!("{} {}", crate::arithmetic::number::exact(&(unit.multiplier * unit.scale)), bases.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_one_dimension_relate() {
        let cases = [
            ("cm", "1/100 metre^1"),
            ("square feet", "144 inch^2"),
            ("cm^2", "1/10000 metre^2"),
            ("km/h", "5/18 metre^1 second^-1"),
            ("kilometers per hour", "5/18 metre^1 second^-1"),
            ("mét vuông", "1 metre^2"),
            ("apples", "1 apple^1"),
            ("million dollars", "1000000 dollar^1"),
            ("units^2", "1 unit^2"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(text), expected, "{text}");
        }
    }
}
