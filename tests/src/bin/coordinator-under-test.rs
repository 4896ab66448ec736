//! The coordinator, with points at which a test can hold it: just before it executes an action.
//!
//! The driver traces each action; this program's subscriber stands still on the ones that the test has named. `n` is the
//! step, of an evaluation's unit its number.

use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use coordinator::cli::{self, Arguments};
use polya_tests::points::{Points, obey_signals};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::main]
async fn main() -> ExitCode {
    let said = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let holding = Holding(Points::from_environment("coordinator"));
    tracing_subscriber::registry().with(holding).with(said.with_filter(LevelFilter::INFO)).init();
    obey_signals();
    match cli::main(Arguments::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(exit) => {
            eprintln!("error: {:#}", exit.error);
            ExitCode::from(exit.code)
        }
    }
}

struct Holding(Arc<Points>);

impl<S: Subscriber> Layer<S> for Holding {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        event.record(&mut Acts(&self.0));
    }
}

struct Acts<'a>(&'a Points);

impl Visit for Acts<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "action"
            && let Some((point, n)) = point(&format!("{value:?}"))
        {
            self.0.reach(point, n);
        }
    }
}

/// The point that an action is, by its words.
fn point(action: &str) -> Option<(&'static str, u64)> {
    let order = action.strip_prefix("Send(Connection(").and_then(|rest| rest.split_once("), "));
    let body = order.map_or(action, |(_, order)| order);
    let number = |name: &str| {
        let (_, rest) = body.split_once(name)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let points = [
        ("Lease", "lease", "step: "),
        // The second of a group's orders: one worker is in the group by now, the others are not.
        ("Reduce", "reduce", "step: "),
        ("Append(Commit", "append-commit", "step: "),
        ("Append(Checkpoint", "append-checkpoint", "step: "),
        ("Commit", "commit", "step: "),
        ("Evaluate", "evaluate", "unit: "),
    ];
    let (_, point, counted) = points.into_iter().find(|(words, ..)| body.starts_with(words))?;
    if point == "reduce" && number("rank: ") != Some(1) {
        return None;
    }
    Some((point, number(counted)?))
}
