//! `datasets teach`: four-stage solutions from a teacher model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::progress::Progress;
use super::{Failure, check_output};
use crate::network::backoff::Backoff;
use crate::network::stop::{STOPPED, Stop};
use crate::network::{TimeLimits, address, client, file};
use crate::sources::parse::ParseError;
use crate::sources::{Source, files};
use crate::teach::ask::{Asked, Asker, End, Sample, Totals};
use crate::teach::choose::{self, Chosen};
use crate::teach::journal::{Answered, Journal, Request, SampleKey};
use crate::teach::pace::Pace;
use crate::teach::questions::{self, Question, Questions};
use crate::teach::request::{LengthField, Teacher};
use crate::teach::usage::{Usage, estimate};
use crate::teach::{TeachError, prompt};

const DEFAULT_KEY: &str = "OPENAI_API_KEY";

/// Ask a teacher model for four-stage solutions, over an OpenAI-compatible API.
///
/// Every reply goes into a journal beside the output and is never paid for twice: after Ctrl-C, a crash or an error the
/// same command asks only for what is missing. The teacher file is made anew from the journal at the end; `datasets parse
/// --source teacher` reads it. Samples go through that command's filters; of those that pass the best is kept, and where
/// there is no ground truth the majority's answer counts. Exit code 75: stopped by Ctrl-C or by the budget.
#[derive(Debug, Clone, clap::Args)]
pub struct TeachArgs {
    /// Questions: files, folders or quoted patterns of any source of `parse`, or JSON Lines with `question` and perhaps
    /// `ground_truth`, `id`, `language`.
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// The files' format. Without it each file's first records tell it.
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// The teacher file. Journal and rejects stand beside it: FILE.journal.jsonl, FILE.rejects.jsonl.
    #[arg(long, value_name = "FILE.jsonl")]
    output: PathBuf,
    /// Another place for the journal of replies.
    #[arg(long, value_name = "FILE.jsonl")]
    journal: Option<PathBuf>,
    /// Another place for the rejected replies, with their reasons.
    #[arg(long, value_name = "FILE.jsonl")]
    rejects: Option<PathBuf>,
    /// The API's address, up to what stands before /chat/completions: https://host/v1.
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// The model, in the server's words.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// The environment variable that holds the key. OPENAI_API_KEY, if it is set, without this option.
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Replies a question.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Sampling temperature; the server's own without this option. Several samples want one above 0.
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f64>,
    /// No reply has more tokens; one that is cut there is rejected.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// The name that the server has for that limit.
    #[arg(long, value_enum, default_value = "max_tokens")]
    max_tokens_field: LengthField,
    /// Only the first so many questions.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Requests on their way at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    concurrency: u32,
    /// No more requests a minute, spread evenly.
    #[arg(long, value_name = "N", value_parser = above_zero)]
    requests_per_minute: Option<f64>,
    /// No more tokens a minute, prompts and replies together.
    #[arg(long, value_name = "N", value_parser = above_zero)]
    tokens_per_minute: Option<f64>,
    /// A request that takes longer is given up and tried again.
    #[arg(long, value_name = "SECONDS", default_value_t = 180.0, value_parser = above_zero)]
    timeout: f64,
    /// Attempts for each reply.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Bound of the first wait between attempts, in seconds; it doubles, up to a minute. The server's Retry-After is kept
    /// to in any case.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::not_negative)]
    backoff: f64,
    /// Tokens that all replies in the journal may have together. No request is sent that could exceed it.
    #[arg(long, value_name = "N")]
    budget_tokens: Option<u64>,
    /// Price of a million prompt tokens, to count the cost.
    #[arg(long, value_name = "PRICE", value_parser = super::not_negative)]
    price_in: Option<f64>,
    /// Price of a million tokens of replies.
    #[arg(long, value_name = "PRICE", value_parser = super::not_negative)]
    price_out: Option<f64>,
    /// Prints the first request and what would be asked, and asks nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints the totals as one JSON document.
    #[arg(long)]
    json: bool,
}

