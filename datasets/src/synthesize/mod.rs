//! The built-in problems: arithmetic word problems with an exact dependency graph, in the four stages.
//!
//! [`synthesize`] is a pure function of seed and index, so that any number of problems can be streamed, split over
//! workers and made again. A story has one running quantity; each event changes it by a given number or by a product
//! of two given numbers. All numbers are small whole numbers: a model of a million parameters can learn them.

mod random;
pub(crate) mod trace;
pub(crate) mod wording;

use std::ops::RangeInclusive;

pub use random::Random;

use crate::arithmetic::number::decimal;
use crate::arithmetic::{Exact, ExpressionError, Operator};
use crate::graph::steps::{self, Operand, Step};
use crate::trajectory::Trajectory;
use wording::{
    ADDITIONS, DIVISIONS, GROUPS_IN, GROUPS_OUT, MULTIPLICATIONS, NAMES, OBJECTS, OPENINGS, QUESTIONS, SUBTRACTIONS,
};

/// How many calculations a problem may have.
pub const STEPS: RangeInclusive<u32> = 1..=6;
/// Share of problems with 1, 2, … 6 calculations, before the range is applied.
pub const STEP_SHARES: [u32; 6] = [26, 32, 22, 10, 6, 4];
/// No value is larger: two digits.
const LARGEST: i64 = 99;

/// One event of a story: its sentence's template and the numbers in it.
struct Event {
    template: &'static str,
    family: String,
    a: i64,
    b: Option<i64>,
    operation: Operator,
}

/// The `index`-th problem of a seed, with `steps` calculations at least and at most (inside [`STEPS`]).
pub fn synthesize(seed: u64, index: u64, steps: RangeInclusive<u32>) -> Trajectory {
    let mut random = Random::new([seed, index, 0x5052_4f42]);
    let wanted = draw_steps(&mut random, &steps);
    loop {
        let start = random.range(2, 40);
        if let Some(events) = draw_events(&mut random, start, wanted) {
            return render(seed, index, start, &events, &mut random);
        }
    }
}

fn draw_steps(random: &mut Random, steps: &RangeInclusive<u32>) -> u32 {
    let allowed = |count: u32| steps.contains(&count);
    let shares: Vec<(u32, u32)> = (1..).zip(STEP_SHARES).filter(|(count, _)| allowed(*count)).collect();
    let total: u32 = shares.iter().map(|(_, share)| share).sum();
    let mut draw = random.range(0, i64::from(total.max(1)) - 1) as u32;
    for (count, share) in &shares {
        if draw < *share {
            return *count;
        }
        draw -= share;
    }
    1
}

/// Events that make exactly `wanted` calculations with all values between 1 and [`LARGEST`]; none if it got stuck.
fn draw_events(random: &mut Random, start: i64, wanted: u32) -> Option<Vec<Event>> {
    let (mut events, mut value, mut left) = (Vec::new(), start, wanted);
    while left > 0 {
        let event = (0..40).find_map(|_| draw_event(random, value, left))?;
        let change = event.a * event.b.unwrap_or(1);
        value = match event.operation {
            Operator::Add => value + change,
            Operator::Subtract => value - change,
            Operator::Multiply => value * change,
            Operator::Divide | Operator::FloorDivide => value / change,
        };
        left -= if event.b.is_some() { 2 } else { 1 };
        events.push(event);
    }
    Some(events)
}

