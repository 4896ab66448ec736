//! `worker solve`: one question, the four stages as they are generated.

use std::io::Write;

use anyhow::{Context, Result, bail};
use polya_datasets::tokens;
use polya_datasets::trajectory::Stage;

use super::generate::{Plan, continue_all, decode};
use super::model::{ModelArgs, PromptArgs};
use crate::generate::{Event, Sampling};

/// What `worker solve` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct SolveArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Longest answer in tokens; it also ends where the model's context does.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_tokens: usize,
    /// How it is asked.
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// The problem.
    pub question: String,
}

/// Runs it.
pub fn solve(args: &SolveArgs) -> Result<()> {
    if args.question.trim().is_empty() {
        bail!("the question is empty");
    }
    let form = args.prompt.of(&args.model)?;
    let (base, adapters) = args.model.load()?;
    let ids = tokens::ids(&base.tokenizer, &form.prompt(&args.question)?)?;
    let context = base.model.config.context as usize;
    if ids.len() >= context {
        bail!("the question has {} tokens, and the model's context is {context}: shorten it", ids.len());
    }
    let plan = Plan { max_tokens: args.max_tokens, batch: 1, sampling: Sampling::Greedy };
    let mut printer = StagePrinter { out: anstream::stdout(), line: String::new(), printed: 0 };
    let mut stream = base.tokenizer.decode_stream(false);
    let mut written = Ok(());
    let generated = continue_all(&base, adapters.as_ref(), &[ids], plan, &mut |event| {
        if let Event::Token { id, .. } = event
            && written.is_ok()
            && let Ok(Some(text)) = stream.step(id)
        {
            written = printer.print(&text);
        }
    })?;
    written.and_then(|()| printer.end(&decode(&base, &generated.continuations[0])?)).context("printing")
}

/// Prints text as it comes; a line that may become a stage's tag is held until it is whole, and then coloured.
struct StagePrinter<W> {
    out: W,
    /// The line under way, where it is held.
    line: String,
    /// Bytes taken so far.
    printed: usize,
}

impl<W: Write> StagePrinter<W> {
    fn print(&mut self, text: &str) -> Result<()> {
        self.printed += text.len();
        for part in text.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') || !self.line.starts_with('#') {
                self.flush()?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        match Stage::ALL.iter().any(|stage| line.trim_end() == stage.tag()) {
            true => {
                let style = anstyle::AnsiColor::Cyan.on_default().bold();
                writeln!(self.out, "{style}{}{style:#}", line.trim_end())?;
            }
            false => write!(self.out, "{line}")?,
        }
        Ok(())
    }

    /// What the stream kept back (bytes that are no whole character yet) and the last line break.
    fn end(&mut self, whole: &str) -> Result<()> {
        if let Some(rest) = whole.get(self.printed..) {
            self.print(rest)?;
        }
        self.flush()?;
        if !whole.ends_with('\n') {
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_printed_as_it_comes_and_only_whole_tags_are_coloured() {
        let mut printer = StagePrinter { out: vec![], line: String::new(), printed: 0 };
        let mut seen = |text: &str| {
            printer.print(text).unwrap();
            String::from_utf8(std::mem::take(&mut printer.out)).unwrap()
        };
        assert_eq!(seen("##"), "");
        assert_eq!(seen("## PLAN"), "");
        assert_eq!(seen(" ####\n1. a"), "\u{1b}[1m\u{1b}[36m#### PLAN ####\u{1b}[0m\n1. a");
        assert_eq!(seen("dd #### PLAN ####\n"), "dd #### PLAN ####\n");
        assert_eq!(seen("# of eggs\n"), "# of eggs\n");
        assert_eq!(seen("#### NAME"), "");
        printer.end("").unwrap();
        assert_eq!(String::from_utf8(printer.out).unwrap(), "#### NAME\n");
    }
}
