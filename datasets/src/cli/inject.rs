//! `datasets inject`: planted errors and their controls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;

use super::output::Output;
use super::{Failure, check_input, check_output};
use crate::parquet;
use crate::plant::{KINDS, Kind, Mix, PlantError, name_each_other, plant_mix, twin};
use crate::synthesize::Random;
use crate::trajectory::Trajectory;

/// What `datasets inject` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct InjectArgs {
    /// Parquet of right trajectories.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write: .parquet, or .jsonl.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Share of the trajectories in which an error is planted, 0 to 1.
    #[arg(long)]
    rate: f64,
    /// Kinds of error, separated by commas, each with a weight if it is not 1 [default: all, each with weight 1].
    ///
    /// There are arithmetic, off-by-one, operation, operand, dropped-step, copied-number, unit, sign. `arithmetic=2,unit`
    /// plants two arithmetic slips for one of unit, as far as the problems allow: a kind that fits nowhere in a trace gives
    /// way to the others.
    #[arg(long, value_name = "KIND[=WEIGHT]", value_delimiter = ',', value_parser = Mix::share)]
    kinds: Vec<(Kind, u32)>,
    /// Keep the right trajectory beside each planted one, as its control; `meta.twin` of each names the other.
    #[arg(long)]
    twins: bool,
    /// Keys choice and errors.
    #[arg(long)]
    seed: u64,
    /// The trajectories in which no error can be planted, one JSON object a line: id, code, reason. They are in the output
    /// as they were.
    #[arg(long, value_name = "FILE.jsonl")]
    refused: Option<PathBuf>,
    /// Prints the counts as one JSON document: read, planted by kind, refused by code, untouched, twins, written.
    #[arg(long)]
    json: bool,
}

/// read = planted + refused + untouched, written = read + twins.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    read: usize,
    planted: BTreeMap<String, u64>,
    refused: BTreeMap<&'static str, u64>,
    untouched: u64,
    twins: u64,
    written: usize,
}

/// Runs it.
pub fn inject(args: &InjectArgs) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&args.rate) {
        return Err(Failure::usage(anyhow::anyhow!("--rate {} is not between 0 and 1", args.rate)));
    }
    let all = || Kind::ALL.map(|kind| (kind, 1)).to_vec();
    let mix =
        Mix::of_shares(&if args.kinds.is_empty() { all() } else { args.kinds.clone() }).map_err(Failure::usage)?;
    check_input(&args.input)?;
    check_output(&args.output)?;
    args.refused.as_deref().map(check_output).transpose()?;
    let input = parquet::read(&args.input)?;
    let mut counts = Counts { read: input.len(), ..Counts::default() };
    let mut refused = Vec::new();
    let mut output = Vec::with_capacity(input.len());
    for (index, trajectory) in (0u64..).zip(&input) {
        if !Random::new([args.seed, index, 0x5241_5445]).chance(args.rate) {
            counts.untouched += 1;
            output.push(trajectory.clone());
            continue;
        }
        match plant_mix(trajectory, &mix, args.seed) {
            Ok(wrong) => output.extend(planted(wrong, trajectory, args.twins, &mut counts)),
            Err(error) => {
                *counts.refused.entry(error.code()).or_default() += 1;
                output.push(trajectory.clone());
                refused.push((&trajectory.id, error));
            }
        }
    }
    counts.written = output.len();
    let metadata = BTreeMap::from([
        ("polya.source".to_owned(), format!("inject --rate {} --seed {}", args.rate, args.seed)),
        ("polya.kinds".to_owned(), mix.to_string()),
        ("polya.planted".to_owned(), counts.planted.values().sum::<u64>().to_string()),
        ("polya.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let mut file = Output::create(&args.output)?;
    file.write(output)?;
    file.finish(&metadata)?;
    if let Some(path) = &args.refused {
        std::fs::write(path, listed(&refused)).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&counts)?);
    } else {
        print!("{}", table(&counts, &refused)?);
    }
    Ok(())
}

/// A planted trajectory, followed by its twin if there is to be one.
fn planted(mut wrong: Trajectory, right: &Trajectory, with_twin: bool, counts: &mut Counts) -> Vec<Trajectory> {
    let kind = wrong.planted.as_ref().map(|error| error.kind.clone()).unwrap_or_default();
    *counts.planted.entry(kind).or_default() += 1;
    if !with_twin {
        return vec![wrong];
    }
    counts.twins += 1;
    let mut control = twin(right);
    name_each_other(&mut wrong, &mut control);
    vec![wrong, control]
}

fn listed(refused: &[(&String, PlantError)]) -> String {
    let line = |(id, error): &(&String, PlantError)| {
        serde_json::json!({ "id": id, "code": error.code(), "reason": error.to_string() }).to_string() + "\n"
    };
    refused.iter().map(line).collect()
}

fn table(counts: &Counts, refused: &[(&String, PlantError)]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let number: u64 = counts.planted.values().sum();
    writeln!(text, "{} trajectories read, an error planted in {number}, {} written", counts.read, counts.written)?;
    for kind in KINDS {
        if let Some(number) = counts.planted.get(kind) {
            writeln!(text, "  planted, {kind:<17} {number:>7}")?;
        }
    }
    for (code, number) in &counts.refused {
        writeln!(text, "  refused, {code:<17} {number:>7}")?;
        if let Some((id, error)) = refused.iter().find(|(_, error)| error.code() == *code) {
            writeln!(text, "    the first is {id}: {error}")?;
        }
    }
    if counts.untouched > 0 {
        writeln!(text, "  not drawn                  {:>7}", counts.untouched)?;
    }
    Ok(text)
}
