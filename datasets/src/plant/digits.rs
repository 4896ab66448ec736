//! Numbers of the question, copied wrongly: two neighbouring digits exchanged, or one misread.

use std::collections::BTreeSet;

use super::read::Reading;
use super::slip::renumbered;
use crate::arithmetic::{Exact, Expression, number};
use crate::graph::steps::Step;

/// Digits that are read for one another.
const MISREAD: [(char, char); 12] = [
    ('1', '7'),
    ('2', '7'),
    ('3', '8'),
    ('4', '9'),
    ('5', '6'),
    ('6', '8'),
    ('7', '1'),
    ('8', '3'),
    ('9', '4'),
    ('6', '5'),
    ('0', '6'),
    ('5', '3'),
];

/// The calculation with one number of the question miscopied; a percentage as it stands there, 20 and not 0.2.
pub(super) fn miscopied(reading: &Reading, step: &Step) -> Vec<Expression> {
    renumbered(step, &|number, origin| {
        let percent = number * number::hundred();
        if origin.is_some() {
            vec![]
        } else if reading.givens.in_digits(number) {
            misread(number).into_iter().collect()
        } else if reading.givens.in_percent(&percent) {
            misread(&percent).into_iter().map(|other| other / number::hundred()).collect()
        } else {
            vec![]
        }
    })
}

fn misread(number: &Exact) -> BTreeSet<Exact> {
    let digits: Vec<char> = number::decimal(number).chars().collect();
    // Zeros at the end are seen as a whole: 500 is not read as 506.
    let last = digits.iter().rposition(|digit| *digit != '0').unwrap_or(0);
    let mut found = BTreeSet::new();
    let mut add = |digits: Vec<char>| {
        let leads_with_zero = digits.first() == Some(&'0') && digits.get(1) != Some(&'.');
        found.extend(number::parse(&digits.into_iter().collect::<String>()).filter(|_| !leads_with_zero));
    };
    for at in 0..=last {
        if at < last && digits[at].is_ascii_digit() && digits[at + 1].is_ascii_digit() {
            let mut exchanged = digits.clone();
            exchanged.swap(at, at + 1);
            add(exchanged);
        }
        for (_, other) in MISREAD.iter().filter(|(digit, _)| *digit == digits[at]) {
            // `0.5` is not read as `6.5`.
            if digits[at] != '0' {
                let mut changed = digits.clone();
                changed[at] = *other;
                add(changed);
            }
        }
    }
    found.remove(number);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_misread_as_its_neighbours() {
        let listed = |text: &str| -> Vec<String> {
            misread(&number::parse(text).unwrap()).iter().map(number::decimal).collect()
        };
        assert_eq!(listed("48"), ["43", "84", "98"]);
        assert_eq!(listed("1200"), ["1700", "2100", "7200"]);
        assert_eq!(listed("20"), ["70"]);
        assert_eq!(listed("0.25"), ["0.23", "0.26", "0.52", "0.75"]);
        assert_eq!(listed("11"), ["17", "71"]);
        assert_eq!(listed("0"), [] as [&str; 0]);
    }
}
