//! RFS, faithfulness: how many derivations a student shares with the teacher.

use serde::{Deserialize, Serialize};

use super::derivation::{Givens, Readings, derivations};
use super::stages;
use crate::arithmetic::calculation::find;
use crate::trajectory::Stage;

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Share of the student's derivations that the teacher has.
    pub precision: f64,
    /// Share of the teacher's derivations that the student has.
    pub recall: f64,
    /// `2 p r / (p + r)`, 0 if both are 0.
    pub f1: f64,
}

/// Compares the derivations of two texts' EXECUTE stages; a text without that stage counts as a whole. None if the
/// teacher calculates nothing: then there is nothing to be faithful to.
///
/// The structure is compared, not the sums: `48 / 2 = 25` is the derivation `48 / 2`; a slip costs accuracy, not
/// faithfulness. Derivations are sets: the same one twice counts once. Of the readings that an operand with two
/// origins allows any may match, and each derivation of one side is matched with one of the other at most.
pub fn agreement(question: &str, teacher: &str, student: &str) -> Option<Agreement> {
    let givens = Givens::of_question(question);
    let (teacher, student) = (distinct(teacher, &givens), distinct(student, &givens));
    if teacher.is_empty() {
        return None;
    }
    let shared = matching(&student, &teacher) as f64;
    let ratio = |total: usize| if total == 0 { 0.0 } else { shared / total as f64 };
    let (precision, recall) = (ratio(student.len()), ratio(teacher.len()));
    let f1 = if shared == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    Some(Agreement { precision, recall, f1 })
}

fn distinct(text: &str, givens: &Givens) -> Vec<Readings> {
    let execute = stages::parse(text)[Stage::Execute.index()].clone();
    let mut found: Vec<Readings> = Vec::new();
    for readings in derivations(&find(execute.map_or(text, |range| &text[range])), givens) {
        if !found.contains(&readings) {
            found.push(readings);
        }
    }
    found
}

/// The size of a largest matching between derivations that share a reading (augmenting paths).
fn matching(left: &[Readings], right: &[Readings]) -> usize {
    let mut partner: Vec<Option<usize>> = vec![None; right.len()];
    let mut size = 0;
    for start in 0..left.len() {
        size += usize::from(augment(start, left, right, &mut partner, &mut vec![false; right.len()]));
    }
    size
}

fn augment(
    from: usize,
    left: &[Readings],
    right: &[Readings],
    partner: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (index, candidate) in right.iter().enumerate() {
        if seen[index] || left[from].is_disjoint(candidate) {
            continue;
        }
        seen[index] = true;
        let free = match partner[index] {
            None => true,
            Some(other) => augment(other, left, right, partner, seen),
        };
        if free {
            partner[index] = Some(from);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "April 48, May half of it, and 6 each";

    fn f1(teacher: &str, student: &str) -> f64 {
        agreement(QUESTION, teacher, student).unwrap().f1
    }

    #[test]
    fn the_cut_into_steps_does_not_matter() {
        assert_eq!(f1("48 / 2 = 24\n48 + 24 = 72", "48 + 48 / 2 = 72"), 1.0);
        assert_eq!(f1("48 / 2 = 24\n48 + 24 = 72", "48 / 2 = 24\n24 + 48 = 72\n72 = 72"), 1.0);
    }

    #[test]
    fn what_is_missing_costs_recall_and_what_is_extra_precision() {
        let two = "48 / 2 = 24\n48 + 24 = 72";
        let one = agreement(QUESTION, two, "48 / 2 = 24").unwrap();
        assert_eq!((one.precision, one.recall), (1.0, 0.5));
        let extra = agreement(QUESTION, two, "48 / 2 = 24\n48 + 24 = 72\n72 / 6 = 12").unwrap();
        assert_eq!((extra.precision, extra.recall), (2.0 / 3.0, 1.0));
        assert_eq!(f1(two, "no sums at all"), 0.0);
        assert_eq!(agreement(QUESTION, "prose", two), None);
    }

    #[test]
    fn only_execute_counts_where_there_is_one() {
        let student = "#### EXECUTE ####\n48 / 2 = 24\n\n#### VERIFY ####\n24 * 2 = 48\nFinal Answer: 24";
        assert_eq!(f1("48 / 2 = 24", student), 1.0);
    }

    #[test]
    fn the_right_number_by_another_road_is_not_the_teachers() {
        assert_eq!(f1("48 / 6 = 8", "48 - 40 = 8"), 0.0);
    }
}
