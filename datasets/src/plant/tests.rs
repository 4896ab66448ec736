use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Map;

use super::*;
use crate::arithmetic::{Exact, Expression, Stated, calculation};
use crate::compose::{self, Problem};
use crate::scores::derivation::Givens;
use crate::scores::score_probe;
use crate::scores::svr::canonical;
use crate::sources::Source;
use crate::sources::files::Input;
use crate::sources::parse::{Collected, Options, parse};
use crate::synthesize::{STEPS, synthesize};

/// What makes a planted trace one: each property of the module's promise, on the texts alone.
fn is_well_planted(right: &Trajectory, wrong: &Trajectory, kind: &str) {
    let seen = format!("{}\n{}\n{}\n{:?}", right.execute, wrong.execute, wrong.verify, wrong.planted);
    let planted = wrong.planted.clone().unwrap();
    assert_eq!(planted.kind, kind);
    assert_eq!(wrong.id, format!("{}#planted", right.id));
    let kept = |t: &Trajectory| [&t.question, &t.understand, &t.plan, &t.answer, &t.source].map(String::clone);
    assert_eq!(kept(right), kept(wrong));
    let (before, after) = (calculation::find(&right.execute), calculation::find(&wrong.execute));
    let place = planted.calculation as usize;
    let is_missing = kind == "dropped-step";
    assert_eq!(after.len() + usize::from(is_missing), before.len(), "{seen}");
    assert_eq!(after.len(), wrong.execute.lines().count(), "{seen}");
    assert_eq!(number::decimal(&before[place].value), planted.right, "{seen}");
    assert_ne!(planted.right, planted.wrong);
    assert_ne!(number::decimal(&after.last().unwrap().value), right.answer, "{seen}");

    // The value of each planned calculation in the planted trace.
    let stand_in = number::parse(&planted.wrong);
    let line_of = |index: usize| if is_missing && index > place { index - 1 } else { index };
    let carried = |index: usize| match is_missing && index == place {
        true => stand_in.clone().unwrap(),
        false => after[line_of(index)].value.clone(),
    };
    let givens = Givens::of_question(&right.question);
    let names = right.meta.contains("operands");
    for (index, planned) in before.iter().enumerate() {
        if index == place {
            assert_eq!(number::decimal(&carried(place)), planted.wrong, "{seen}");
            continue;
        }
        let line = &after[line_of(index)];
        assert!(line.holds(), "{seen}");
        if names && wrong.execute.contains('/') && line.expression.operators() > 1 {
            continue; // a fraction that a built-in slip carries on, written without brackets
        }
        assert_eq!(shape(&line.expression), shape(&planned.expression), "{seen}");
        assert!(index > place || line.expression == planned.expression, "{seen}");
        for (was, is) in planned.expression.numbers().into_iter().zip(line.expression.numbers()) {
            let makers: Vec<usize> = (0..index).filter(|earlier| before[*earlier].value == *was).collect();
            let from_a_maker = makers.iter().any(|maker| carried(*maker) == *is);
            assert!(was == is || from_a_maker, "{seen}");
            let certain = makers.len() == 1 && !givens.holds(was) && !names;
            assert!(!certain || carried(makers[0]) == *is || was == is && !number::is_fraction(was), "{seen}");
        }
    }

    let checks = calculation::find(&wrong.verify);
    assert!(checks.iter().all(Stated::holds), "{seen}");
    assert_eq!(number::decimal(&checks.last().unwrap().value), right.answer, "{seen}");
    let planned = canonical(&before[place].expression);
    assert!(checks.iter().any(|c| canonical(&c.expression) == planned && c.value == before[place].value), "{seen}");
    assert!(wrong.verify.to_lowercase().contains(&format!("step {}", place + 1)), "{seen}");
    let same = wrong.verify.lines().zip(right.verify.lines()).take(place);
    assert!(right.meta.contains("operands") || same.into_iter().all(|(a, b)| a == b), "{seen}");

    let told = score_probe(wrong, &format!("{}\n\nFinal Answer: {}", wrong.verify, wrong.answer));
    assert!(told.detected && told.corrected, "{seen}");
    let last = number::decimal(&after.last().unwrap().value);
    let blind = score_probe(wrong, &format!("{}\n\nFinal Answer: {last}", wrong.execute));
    assert!(!blind.detected && !blind.corrected, "{seen}");
}