fn draw_event(random: &mut Random, value: i64, left: u32) -> Option<Event> {
    let kind = random.range(0, 9);
    let (name, templates, operation): (_, &[&'static str], _) = match kind {
        0..=2 => ("addition", &ADDITIONS, Operator::Add),
        3..=5 => ("subtraction", &SUBTRACTIONS, Operator::Subtract),
        6 => ("multiplication", &MULTIPLICATIONS, Operator::Multiply),
        7 => ("division", &DIVISIONS, Operator::Divide),
        8 => ("groups in", &GROUPS_IN, Operator::Add),
        _ => ("groups out", &GROUPS_OUT, Operator::Subtract),
    };
    let grouped = kind >= 8;
    if grouped && left < 2 {
        return None;
    }
    let (a, b) = match (operation, grouped) {
        (_, true) => (random.range(2, 9), Some(random.range(2, 9))),
        (Operator::Add, _) => (random.range(1, 30), None),
        (Operator::Subtract, _) => (random.range(1, (value - 1).clamp(1, 30)), None),
        (Operator::Multiply | Operator::Divide | Operator::FloorDivide, _) => (random.range(2, 9), None),
    };
    let change = a * b.unwrap_or(1);
    let fits = match operation {
        Operator::Add => value + change <= LARGEST,
        Operator::Subtract => value > change,
        Operator::Multiply => value <= 9 || (value * change <= LARGEST && change == 2),
        Operator::Divide | Operator::FloorDivide => value % change == 0 && (value / change <= 9 || change == 2),
    };
    let which = random.range(0, templates.len() as i64 - 1) as usize;
    let family = format!("{name} {which}");
    fits.then_some(Event { template: templates[which], family, a, b, operation })
}

fn render(seed: u64, index: u64, start: i64, events: &[Event], random: &mut Random) -> Trajectory {
    let name = *random.choose(&NAMES);
    let other =
        NAMES[(NAMES.iter().position(|n| *n == name).unwrap_or(0) + random.range(1, 19) as usize) % NAMES.len()];
    let object = *random.choose(&OBJECTS);
    let fill = |template: &str, a: i64, b: i64| {
        let text = template.replace("{n}", name).replace("{m}", other).replace("{o}", object);
        text.replace("{a}", &a.to_string()).replace("{b}", &b.to_string())
    };
    let (opening, question) = (*random.choose(&OPENINGS), *random.choose(&QUESTIONS));
    let mut sentences = vec![fill(opening, start, 0)];
    sentences.extend(events.iter().map(|event| fill(event.template, event.a, event.b.unwrap_or(0))));
    sentences.push(fill(question, 0, 0));

    let steps = graph_of(start, events).expect("draw_events keeps every value between 1 and LARGEST");
    let mut given = vec![start.to_string()];
    for event in events {
        given.push(event.a.to_string());
        given.extend(event.b.map(|b| b.to_string()));
    }
    let answer = steps.last().map(|last| decimal(&last.value)).unwrap_or_default();
    let families: Vec<&str> = events.iter().map(|event| event.family.as_str()).collect();
    let meta = serde_json::json!({ "families": families, "steps": steps.len(), "exact": true,
        "operands": steps::names(&steps) });
    Trajectory {
        id: format!("synthetic/{seed}/{index}"),
        source: "synthetic".to_owned(),
        split: String::new(),
        question: sentences.join(" "),
        understand: format!("Given: {}.\nGoal: the final number of {object}.", given.join(", ")),
        plan: trace::plan(&steps),
        execute: trace::execute(&steps),
        verify: trace::verify(&steps, random),
        answer,
        language: "en".to_owned(),
        corrective: false,
        planted: None,
        weights: None,
        meta: meta.to_string(),
    }
}

fn graph_of(start: i64, events: &[Event]) -> Result<Vec<Step>, ExpressionError> {
    let given = |number: i64| Operand::Given(Exact::from_integer(number.into()));
    let mut steps = Vec::new();
    let mut running = given(start);
    for event in events {
        let right = match event.b {
            None => given(event.a),
            Some(b) => steps::push(&mut steps, given(event.a), Operator::Multiply, given(b))?,
        };
        running = steps::push(&mut steps, running, event.operation, right)?;
    }
    Ok(steps)
}

/// Texts with the words of corrective traces, for the tokenizer: the problems themselves hold right traces only.
pub fn corrective_wordings() -> Vec<String> {
    let all = wording::DIFFERS.iter().chain(&wording::ONE_WRONG).chain(&wording::AGREES).chain(&wording::ALL_RIGHT);
    let text: String = all.map(|wording| format!("{wording}\n")).collect();
    vec![text; 50]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::calculation::find;
    use crate::trajectory::Stage;

    #[test]
    fn every_calculation_of_every_problem_holds() {
        for index in 0..5_000 {
            let trajectory = synthesize(11, index, STEPS);
            let lines = find(&trajectory.execute);
            assert!(STEPS.contains(&(lines.len() as u32)) && lines.len() == trajectory.execute.lines().count());
            for line in &lines {
                assert!(line.holds() && line.value >= Exact::from_integer(1.into()), "{}", trajectory.execute);
            }
            assert_eq!(decimal(&lines.last().unwrap().value), trajectory.answer);
            assert_eq!(find(&trajectory.verify).iter().filter(|line| line.holds()).count(), lines.len());
            assert!(Stage::ALL.iter().all(|stage| !trajectory.stage(*stage).trim().is_empty()));
        }
    }

    #[test]
    fn the_same_seed_and_index_give_the_same_problem() {
        assert_eq!(synthesize(3, 4, 2..=2), synthesize(3, 4, 2..=2));
        assert_ne!(synthesize(3, 4, 2..=2).question, synthesize(4, 4, 2..=2).question);
        assert_eq!(synthesize(3, 4, 5..=5).execute.lines().count(), 5);
    }

    #[test]
    fn there_are_at_least_forty_templates() {
        let events = ADDITIONS.len() + SUBTRACTIONS.len() + MULTIPLICATIONS.len() + DIVISIONS.len();
        assert!(events + GROUPS_IN.len() + GROUPS_OUT.len() >= 40);
    }
}
