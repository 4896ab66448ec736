//! Files to trajectories, in one pass: records are read in order, converted on all cores, and handed on in order.
//!
//! What is held is some chunks of records for each core, and `super::seen`.

use std::collections::{HashSet, VecDeque};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::Value;

use super::files::Input;
use super::reasons::{Reason, Refusal};
use super::record::{Framing, Record, Records, SNIPPET_MAX};
use super::rows::{Rows, is_parquet};
use super::seen::{Key, Seen};
use super::{At, Counts, Duplicate, Place, Reject, Source, detect, open};
use crate::split::normalise;
use crate::trajectory::Trajectory;

/// Records in a chunk, which one core converts.
const CHUNK: usize = 64;
/// A chunk that holds more bytes takes no more records.
const CHUNK_BYTES: usize = 1 << 18;

/// How to parse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The files' format; told from each file if it is not given.
    pub source: Option<Source>,
    /// The first reject is the end.
    pub strict: bool,
    /// What holds nothing that VERIFY could recompute is refused.
    pub checked_only: bool,
}

/// Takes what is found, in the order of the files. Errors end the parsing.
pub trait Sink {
    /// A file begins; `told_by` says what told its source, if nobody gave it.
    fn file(&mut self, path: &Path, source: Source, told_by: Option<&'static str>) -> Result<(), anyhow::Error>;
    /// A trajectory.
    fn keep(&mut self, trajectory: Trajectory) -> Result<(), anyhow::Error>;
    /// A record that was refused.
    fn reject(&mut self, reject: Reject) -> Result<(), anyhow::Error>;
    /// A problem that was there before.
    fn duplicate(&mut self, duplicate: Duplicate) -> Result<(), anyhow::Error>;
    /// So many records of the current file are done.
    fn progress(&mut self, records: u64);
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The sums.
    pub counts: Counts,
    /// Of the kept ones those whose VERIFY recomputes nothing (`meta.checked` is 0).
    pub unchecked: u64,
    /// blake3 of the unpacked bytes, hexadecimal; of several files that of their hashes, in order.
    pub hash: String,
    /// The sources met, in order of appearance.
    pub sources: Vec<Source>,
}

/// Why the parsing ended early.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// A file cannot be read on.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// Nothing in a file's first records tells its source.
    #[error("{0}: nothing in its first records tells what it is; say it with --source")]
    UnknownSource(PathBuf),
    /// `strict`, and a record was refused.
    #[error("{source_file}, line {line}: {reason}: {detail} (--strict)", source_file = .0.place.source, line = .0.place.line, reason = .0.reason, detail = .0.detail)]
    Strict(Reject),
    /// The problems met cannot be remembered.
    #[error("a temporary file: {0}; TMPDIR names the folder for such files")]
    Index(std::io::Error),
    /// The sink's.
    #[error(transparent)]
    Sink(#[from] anyhow::Error),
}

/// Parses all files.
pub fn parse(inputs: &[Input], options: Options, sink: &mut impl Sink) -> Result<Summary, ParseError> {
    let mut run = Run { options, sink, summary: Summary::default(), seen: Seen::new(), names: Vec::new() };
    let mut hashes = Vec::new();
    let mut prefixes = HashSet::new();
    for input in inputs {
        hashes.push(run.file(input, &mut prefixes)?);
    }
    run.summary.hash = match hashes.as_slice() {
        [one] => one.clone(),
        many => blake3::hash(many.concat().as_bytes()).to_hex().to_string(),
    };
    Ok(run.summary)
}

struct Run<'s, S> {
    options: Options,
    sink: &'s mut S,
    summary: Summary,
    seen: Seen,
    names: Vec<String>,
}

/// A record as it was read.
pub(crate) enum Raw {
    Bytes(Record),
    Row(u64, Value),
}

/// The records of a file, whatever it is made of.
pub(crate) enum Reader {
    Bytes(Box<Records<Box<dyn BufRead + Send>>>),
    Rows(Rows, u64),
}

