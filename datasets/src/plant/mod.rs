//! Planted errors: one calculation of EXECUTE goes wrong, the later ones carry it on, VERIFY finds it by recomputing,
//! says where, and ends in the right answer.
//!
//! Only for traces whose graph is exact: every line of EXECUTE is a calculation, all of them hold, and the last one makes
//! the answer. Any other is refused with the reason. What is planted is a function of trajectory, kinds and seed.
//!
//! - `read` takes the graph from the trace; `slip`, `digits` and `units` know which slips a calculation allows, `plausible`
//!   which of them do not give themselves away; `carry` calculates on, `verify` writes the check.
//! - `built_in` is the same for the first four kinds in built-in problems, kept draw for draw.

mod built_in;
mod carry;
mod digits;
mod kinds;
mod plausible;
mod read;
mod slip;
mod units;
mod verify;
mod wording;

#[cfg(test)]
mod tests;

use crate::arithmetic::number;
use crate::synthesize::Random;
use crate::trajectory::{Planted, Stage, Trajectory};
pub use kinds::{BUILT_IN_KINDS, KINDS, Kind, Mix};
use read::Reading;

/// Why no error can be planted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlantError {
    /// A line of EXECUTE is not a calculation.
    #[error("line {0} of EXECUTE is not just a calculation, `expression = value`")]
    NotACalculation(usize),
    /// A calculation is wrong already.
    #[error("calculation {0} of EXECUTE does not hold already")]
    AlreadyWrong(usize),
    /// EXECUTE does not end in the answer, or the source says that its calculations are not all.
    #[error("the graph is not exact: the source says so, or the last calculation does not make the answer")]
    NotExact,
    /// No kind of error that was asked for changes the result here without giving itself away.
    #[error("none of the kinds fits: each would leave the final result as it is, or give itself away")]
    NoEffect,
    /// The trajectory is corrective already.
    #[error("an error is planted already")]
    Twice,
    /// An unknown kind.
    #[error("`{0}` is not a kind of error; there are {kinds}", kinds = KINDS.join(", "))]
    UnknownKind(String),
    /// A kind that was given two weights.
    #[error("`{0}` is given twice; give each kind once, with its weight")]
    KindTwice(&'static str),
    /// A weight that is none.
    #[error("`{0}`: the weight is a whole number from 1 to {max}; leave a kind out to draw it never", max = Mix::WEIGHT_MAX)]
    BadWeight(String),
}

impl PlantError {
    /// The reason in one word, for counting.
    pub const fn code(&self) -> &'static str {
        match self {
            PlantError::NotACalculation(_) => "not_a_calculation",
            PlantError::AlreadyWrong(_) => "already_wrong",
            PlantError::NotExact => "not_exact",
            PlantError::NoEffect => "no_kind_fits",
            PlantError::Twice => "planted_already",
            PlantError::UnknownKind(_) => "unknown_kind",
            PlantError::KindTwice(_) => "kind_twice",
            PlantError::BadWeight(_) => "bad_weight",
        }
    }
}

/// The kinds to plant in a trajectory where nobody asks for others: [`BUILT_IN_KINDS`] in built-in problems, else all.
pub fn kinds_of(trajectory: &Trajectory) -> &'static [&'static str] {
    if trajectory.source == "synthetic" { &BUILT_IN_KINDS } else { &KINDS }
}

/// Plants one error, each kind with the same weight. The result's id ends in `#planted`.
pub fn plant(trajectory: &Trajectory, kinds: &[&str], seed: u64) -> Result<Trajectory, PlantError> {
    plant_mix(trajectory, &Mix::equal(kinds)?, seed)
}

/// Plants one error of a kind drawn by weight. A kind that does not fit anywhere in the trace gives way to the others.
pub fn plant_mix(trajectory: &Trajectory, mix: &Mix, seed: u64) -> Result<Trajectory, PlantError> {
    if trajectory.corrective || trajectory.planted.is_some() {
        return Err(PlantError::Twice);
    }
    let reading = Reading::of(trajectory)?;
    let key = crate::trajectory::prompt(&trajectory.question);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..8]);
    let mut random = Random::new([seed, u64::from_le_bytes(first), 0x504c_414e]);
    let recorded = reading.origins_known && reading.recomputes && mix.is_built_in();
    let draw = if recorded { built_in::draw } else { slip::draw };
    let (slip, values) = draw(&reading, mix, &mut random).ok_or(PlantError::NoEffect)?;
    let place = slip.place;
    let planted = Planted {
        kind: slip.kind.name().to_owned(),
        calculation: place as u32,
        right: number::decimal(&reading.steps[place].value),
        wrong: number::decimal(&values[place]),
    };
    Ok(Trajectory {
        id: format!("{}#planted", trajectory.id),
        execute: carry::execute(&reading, &carry::lines(&reading.steps, &slip, &values)),
        verify: verify::verify(&reading, &slip, &values, &mut random).ok_or(PlantError::NoEffect)?,
        corrective: true,
        planted: Some(planted),
        weights: None,
        ..trajectory.clone()
    })
}

/// The unplanted control of a planted trajectory.
pub fn twin(trajectory: &Trajectory) -> Trajectory {
    Trajectory { id: format!("{}#twin", trajectory.id), ..trajectory.clone() }
}

/// Writes the other's id into `meta.twin` of both.
pub fn name_each_other(planted: &mut Trajectory, twin: &mut Trajectory) {
    let named = |meta: &str, id: &str| {
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(meta).unwrap_or_default();
        fields.insert("twin".to_owned(), id.into());
        serde_json::Value::Object(fields).to_string()
    };
    planted.meta = named(&planted.meta, &twin.id);
    twin.meta = named(&twin.meta, &planted.id);
}

/// What a model is given of a trace whose VERIFY it shall write: everything up to and with the VERIFY tag line.
pub fn verify_prompt(trajectory: &Trajectory) -> String {
    let canonical = trajectory.canonical();
    let start = canonical.stages[Stage::Verify.index()].start;
    format!("{}{}\n", &canonical.text[..start], Stage::Verify.tag())
}