fn above_zero(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| *value > 0.0 && *value <= 1e9)
        .ok_or("a number above 0, up to 1e9".to_owned())
}

fn temperature(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| (0.0..=5.0).contains(value)).ok_or_else(|| "a number from 0 to 5".to_owned())
}

/// Runs it.
pub fn teach(args: &TeachArgs) -> Result<(), Failure> {
    let paths = Paths::of(args)?;
    let teacher = teacher(args)?;
    let mut questions = read(args)?;
    let request =
        Request { model: args.model.clone(), prompt: prompt::VERSION.to_owned(), temperature: args.temperature };
    if args.dry_run {
        let answers = Journal::peek(&paths.journal, &request).map_err(failure)?;
        return dry_run(args, &teacher, &questions.list, &answers);
    }
    let mut journal = Journal::open(&paths.journal, &request).map_err(failure)?;
    if journal.torn > 0 {
        eprintln!(
            "{}: the last line was half written ({} bytes) and was cut off",
            paths.journal.display(),
            journal.torn
        );
    }
    let mut answers = journal.take_answers();
    let found = answers.len();
    let asked = ask(args, &teacher, &journal, &questions.list, &answers)?;
    answers.extend(asked.answers.clone());
    let chosen = choose::choose(&questions.list, &answers);
    if !answers.is_empty() {
        lines(&paths.output, &chosen.rows)?;
        lines(&paths.rejects, &chosen.rejected)?;
    }
    report(args, &mut questions, found, &asked, &chosen)?;
    end(args, asked, &paths.journal)
}

struct Paths {
    output: PathBuf,
    journal: PathBuf,
    rejects: PathBuf,
}

impl Paths {
    fn of(args: &TeachArgs) -> Result<Self, Failure> {
        let name = args.output.as_os_str().to_string_lossy();
        let stem = PathBuf::from(name.strip_suffix(".jsonl").unwrap_or(&name));
        let journal = args.journal.clone().unwrap_or_else(|| file::beside(&stem, ".journal.jsonl"));
        let rejects = args.rejects.clone().unwrap_or_else(|| file::beside(&stem, ".rejects.jsonl"));
        let paths = Paths { output: args.output.clone(), journal, rejects };
        for path in [&paths.output, &paths.journal, &paths.rejects] {
            check_output(path)?;
        }
        if paths.journal == paths.output || paths.rejects == paths.output || paths.journal == paths.rejects {
            return Err(Failure::usage(anyhow!("--output, --journal and --rejects are three different files")));
        }
        Ok(paths)
    }
}

fn teacher(args: &TeachArgs) -> Result<Teacher, Failure> {
    let base = address(&args.base_url).map_err(|why| Failure::usage(anyhow!("--base-url: {why}")))?;
    let key_env = args.key_env.clone().unwrap_or_else(|| DEFAULT_KEY.to_owned());
    let key = std::env::var(&key_env).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.is_none() && args.key_env.is_some() {
        return Err(Failure::usage(anyhow!(
            "the environment variable {key_env} holds no key; set it, or leave out --key-env"
        )));
    }
    if key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Failure::usage(anyhow!("the key in {key_env} holds characters that no key has; set it anew")));
    }
    let near = ["http://127.", "http://localhost", "http://[::1]"];
    if key.is_some() && base.starts_with("http://") && !near.iter().any(|near| base.starts_with(near)) {
        eprintln!("warning: {base} is not encrypted, and the key in {key_env} travels in plain text");
    }
    let whole = Duration::from_secs_f64(args.timeout);
    Ok(Teacher {
        client: client(TimeLimits { whole: Some(whole), silence: whole }, 0),
        url: format!("{base}/chat/completions"),
        model: args.model.clone(),
        key,
        key_env,
        temperature: args.temperature,
        max_tokens: args.max_tokens,
        length_field: args.max_tokens_field,
    })
}

