//! Progress for people: a bar on a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use coordinator_core::record::Commit;
use coordinator_core::statistics::Statistics;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps over which the speed is measured.
const WINDOW: usize = 20;

/// Shows how a run goes.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    recent: VecDeque<(Instant, u64, u64)>,
    last_line: Option<Instant>,
}

impl Progress {
    /// For a run of `steps`, `done` of which are committed.
    pub fn new(steps: u64, done: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}").expect("the template is valid");
            ProgressBar::new(steps).with_style(style).with_position(done)
        });
        Progress { bar, steps, recent: VecDeque::new(), last_line: None }
    }

    /// A step is committed.
    pub fn committed(&mut self, commit: &Commit, workers: usize) {
        let mut total = Statistics::default();
        commit.microbatches.values().for_each(|part| total.add(&part.statistics));
        self.recent.push_back((Instant::now(), total.tokens, u64::from(total.samples)));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let message = format!("{}  {workers} workers", self.describe(&total, commit.step));
        if let Some(bar) = &self.bar {
            bar.set_position(commit.step);
            bar.set_message(message);
        } else if self.line_is_due(commit.step) {
            println!("step {}/{}  {message}", commit.step, self.steps);
        }
    }

    fn describe(&self, total: &Statistics, step: u64) -> String {
        let loss = |stage: usize| total.mean_loss(stage).map_or("-".to_owned(), |loss| format!("{loss:.3}"));
        let [u, p, e, v] = [0, 1, 2, 3].map(loss);
        let (Some((first, ..)), Some((last, ..))) = (self.recent.front(), self.recent.back()) else {
            return String::new();
        };
        let seconds = last.duration_since(*first).as_secs_f64();
        let sum = |of: fn(&(Instant, u64, u64)) -> u64| self.recent.iter().skip(1).map(of).sum::<u64>() as f64;
        let mut text = format!("loss U {u} P {p} E {e} V {v}");
        if seconds > 0.0 {
            let (tokens, samples) = (sum(|r| r.1) / seconds, sum(|r| r.2) / seconds);
            let pace = seconds / (self.recent.len() - 1) as f64;
            let left = Duration::from_secs_f64(pace * self.steps.saturating_sub(step) as f64);
            text += &format!("  {tokens:.0} tokens/s  {samples:.1} samples/s  {} s left", left.as_secs());
        }
        text
    }

    /// Where nobody looks at a bar, a line every two seconds is enough.
    fn line_is_due(&mut self, step: u64) -> bool {
        let due = self.last_line.is_none_or(|last| last.elapsed() >= Duration::from_secs(2)) || step == self.steps;
        if due {
            self.last_line = Some(Instant::now());
        }
        due
    }

    /// Something else to say.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// Scoring goes on.
    pub fn evaluating(&mut self, what: &str, done: u64, units: u64) {
        let text = format!("scoring {what}: {done}/{units} units");
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if done == units || self.last_line.is_none_or(|last| last.elapsed() >= Duration::from_secs(5)) => {
                self.last_line = Some(Instant::now());
                println!("{text}");
            }
            None => {}
        }
        self.recent.clear(); // the pause is not part of the pace
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
