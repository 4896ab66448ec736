//! Planted errors: one calculation of EXECUTE goes wrong, the later ones carry it on, VERIFY finds it by recomputing,
//! says where, and ends in the right answer. Only for traces whose every EXECUTE line is a calculation.

use crate::calculation::{
    Calculation, Number, Operand, Operation, Written, evaluate, format_number, origins, parse_line, parse_number,
};
use crate::synthesize::{Random, trace};
use crate::trajectory::{Planted, Stage, Trajectory};

/// Kinds of error, as `planted.kind` names them.
pub const KINDS: [&str; 4] = ["arithmetic", "off-by-one", "operation", "operand"];

/// Why no error can be planted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlantError {
    /// A line of EXECUTE is not a calculation.
    #[error("line {0} of EXECUTE is not of the form `a op b = c`")]
    NotACalculation(usize),
    /// A calculation is wrong already.
    #[error("calculation {0} of EXECUTE does not hold already")]
    AlreadyWrong(usize),
    /// EXECUTE does not end in the answer.
    #[error("the last calculation is not the answer: the graph is not exact")]
    NotExact,
    /// No kind of error that was asked for changes the result here.
    #[error("none of the kinds changes the final result")]
    NoEffect,
    /// The trajectory is corrective already.
    #[error("an error is planted already")]
    Twice,
    /// An unknown kind.
    #[error("`{0}` is not a kind of error; there are arithmetic, off-by-one, operation, operand")]
    UnknownKind(String),
}

/// Plants one error, a function of trajectory and seed. The result's id ends in `#planted`.
pub fn plant(trajectory: &Trajectory, kinds: &[&str], seed: u64) -> Result<Trajectory, PlantError> {
    if let Some(kind) = kinds.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(PlantError::UnknownKind((*kind).to_owned()));
    }
    if trajectory.corrective || trajectory.planted.is_some() {
        return Err(PlantError::Twice);
    }
    let calculations = graph(trajectory)?;
    let right = evaluate(&calculations).ok_or(PlantError::NotExact)?;
    let key = crate::trajectory::prompt(&trajectory.question);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..8]);
    let mut random = Random::new([seed, u64::from_le_bytes(first), 0x504c_414e]);
    for _ in 0..64 {
        let place = random.range(0, calculations.len() as i64 - 1) as usize;
        let kind = *random.choose(kinds);
        let Some((slipped, value)) = slip(&calculations, &right, place, kind, &mut random) else { continue };
        let Some(written) = carried(&slipped, place, value) else { continue };
        if written.last() == right.last() || written.iter().any(|v| *v < Number::from_integer(0)) {
            continue;
        }
        let planted = Planted {
            kind: kind.to_owned(),
            calculation: place as u32,
            right: format_number(right[place]),
            wrong: format_number(value),
        };
        return Ok(Trajectory {
            id: format!("{}#planted", trajectory.id),
            execute: trace::execute(&slipped, &written),
            verify: trace::verify(&calculations, &right, &written, Some(place), &mut random),
            corrective: true,
            planted: Some(planted),
            weights: None,
            ..trajectory.clone()
        });
    }
    Err(PlantError::NoEffect)
}

/// The calculations of EXECUTE with the origin of each operand.
pub fn graph(trajectory: &Trajectory) -> Result<Vec<Calculation>, PlantError> {
    let mut lines: Vec<Written> = vec![];
    for (index, line) in trajectory.execute.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let written = parse_line(line).ok_or(PlantError::NotACalculation(index + 1))?;
        if !written.holds() {
            return Err(PlantError::AlreadyWrong(index + 1));
        }
        lines.push(written);
    }
    let last = lines.last().map(|line| line.value);
    if last.is_none() || last != parse_number(trajectory.answer.trim()) {
        return Err(PlantError::NotExact);
    }
    let mut calculations = origins(&lines);
    // A source that knows its graph says so; where it does not, the stated rule of `origins` decides.
    let meta: serde_json::Value = serde_json::from_str(&trajectory.meta).unwrap_or_default();
    if let Some(known) = meta.get("operands").and_then(|operands| operands.as_array())
        && known.len() == calculations.len()
    {
        for (calculation, names) in calculations.iter_mut().zip(known) {
            let operand = |index: usize| names.get(index).and_then(|name| name.as_str()).and_then(operand_of);
            if let (Some(left), Some(right)) = (operand(0), operand(1)) {
                *calculation = Calculation { left, right, ..*calculation };
            }
        }
    }
    Ok(calculations)
}

fn operand_of(name: &str) -> Option<Operand> {
    match name.strip_prefix('#') {
        Some(step) => Some(Operand::Result(step.parse::<usize>().ok()?.checked_sub(1)?)),
        None => parse_number(name).map(Operand::Given),
    }
}