fn read(args: &TeachArgs) -> Result<Questions, Failure> {
    let inputs = files::find(&args.input).map_err(|why| Failure::usage(anyhow!(why)))?;
    let mut questions = questions::read(&inputs, args.source).map_err(|error| match error {
        ParseError::UnknownSource(_) => Failure::usage(error),
        other => Failure { code: 1, error: other.into() },
    })?;
    for (input, source) in &questions.files {
        eprintln!("{}: read as {source}", input.path.display());
    }
    for reject in questions.rejects.iter().take(5) {
        let place = &reject.place;
        eprintln!("{}, line {}: {}: {}", place.source, place.line, reject.reason, reject.detail);
    }
    if let Some(limit) = args.limit {
        questions.list.truncate(limit);
    }
    if questions.list.is_empty() {
        return Err(Failure {
            code: 1,
            error: anyhow!("no questions: of {} records none can be asked", questions.counts.read),
        });
    }
    Ok(questions)
}

/// What is still to be asked, question by question.
fn missing<'q>(args: &TeachArgs, list: &'q [Question], answers: &BTreeMap<SampleKey, Answered>) -> Vec<Sample<'q>> {
    let samples = list.iter().flat_map(|question| (0..args.samples).map(move |number| Sample { question, number }));
    samples.filter(|sample| !answers.contains_key(&(sample.question.key.clone(), sample.number))).collect()
}

fn spent<'a>(answers: impl Iterator<Item = &'a Answered>) -> Usage {
    let mut usage = Usage::default();
    for answered in answers {
        if let Answered::Reply(reply) = answered {
            usage.add(reply.usage);
        }
    }
    usage
}

fn dry_run(
    args: &TeachArgs,
    teacher: &Teacher,
    list: &[Question],
    answers: &BTreeMap<SampleKey, Answered>,
) -> Result<(), Failure> {
    let missing = missing(args, list, answers);
    let prompts: u64 =
        missing.iter().map(|sample| estimate(prompt::length(&sample.question.text, &sample.question.language))).sum();
    let most = missing.len() as u64 * u64::from(args.max_tokens);
    let cost = Usage { prompt: prompts, completion: most, estimated: 0 }.cost(args.price_in, args.price_out);
    let first = missing.first().map(|sample| teacher.body(sample.question));
    if args.json {
        let document = json!({
            "questions": list.len(), "requests": missing.len(), "prompt_tokens": prompts, "completion_tokens_at_most": most,
            "cost_at_most": cost, "first": first,
        });
        println!("{document}");
        return Ok(());
    }
    if let Some(first) = &first {
        println!("POST {}\n{}\n", teacher.url, serde_json::to_string_pretty(first)?);
        for message in first["messages"].as_array().into_iter().flatten() {
            println!(
                "[{}]\n{}\n",
                message["role"].as_str().unwrap_or_default(),
                message["content"].as_str().unwrap_or_default()
            );
        }
    }
    println!("{} questions, {} in the journal, {} requests to send", list.len(), answers.len(), missing.len());
    println!("about {prompts} tokens of prompts, at most {most} of replies{}", priced(cost));
    Ok(())
}

fn ask(
    args: &TeachArgs,
    teacher: &Teacher,
    journal: &Journal,
    list: &[Question],
    answers: &BTreeMap<SampleKey, Answered>,
) -> Result<Asked, Failure> {
    let missing = missing(args, list, answers);
    let bar = Progress::new("replies", missing.len() as u64);
    let progress = |totals: &Totals| {
        bar.reached(totals.replies + totals.refused + totals.unanswered, None);
        let cost = priced(totals.usage.cost(args.price_in, args.price_out));
        bar.say(format!("replies, {} tokens{cost}", totals.usage.total()));
    };
    let stop = Stop::on_signals()?;
    let first = Duration::from_secs_f64(args.backoff);
    let asker = Asker {
        teacher,
        journal,
        backoff: Backoff { attempts: args.attempts, first, most: Duration::from_secs(60).max(first) },
        pace: Pace::new(args.requests_per_minute, args.tokens_per_minute),
        concurrency: args.concurrency as usize,
        budget: args.budget_tokens,
        spent: spent(answers.values()),
        understood: answers.values().any(|answered| matches!(answered, Answered::Reply(_))),
        stop: &stop,
        progress: &progress,
    };
    Ok(asker.ask(missing))
}