impl Reader {
    /// Opens a file. Errors are sentences of the reader's.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        if is_parquet(path) {
            return Ok(Reader::Rows(Rows::open(path)?, 0));
        }
        let mut file = open::open(path).map_err(|error| error.to_string())?;
        let framing = Framing::of(file.fill_buf().map_err(|error| error.to_string())?);
        Ok(Reader::Bytes(Box::new(Records::new(file, framing))))
    }

    /// The next record; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Raw>, String> {
        match self {
            Reader::Bytes(records) => Ok(records.next_record().map_err(|error| error.to_string())?.map(Raw::Bytes)),
            Reader::Rows(rows, next) => {
                *next += 1;
                Ok(rows.next_row()?.map(|row| Raw::Row(*next - 1, row)))
            }
        }
    }

    fn hash(&self, path: &Path) -> Result<String, String> {
        match self {
            Reader::Bytes(records) => Ok(records.hash()),
            Reader::Rows(..) => {
                let mut hasher = blake3::Hasher::new();
                let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
                hasher.update_reader(file).map_err(|error| error.to_string())?;
                Ok(hasher.finalize().to_hex().to_string())
            }
        }
    }
}

impl Raw {
    /// Line from 1, byte, and index from 0.
    pub(crate) fn place(&self) -> (u64, u64, u64) {
        match self {
            Raw::Bytes(record) => (record.line, record.byte, record.index),
            Raw::Row(index, _) => (index + 1, *index, *index),
        }
    }

    /// The JSON object in it.
    pub(crate) fn value(&self) -> Result<Value, Refusal> {
        match self {
            Raw::Bytes(record) => record.object(),
            Raw::Row(_, row) => Ok(row.clone()),
        }
    }

    /// How it begins.
    pub(crate) fn snippet(&self) -> String {
        match self {
            Raw::Bytes(record) => record.snippet(),
            Raw::Row(_, row) => {
                let text = row.to_string();
                let end = (0..=SNIPPET_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
                text[..end.unwrap_or(0)].to_owned()
            }
        }
    }
}

/// A record's place, and the trajectory with its problem's key, or the reason with how the record begins.
struct Converted {
    line: u64,
    byte: u64,
    made: Result<(Key, Trajectory), (Refusal, String)>,
}

impl<S: Sink> Run<'_, S> {
    fn file(&mut self, input: &Input, prefixes: &mut HashSet<String>) -> Result<String, ParseError> {
        let path = &input.path;
        let unreadable = |reason| ParseError::Unreadable { path: path.clone(), reason };
        let mut reader = Reader::open(path).map_err(unreadable)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut read = |chunk: &mut Vec<Raw>, upto: usize| -> Result<(), ParseError> {
            let mut held = 0;
            while chunk.len() < upto && held < CHUNK_BYTES {
                let Some(raw) = reader.next().map_err(unreadable)? else { break };
                held += if let Raw::Bytes(record) = &raw { record.bytes.len() } else { 0 };
                chunk.push(raw);
            }
            Ok(())
        };
        read(&mut chunk, detect::RECORDS)?;
        let (source, told_by) = match self.options.source {
            Some(source) => (source, None),
            None => {
                let values: Vec<Value> = chunk.iter().filter_map(|raw| raw.value().ok()).collect();
                let found = detect::source(&values).ok_or_else(|| ParseError::UnknownSource(path.clone()))?;
                (found.0, Some(found.1))
            }
        };
        self.sink.file(path, source, told_by)?;
        if !self.summary.sources.contains(&source) {
            self.summary.sources.push(source);
        }
        let file = self.names.len() as u32;
        self.names.push(path.display().to_string());
        let split = input.split();
        let name = input.name().filter(|name| *name != split);
        let prefix = format!("{}/{split}", source.name());
        let full = |number: u32| if number == 1 { prefix.clone() } else { format!("{prefix}-{number}") };
        let own = |number: u32| format!("{}/{}", full(number), name.as_deref().unwrap_or_default());
        let number = (1..).find(|number| prefixes.insert(own(*number))).unwrap_or(1);
        let prefix = full(number);
        let checked_only = self.options.checked_only;
        let convert = |raw: Raw| -> Converted {
            let (line, byte, index) = raw.place();
            let at = At { prefix: &prefix, split: &split, index, name: name.as_deref() };
            let made = match &raw {
                Raw::Bytes(record) => source.convert_record(record, &at),
                Raw::Row(_, row) => source.convert(row, &at),
            };
            let made = made.and_then(|trajectory| {
                let nothing = checked_only && is_unchecked(&trajectory);
                if nothing { Err(Reason::NothingToCheck.because("no calculation in EXECUTE")) } else { Ok(trajectory) }
            });
            let made = match made {
                Ok(trajectory) => Ok((key(&trajectory.question), trajectory)),
                Err(refusal) => Err((refusal, raw.snippet())),
            };
            Converted { line, byte, made }
        };
        let convert = &convert;
        // A chunk is with whatever core is free; the chunks' ends are waited for in their order.
        rayon::in_place_scope(|scope| {
            let ahead = 1 + 2 * rayon::current_num_threads();
            let mut pending = VecDeque::with_capacity(ahead);
            loop {
                read(&mut chunk, CHUNK)?;
                let records = std::mem::take(&mut chunk);
                if records.is_empty() {
                    break;
                }
                if pending.len() == ahead
                    && let Some(oldest) = pending.pop_front()
                {
                    self.settle(file, oldest)?;
                }
                let (done, end) = sync_channel(1);
                // Where nobody waits any more an error ended it all.
                scope.spawn(move |_| drop(done.send(records.into_iter().map(convert).collect())));
                pending.push_back(end);
            }
            pending.into_iter().try_for_each(|end| self.settle(file, end))
        })?;
        reader.hash(path).map_err(unreadable)
    }

