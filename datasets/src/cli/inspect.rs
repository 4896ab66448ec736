//! `datasets inspect`: trajectories to look at.

use std::io::Write;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, anyhow};

use super::{Failure, check_input, check_output};
use crate::graph::{self, Kind, Nodes};
use crate::parquet::Trajectories;
use crate::trajectory::{Stage, Trajectory};

/// Show trajectories: the four stages, coloured in a terminal, and the derivation graph.
///
/// Without --id, --row or --count the first one is shown.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// Parquet of trajectories.
    #[arg(long, value_name = "FILE.parquet")]
    input: PathBuf,
    /// The trajectory of this id.
    #[arg(long)]
    id: Option<String>,
    /// From this row on, from 0.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "id")]
    row: usize,
    /// So many of them.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "id")]
    count: usize,
    /// Only corrective ones, or only the others.
    #[arg(long, value_name = "BOOL")]
    corrective: Option<bool>,
    /// Also draws the graph of the last one shown.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// Runs it.
pub fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    check_input(&args.input)?;
    args.svg.as_deref().map(check_output).transpose()?;
    let mut output = anstream::AutoStream::auto(std::io::stdout().lock());
    let mut last = None;
    let wanted = |t: &Trajectory| {
        args.id.as_ref().is_none_or(|id| *id == t.id) && args.corrective.is_none_or(|c| c == t.corrective)
    };
    let (mut skipped, mut shown) = (0, 0);
    for trajectory in Trajectories::open(&args.input)? {
        let trajectory = trajectory?;
        if !wanted(&trajectory) {
            continue;
        }
        if args.id.is_none() && skipped < args.row {
            skipped += 1;
            continue;
        }
        if shown == args.count {
            break;
        }
        show(&mut output, &trajectory)?;
        last = Some(trajectory);
        shown += 1;
    }
    let Some(last) = last else {
        let what = args.id.as_ref().map_or_else(|| format!("row {}", args.row), |id| format!("id `{id}`"));
        return Err(Failure::usage(anyhow!("{}: there is no {what} (of those asked for)", args.input.display())));
    };
    if let Some(path) = &args.svg {
        std::fs::write(path, graph::draw(&Nodes::of(&last)))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        eprintln!("{}: graph of {}", path.display(), last.id);
    }
    Ok(())
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

fn colour(stage: Stage) -> Style {
    let colour = match stage {
        Stage::Understand => AnsiColor::Cyan,
        Stage::Plan => AnsiColor::Yellow,
        Stage::Execute => AnsiColor::Green,
        Stage::Verify => AnsiColor::Magenta,
    };
    Style::new().fg_color(Some(colour.into()))
}

fn show(out: &mut impl Write, trajectory: &Trajectory) -> std::io::Result<()> {
    let t = trajectory;
    writeln!(out, "{BOLD}{}{BOLD:#}  {DIM}{} · {} · {}{DIM:#}", t.id, t.source, t.language, t.meta)?;
    if let Some(planted) = &t.planted {
        let style = Style::new().fg_color(Some(AnsiColor::Red.into()));
        let place = planted.calculation + 1;
        writeln!(
            out,
            "{style}planted: {}, calculation {place}: {} instead of {}{style:#}",
            planted.kind, planted.wrong, planted.right
        )?;
    }
    writeln!(out, "\n{}", t.question)?;
    for stage in Stage::ALL {
        let style = colour(stage);
        writeln!(out, "\n{style}{BOLD}{}{BOLD:#}{style:#}", stage.tag())?;
        for line in t.stage(stage).lines() {
            writeln!(out, "{style}{line}{style:#}")?;
        }
    }
    writeln!(out, "\n{BOLD}Final Answer: {}{BOLD:#}", t.answer)?;
    let nodes = Nodes::of(t);
    let exact = if graph::of(t).exact { "exact" } else { "not exact" };
    writeln!(out, "\n{DIM}graph, {exact}{DIM:#}")?;
    for (at, node) in nodes.0.iter().enumerate() {
        let origin = match node.kind {
            Kind::Given => "given".to_owned(),
            Kind::Constant => "constant".to_owned(),
            Kind::Computed { holds } => {
                let from: Vec<String> = node.from.iter().map(|from| format!("[{from}]")).collect();
                let wrong = if holds { "" } else { "  WRONG" };
                format!("= {}  from {}{wrong}", node.expression, from.join(" "))
            }
        };
        writeln!(out, "  [{at}] {} {DIM}{origin}{DIM:#}", node.value)?;
    }
    writeln!(out)
}