/// The calculations as somebody who slips would do them, and the wrong value at `place`; none if this kind does nothing
/// here.
fn slip(
    calculations: &[Calculation],
    right: &[Number],
    place: usize,
    kind: &str,
    random: &mut Random,
) -> Option<(Vec<Calculation>, Number)> {
    let mut slipped = calculations.to_vec();
    let whole = |number: i64| Number::from_integer(number);
    let value_of = |operand| match operand {
        Operand::Given(number) => number,
        Operand::Result(index) => right[index],
    };
    let current = calculations[place];
    let value = match kind {
        "arithmetic" => {
            let distance = *random.choose(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 20]);
            right[place] + whole(if random.chance(0.5) { distance } else { -distance })
        }
        "off-by-one" => right[place] + whole(if random.chance(0.5) { 1 } else { -1 }),
        "operation" => {
            let operation = *random.choose(&Operation::ALL);
            slipped[place].operation = operation;
            operation.apply(value_of(current.left), value_of(current.right))?
        }
        _ => {
            // A number copied wrongly, or another number of the problem in its place.
            let Operand::Given(number) = current.right else { return None };
            let other = number + whole(*random.choose(&[-10, -3, -2, 2, 3, 10]));
            slipped[place].right = Operand::Given(other);
            current.operation.apply(value_of(current.left), other)?
        }
    };
    let plausible = value > whole(0) && value.is_integer() == right[place].is_integer() && value < whole(1_000_000);
    let operands_stand = match slipped[place].right {
        Operand::Given(number) => number > whole(0),
        Operand::Result(_) => true,
    };
    (value != right[place] && plausible && operands_stand).then_some((slipped, value))
}

/// All values once the one at `place` is `wrong`: later calculations are done rightly with it.
fn carried(calculations: &[Calculation], place: usize, wrong: Number) -> Option<Vec<Number>> {
    let mut values: Vec<Number> = Vec::with_capacity(calculations.len());
    for (index, calculation) in calculations.iter().enumerate() {
        let value_of = |operand| match operand {
            Operand::Given(number) => number,
            Operand::Result(result) => values[result],
        };
        let value = calculation.operation.apply(value_of(calculation.left), value_of(calculation.right))?;
        values.push(if index == place { wrong } else { value });
    }
    Some(values)
}

/// The unplanted control of a planted trajectory.
pub fn twin(trajectory: &Trajectory) -> Trajectory {
    Trajectory { id: format!("{}#twin", trajectory.id), ..trajectory.clone() }
}

/// What a model is given of a trace whose VERIFY it shall write: everything up to and with the VERIFY tag line.
pub fn verify_prompt(trajectory: &Trajectory) -> String {
    let canonical = trajectory.canonical();
    let start = canonical.stages[Stage::Verify.index()].start;
    format!("{}{}\n", &canonical.text[..start], Stage::Verify.tag())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesize::{STEPS, synthesize};

    #[test]
    fn a_planted_error_changes_the_result_and_verify_ends_in_the_right_one() {
        let mut kinds = std::collections::BTreeMap::new();
        for index in 0..2_000 {
            let right = synthesize(5, index, STEPS);
            let Ok(wrong) = plant(&right, &KINDS, 1) else { continue };
            let planted = wrong.planted.clone().unwrap();
            *kinds.entry(planted.kind.clone()).or_insert(0) += 1;
            let lines: Vec<Written> = wrong.execute.lines().map(|line| parse_line(line).unwrap()).collect();
            assert_ne!(format_number(lines.last().unwrap().value), right.answer, "{}", wrong.execute);
            assert_eq!(wrong.answer, right.answer);
            assert_eq!(format_number(lines[planted.calculation as usize].value), planted.wrong);
            for (index, line) in lines.iter().enumerate() {
                let copied = planted.kind == "operation" || planted.kind == "operand";
                assert_eq!(line.holds(), index != planted.calculation as usize || copied, "{}", wrong.execute);
            }
            let checked: Vec<Written> = wrong.verify.lines().filter_map(parse_line).collect();
            assert!(checked.len() == lines.len() && checked.iter().all(Written::holds), "{}", wrong.verify);
            assert_eq!(format_number(checked.last().unwrap().value), right.answer);
            assert!(
                wrong.verify.contains(&format!("step {}", planted.calculation + 1))
                    || wrong.verify.contains(&format!("Step {}", planted.calculation + 1))
            );
        }
        assert!(KINDS.iter().all(|kind| kinds.get(*kind).is_some_and(|count| *count > 50)), "{kinds:?}");
    }

    #[test]
    fn a_trace_that_is_not_exact_is_refused_with_the_reason() {
        let right = synthesize(5, 1, STEPS);
        let prose = Trajectory { execute: "so it is 5".into(), ..right.clone() };
        assert_eq!(plant(&prose, &KINDS, 1), Err(PlantError::NotACalculation(1)));
        let wrong = Trajectory { answer: "1000".into(), ..right.clone() };
        assert_eq!(plant(&wrong, &KINDS, 1), Err(PlantError::NotExact));
        assert!(matches!(plant(&right, &["typo"], 1), Err(PlantError::UnknownKind(_))));
    }

    #[test]
    fn the_prompt_of_a_probe_ends_with_the_tag_line() {
        let prompt = verify_prompt(&synthesize(5, 1, STEPS));
        assert!(prompt.ends_with("\n\n#### VERIFY ####\n"));
    }
}