    /// Takes a chunk's records into the counts and to the sink. A chunk whose end never comes is that of a panic, which the
    /// scope passes on.
    fn settle(&mut self, file: u32, chunk: Receiver<Vec<Converted>>) -> Result<(), ParseError> {
        let converted = chunk.recv().unwrap_or_default();
        let records = converted.len() as u64;
        for Converted { line, byte, made } in converted {
            self.summary.counts.read += 1;
            let place = || Place { source: self.names[file as usize].clone(), line, byte };
            match made {
                Err((Refusal { reason, detail }, snippet)) => {
                    *self.summary.counts.rejected.entry(reason.code()).or_default() += 1;
                    let reject = Reject { place: place(), reason: reason.code(), detail, snippet };
                    if self.options.strict {
                        return Err(ParseError::Strict(reject));
                    }
                    self.sink.reject(reject)?;
                }
                Ok((key, trajectory)) => match self.seen.first(key, (file, line, byte)).map_err(ParseError::Index)? {
                    Some((first, line, byte)) => {
                        self.summary.counts.duplicates += 1;
                        let first = Place { source: self.names[first as usize].clone(), line, byte };
                        self.sink.duplicate(Duplicate { place: place(), first })?;
                    }
                    None => {
                        self.summary.counts.kept += 1;
                        self.summary.unchecked += u64::from(is_unchecked(&trajectory));
                        self.sink.keep(trajectory)?;
                    }
                },
            }
        }
        self.sink.progress(records);
        Ok(())
    }
}

/// Whether the composer found nothing to recompute (it says so in `meta`).
fn is_unchecked(trajectory: &Trajectory) -> bool {
    trajectory.meta.contains("\"checked\":0")
}

fn key(question: &str) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(normalise(question).as_bytes()).as_bytes()[..16]);
    key
}

/// Everything in memory, for small inputs.
#[derive(Debug, Default)]
pub struct Collected {
    /// Kept.
    pub trajectories: Vec<Trajectory>,
    /// Refused.
    pub rejects: Vec<Reject>,
    /// There before.
    pub duplicates: Vec<Duplicate>,
    /// Files with their sources.
    pub files: Vec<(PathBuf, Source)>,
}

impl Sink for Collected {
    fn file(&mut self, path: &Path, source: Source, _: Option<&'static str>) -> Result<(), anyhow::Error> {
        self.files.push((path.to_owned(), source));
        Ok(())
    }

    fn keep(&mut self, trajectory: Trajectory) -> Result<(), anyhow::Error> {
        self.trajectories.push(trajectory);
        Ok(())
    }

    fn reject(&mut self, reject: Reject) -> Result<(), anyhow::Error> {
        self.rejects.push(reject);
        Ok(())
    }

    fn duplicate(&mut self, duplicate: Duplicate) -> Result<(), anyhow::Error> {
        self.duplicates.push(duplicate);
        Ok(())
    }

    fn progress(&mut self, _: u64) {}
}