/// What no kind but `sign` may do to a trace of whole numbers above zero.
fn gives_nothing_away(right: &Trajectory, wrong: &Trajectory, kind: &str) {
    let values = |t: &Trajectory| calculation::find(&t.execute).into_iter().map(|line| line.value).collect::<Vec<_>>();
    let zero = Exact::from_integer(0.into());
    if values(right).iter().all(Exact::is_integer) {
        assert!(values(wrong).iter().all(Exact::is_integer), "{}\n{}", right.execute, wrong.execute);
    }
    if kind != "sign" && values(right).iter().all(|value| *value > zero) {
        assert!(values(wrong).iter().all(|value| *value > zero), "{}\n{}", right.execute, wrong.execute);
    }
}

fn shape(expression: &Expression) -> String {
    expression.map_numbers(&mut |_| Exact::from_integer(1.into())).text(&mut number::decimal)
}

/// A question with its calculations as an annotated solution has them, some with several operations, decimals, percent.
fn annotated() -> impl Strategy<Value = Trajectory> {
    let step = (0..6usize, 0..8usize, 1..60i64, 2..13i64);
    proptest::collection::vec(step, 1..6).prop_filter_map("a value that no decimal can write", |steps| {
        let (mut running, mut question, mut lines) = ("84".to_owned(), "Ann has $84.".to_owned(), String::new());
        for (form, operator, a, b) in steps {
            let sign = ["+", "-", "*", "/", "+", "-", "*", "+"][operator];
            let cents = format!("{a}.{}", b * 5);
            let text = match form {
                0 => format!("({running} {sign} {a}) * {b}"),
                1 => format!("{running} * 0.{b}"),
                2 => format!("{running} {sign} {cents}"),
                3 => format!("{running} * {a} / 100"),
                _ => format!("{running} {sign} {a}"),
            };
            question += &format!(" Then {a} and {b}, {cents}, {b}0% and {a}%.");
            let value = Expression::parse(&text).ok()?.value().ok()?;
            running = number::decimal(&value);
            if number::is_fraction(&value) || running.len() > 9 || running.starts_with('-') {
                return None;
            }
            lines += &format!("{text} = {running}\n");
        }
        question += " How much is it?";
        let problem = Problem {
            id: "own/0",
            source: "own",
            split: "",
            question: &question,
            language: "en",
            answer: &running,
            exact: true,
            meta: &Map::new(),
        };
        compose::compose(&problem, &calculation::find(&lines)).ok()
    })
}

/// The same seed gives the same, and the twin is the right trace.
fn is_repeatable(right: &Trajectory, kind: &str, seed: u64) -> Option<Trajectory> {
    let first = plant(right, &[kind], seed);
    assert_eq!(first, plant(right, &[kind], seed));
    let control = twin(right);
    assert_eq!(Trajectory { id: right.id.clone(), ..control }, *right);
    first.ok()
}

