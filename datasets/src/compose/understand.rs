//! UNDERSTAND of a problem: what is given, what else is used, and the goal.

use std::cell::LazyCell;

use super::listed::Listed;
use super::words::Words;
use super::{Problem, Step, given};
use crate::arithmetic::marks::marks;
use crate::arithmetic::number;
use crate::blanks;
use crate::scores::derivation::Givens;

/// UNDERSTAND: the quantities of the question in its order, then the other numbers used that no step makes, and the goal.
pub(super) fn understand(problem: &Problem<'_>, steps: &[Step], words: Words) -> String {
    let asked = given::without_drawings_and_options(problem.question);
    let marks = marks(&asked);
    let quantities = given::quantities(&asked, &marks, problem.language);
    let givens = LazyCell::new(|| Givens::values_of_marks(&asked, &marks));
    let (mut stated, mut known) = (Listed::new(words.separator()), Listed::new(words.separator()));
    let mut text = String::with_capacity(24);
    let mut push = |list: &mut Listed, other: &Listed, write: &dyn Fn(&mut String)| {
        text.clear();
        write(&mut text);
        words.spell_numbers(&mut text, 0);
        if !other.holds(&text) {
            list.add(&text);
        }
    };
    for quantity in &quantities {
        push(&mut stated, &known, &|text| quantity.push_text(text));
    }
    for (index, step) in steps.iter().enumerate() {
        step.expression.each_number(&mut |value| {
            let made = || steps[..index].iter().any(|earlier| earlier.value == *value);
            if quantities.iter().any(|quantity| quantity.is_used_as(value)) || !givens.holds(value) && made() {
                return;
            }
            let (list, other) = if givens.holds(value) { (&mut stated, &known) } else { (&mut known, &stated) };
            push(list, other, &|text| number::push_decimal(text, value));
        });
    }
    let mut lines = String::with_capacity(stated.text.len() + known.text.len() + 160);
    for (name, list) in [(words.given(), &stated), (words.also_used(), &known)] {
        if !list.text.is_empty() {
            lines.extend([name, ": ", &list.text, ".\n"]);
        }
    }
    lines.extend([words.goal(), ": "]);
    push_goal(&mut lines, &asked);
    lines
}

/// The last sentence that asks, else the last one, on one line.
fn push_goal(line: &mut String, asked: &str) {
    let mut last = "";
    let mut end = asked.len();
    let ends = memchr::memchr3_iter(b'.', b'?', b'!', asked.as_bytes()).rev();
    for (start, mark) in ends.map(|at| (at + 1, asked.as_bytes()[at])).chain([(0, 0)]) {
        let after = &asked[start..];
        // A mark within a number or a word ends nothing, and neither does `n! = 6`.
        let is_inside = !after.is_empty() && !after.starts_with(char::is_whitespace);
        let is_factorial = mark == b'!' && after.trim_start().starts_with(|next: char| !next.is_uppercase());
        if mark != 0 && (is_inside || is_factorial) {
            continue;
        }
        let sentence = asked[start..end].trim();
        end = start;
        if sentence.ends_with('?') {
            last = sentence;
            break;
        }
        if last.is_empty() {
            last = sentence;
        }
    }
    if blanks::are_single(last) {
        return line.push_str(last);
    }
    for (index, word) in last.split_whitespace().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
}
