//! `datasets graph`: the derivations of each trajectory, a line each.

use std::io::Write;
use std::path::PathBuf;

use super::rows::create;
use super::{Failure, check_input, check_output};
use crate::graph;
use crate::parquet::Trajectories;

/// Write the derivation graph of each trajectory.
///
/// A JSON line a sample: `id`, `question`, `exact` (the calculations hold and end in the answer), `given` (the question's
/// values) and `derivations`, one a calculation of EXECUTE in order, each with its `value` as an exact rational and its
/// `expression` over given values and constants.
#[derive(Debug, Clone, clap::Args)]
pub struct GraphArgs {
    /// Parquet of trajectories.
    #[arg(long, value_name = "FILE.parquet")]
    input: PathBuf,
    /// JSON Lines to write.
    #[arg(long, value_name = "FILE.jsonl")]
    output: PathBuf,
}

/// Runs it.
pub fn graph(args: &GraphArgs) -> Result<(), Failure> {
    check_input(&args.input)?;
    check_output(&args.output)?;
    let trajectories = Trajectories::open(&args.input)?;
    let mut output = create(&args.output)?;
    let (mut rows, mut exact) = (0u64, 0u64);
    for trajectory in trajectories {
        let graph = graph::of(&trajectory?);
        (rows, exact) = (rows + 1, exact + u64::from(graph.exact));
        serde_json::to_writer(&mut output, &graph)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    println!("{rows} graphs, {exact} exact");
    Ok(())
}