proptest! {
    #[test]
    fn every_kind_keeps_its_promise_in_built_in_problems(seed in any::<u64>(), index in 0..10_000u64, kind in 0..8usize) {
        let right = synthesize(seed, index, STEPS);
        if let Some(wrong) = is_repeatable(&right, KINDS[kind], seed) {
            is_well_planted(&right, &wrong, KINDS[kind]);
        }
    }

    #[test]
    fn every_kind_keeps_its_promise_in_annotated_problems(right in annotated(), seed in any::<u64>(), kind in 0..8usize) {
        if let Some(wrong) = is_repeatable(&right, KINDS[kind], seed) {
            is_well_planted(&right, &wrong, KINDS[kind]);
            gives_nothing_away(&right, &wrong, KINDS[kind]);
        }
    }

    #[test]
    fn any_text_is_planted_or_refused(execute in "([0-9]\\. |[-0-9+*/()=.% \n]|\\PC){0,60}", answer in "[0-9./-]{0,4}") {
        let right = Trajectory { execute, answer, meta: "{}".into(), ..synthesize(1, 1, STEPS) };
        if let Ok(wrong) = plant(&right, &KINDS, 1) {
            prop_assert_ne!(wrong.execute, right.execute);
        }
    }
}

#[test]
fn each_kind_is_found_in_built_in_problems_and_reads_as_it_should() {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for index in 0..2_000 {
        let right = synthesize(5, index, STEPS);
        let Ok(wrong) = plant(&right, &BUILT_IN_KINDS, 1) else { continue };
        let kind = wrong.planted.clone().unwrap().kind;
        is_well_planted(&right, &wrong, &kind);
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(BUILT_IN_KINDS.iter().all(|kind| kinds.get(*kind).is_some_and(|count| *count > 50)), "{kinds:?}");
}

#[test]
fn a_small_problem_with_each_kind_of_error() {
    let question = "A coat costs $150. It is 20% cheaper today, and Lan has a voucher of $14. What does she pay?";
    let problem = Problem {
        id: "own/0",
        source: "own",
        split: "",
        question,
        language: "en",
        answer: "106",
        exact: true,
        meta: &Map::new(),
    };
    let right = compose::compose(&problem, &calculation::find("150*20/100 = 30\n150-30 = 120\n120-14 = 106")).unwrap();
    let mut seen = String::new();
    for (seed, kind) in (0..).zip(KINDS) {
        let wrong = plant(&right, &[kind], seed).unwrap();
        is_well_planted(&right, &wrong, kind);
        seen += &format!("{kind}\n{}\n-\n{}\n\n", wrong.execute, wrong.verify);
    }
    assert_eq!(seen, include_str!("tests/each_kind.txt"));
}

#[test]
fn what_built_in_problems_are_planted_with_never_changes() {
    let mut hasher = blake3::Hasher::new();
    for index in 0..500 {
        let right = synthesize(7, index, STEPS);
        hasher.update(right.canonical().text.as_bytes());
        if let Ok(wrong) = plant(&right, kinds_of(&right), 7) {
            hasher.update(wrong.canonical().text.as_bytes());
        }
    }
    assert_eq!(hasher.finalize().to_hex()[..16], *"0201afdca8804bfc");
}

#[test]
fn weights_are_obeyed_and_a_kind_that_does_not_fit_gives_way() {
    let mix = Mix::of_shares(&[(Kind::Arithmetic, 1), (Kind::CopiedNumber, 3)]).unwrap();
    let kind = |index| plant_mix(&synthesize(5, index, STEPS), &mix, 1).unwrap().planted.unwrap().kind;
    let copied = (0..1_000).filter(|index| kind(*index) == "copied-number").count();
    assert!((680..800).contains(&copied), "{copied}");
    let short = synthesize(5, 0, 1..=1);
    assert_eq!(plant(&short, &["dropped-step"], 1), Err(PlantError::NoEffect));
    assert_eq!(plant(&short, &["dropped-step", "arithmetic"], 1).unwrap().planted.unwrap().kind, "arithmetic");
    assert_eq!(plant(&short, &[], 1), Err(PlantError::NoEffect));
}

#[test]
fn a_trace_that_is_not_exact_is_refused_with_the_reason() {
    let right = synthesize(5, 1, STEPS);
    let with = |execute: &str| plant(&Trajectory { execute: execute.into(), ..right.clone() }, &KINDS, 1);
    assert_eq!(with("so it is 5"), Err(PlantError::NotACalculation(1)));
    assert_eq!(with("1. 2 + 3 = 5\n2. 5 + 1 = 6 = 2 * 3"), Err(PlantError::NotACalculation(2)));
    assert_eq!(with("1. 2 + 3 = 5\n2. 5 + 1 = 7"), Err(PlantError::AlreadyWrong(2)));
    assert_eq!(with(""), Err(PlantError::NotExact));
    let wrong = Trajectory { answer: "1000".into(), ..right.clone() };
    assert_eq!(plant(&wrong, &KINDS, 1), Err(PlantError::NotExact));
    let partial = Trajectory { meta: r#"{"exact":false}"#.into(), ..right.clone() };
    assert_eq!(plant(&partial, &KINDS, 1), Err(PlantError::NotExact));
    let planted = plant(&right, &KINDS, 1).unwrap();
    assert_eq!(plant(&planted, &KINDS, 1), Err(PlantError::Twice));
    let unknown = plant(&right, &["typo"], 1).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "`typo` is not a kind of error; there are arithmetic, off-by-one, operation, operand, dropped-step, \
         copied-number, unit, sign"
    );
}

#[test]
fn a_planted_trace_and_its_twin_name_each_other() {
    let right = synthesize(5, 1, STEPS);
    let (mut wrong, mut control) = (plant(&right, &KINDS, 1).unwrap(), twin(&right));
    name_each_other(&mut wrong, &mut control);
    let named = |t: &Trajectory| serde_json::from_str::<serde_json::Value>(&t.meta).unwrap()["twin"].clone();
    assert_eq!((named(&wrong), named(&control)), (control.id.clone().into(), wrong.id.clone().into()));
    assert!(control.meta.contains("operands"));
}

#[test]
fn the_prompt_of_a_probe_ends_with_the_tag_line() {
    let prompt = verify_prompt(&synthesize(5, 1, STEPS));
    assert!(prompt.ends_with("\n\n#### VERIFY ####\n"));
}

/// Floors in percent of the exact rows, a little below what is found.
const GSM8K_FLOORS: [(&str, f64); 8] = [
    ("arithmetic", 99.0),
    ("off-by-one", 95.5),
    ("operation", 95.0),
    ("operand", 95.0),
    ("dropped-step", 92.5),
    ("copied-number", 77.5),
    ("unit", 44.0),
    ("sign", 39.5),
];

#[test]
fn nearly_every_exact_row_of_gsm8k_can_be_planted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/gsm8k/train.jsonl");
    if !path.exists() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
        println!("passed by: {} is not here", path.display());
        return;
    }
    let mut parsed = Collected::default();
    let options = Options { source: Some(Source::Gsm8k), ..Options::default() };
    parse(&[Input { path, below: None }], options, &mut parsed).unwrap();
    // An EXECUTE in the source's own prose is refused: only its annotations are exact.
    let is_exact = |t: &&Trajectory| t.meta.contains("\"exact\":true") && !t.meta.contains("\"prose\":true");
    let exact: Vec<&Trajectory> = parsed.trajectories.iter().filter(is_exact).collect();
    assert!(exact.len() > 6_800, "{}", exact.len());
    let share = |count: usize| 100.0 * count as f64 / exact.len() as f64;
    let any = exact.iter().filter(|right| plant(right, &KINDS, 1).is_ok()).count();
    println!("any kind: {any} of {} exact rows, {:.2} %", exact.len(), share(any));
    assert!(share(any) > 99.9);
    for (kind, floor) in GSM8K_FLOORS {
        let mut count = 0;
        for right in &exact {
            let Ok(wrong) = plant(right, &[kind], 1) else { continue };
            is_well_planted(right, &wrong, kind);
            count += 1;
        }
        println!("{kind}: {count}, {:.1} %", share(count));
        assert!(share(count) > floor, "{kind}: {count} of {}", exact.len());
    }
}