fn lines(path: &Path, rows: &[impl serde::Serialize]) -> Result<(), Failure> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    Ok(file::write(path, text.as_bytes()).with_context(|| format!("{}: cannot write", path.display()))?)
}

fn priced(cost: Option<f64>) -> String {
    cost.map_or_else(String::new, |cost| format!(", cost {cost:.4}"))
}

fn report(
    args: &TeachArgs,
    questions: &mut Questions,
    found: usize,
    asked: &Asked,
    chosen: &Chosen,
) -> Result<(), Failure> {
    let (totals, counts, read) = (&asked.totals, &chosen.counts, &questions.counts);
    let cost = totals.usage.cost(args.price_in, args.price_out);
    let stopped = match asked.end {
        End::Complete => Value::Null,
        End::Stopped => "signal".into(),
        End::Budget => "budget".into(),
        End::Failed(_) => "error".into(),
    };
    if args.json {
        let document = json!({
            "input": read, "questions": questions.list.len(), "kept": counts.kept, "rejected": counts.rejected,
            "unanswered": counts.unanswered,
            "samples": {
                "surplus": counts.surplus_samples, "rejected": counts.rejected_samples, "in_journal_before": found,
                "unanswered_now": totals.unanswered,
            },
            "requests": totals.requests, "replies": totals.replies,
            "tokens": { "prompt": totals.usage.prompt, "completion": totals.usage.completion,
                "replies_without_counts": totals.usage.estimated },
            "cost": cost, "stopped": stopped,
        });
        println!("{document}");
        return Ok(());
    }
    let (refused, duplicates) = (read.refused(), read.duplicates);
    println!("records {} = questions {} + rejected {refused} + duplicates {duplicates}", read.read, read.kept);
    println!(
        "questions {} = kept {} + rejected {} + unanswered {}",
        questions.list.len(),
        counts.kept,
        counts.rejected,
        counts.unanswered
    );
    for (reason, number) in &counts.rejected_samples {
        println!("  samples rejected, {reason}: {number}");
    }
    println!("requests {}, replies {} (and {found} answers that were in the journal)", totals.requests, totals.replies);
    let Usage { prompt, completion, estimated } = totals.usage;
    let guess =
        if estimated > 0 { format!(" ({estimated} replies came without counts: estimated)") } else { String::new() };
    println!("tokens of all replies: {prompt} in, {completion} out{guess}{}", priced(cost));
    Ok(())
}

/// The command's own end.
fn end(args: &TeachArgs, asked: Asked, journal: &Path) -> Result<(), Failure> {
    let stopped =
        |why: String| Failure { code: STOPPED, error: anyhow!("{why}; the same command goes on where this one ended") };
    match asked.end {
        End::Failed(error) => {
            let kept = format!("what was answered is in {}; run the same command again", journal.display());
            let code = error.code();
            Err(Failure { code, error: anyhow!("{error}\n{kept}") })
        }
        End::Stopped => Err(stopped("stopped".to_owned())),
        End::Budget => {
            let budget = args.budget_tokens.unwrap_or_default();
            Err(stopped(format!("the next request could exceed --budget-tokens {budget}; raise it")))
        }
        End::Complete if asked.totals.unanswered > 0 => {
            let (number, why) = (asked.totals.unanswered, asked.trouble.unwrap_or_default());
            Err(anyhow!(
                "{number} samples are missing, the last one because of: {why}; the same command asks for them again"
            )
            .into())
        }
        End::Complete => Ok(()),
    }
}

fn failure(error: TeachError) -> Failure {
    Failure { code: error.code(), error: error.into() }
}
