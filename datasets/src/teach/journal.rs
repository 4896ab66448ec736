//! Every reply that was received: JSON Lines that only grow. A line is fsynced before its reply counts.
//!
//! The first line says what was asked of whom; replies to another request are not mixed in. A crash can leave one line
//! half written at the end: it is cut off, and its question asked again. A broken line before a whole one is damage, which
//! is an error. One process at a time has the journal, by a lock on the file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::TeachError;
use super::usage::Usage;
use crate::network::file::sync_folder_of;

/// What all replies of a journal answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The model asked for.
    pub model: String,
    /// Version of the prompt.
    pub prompt: String,
    /// The sampling temperature; the server's own if none.
    pub temperature: Option<f64>,
}

/// What a teacher said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Why it ended: `stop`, `length`, ….
    pub finish: String,
    /// The model, in the server's words.
    pub model: String,
    /// Its tokens.
    pub usage: Usage,
}

/// How a question was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answered {
    /// With a reply.
    Reply(Reply),
    /// The server refuses this question.
    Refused(String),
}

/// Question and number of the sample, from 0.
pub type SampleKey = (String, u32);

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    question: String,
    sample: u32,
    #[serde(flatten)]
    answered: Answered,
}

/// The journal, open for more.
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    /// What was there when it was opened.
    answers: BTreeMap<SampleKey, Answered>,
    /// So many bytes of a half-written line were cut off.
    pub torn: u64,
}

impl Journal {
    /// Opens a journal for a request, or begins it.
    ///
    /// # Errors
    /// [`TeachError::OtherRequest`], [`TeachError::Locked`], [`TeachError::Damaged`], [`TeachError::Io`].
    pub fn open(path: &Path, request: &Request) -> Result<Self, TeachError> {
        let io = |error| TeachError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TeachError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let contents = Contents::read(path, &bytes, request)?;
        let torn = (bytes.len() - contents.whole) as u64;
        if torn > 0 {
            file.set_len(contents.whole as u64).and_then(|()| file.sync_all()).map_err(io)?;
        }
        file.seek(SeekFrom::Start(contents.whole as u64)).map_err(io)?;
        let journal = Journal { path: path.to_owned(), file: Mutex::new(file), answers: contents.answers, torn };
        if contents.whole == 0 {
            journal.line(request)?;
            sync_folder_of(path).map_err(io)?;
        }
        Ok(journal)
    }

    /// What a journal holds, without opening it for more; nothing if it is not there.
    ///
    /// # Errors
    /// As [`Journal::open`], but for the lock.
    pub fn peek(path: &Path, request: &Request) -> Result<BTreeMap<SampleKey, Answered>, TeachError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Contents::read(path, &bytes, request)?.answers),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(TeachError::Io { path: path.to_owned(), error }),
        }
    }

    /// What was there when it was opened; taken once.
    pub fn take_answers(&mut self) -> BTreeMap<SampleKey, Answered> {
        std::mem::take(&mut self.answers)
    }

    /// Writes an answer; it is on disk when this returns.
    ///
    /// # Errors
    /// [`TeachError::Io`]; nothing durable can be said about the file any more.
    pub fn append(&self, key: &SampleKey, answered: &Answered) -> Result<(), TeachError> {
        self.line(&Line { question: key.0.clone(), sample: key.1, answered: answered.clone() })
    }

    fn line(&self, value: &impl Serialize) -> Result<(), TeachError> {
        let io = |error| TeachError::Io { path: self.path.clone(), error };
        let text = serde_json::to_string(value).map_err(|error| io(error.into()))? + "\n";
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(io)
    }
}

/// What a journal's bytes say.
struct Contents {
    answers: BTreeMap<SampleKey, Answered>,
    /// Bytes up to the end of the last whole line.
    whole: usize,
}

impl Contents {
    fn read(path: &Path, bytes: &[u8], request: &Request) -> Result<Self, TeachError> {
        let damaged = |line: u64, why: String| TeachError::Damaged { path: path.to_owned(), line, why };
        let mut contents = Contents { answers: BTreeMap::new(), whole: 0 };
        let mut torn: Option<(u64, String)> = None;
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            if let Some((number, why)) = torn {
                return Err(damaged(number, why));
            }
            let ended = line.ends_with(b"\n");
            if number == 1 {
                let begun = serde_json::to_string(request).is_ok_and(|text| text.as_bytes().starts_with(line));
                match serde_json::from_slice(line) {
                    Ok(found) if ended => same(path, &found, request)?,
                    // The crash came at once.
                    _ if begun => return Ok(contents),
                    _ => return Err(TeachError::NoJournal { path: path.to_owned() }),
                }
            } else {
                match serde_json::from_slice(line) {
                    Ok(Line { question, sample, answered }) if ended => {
                        contents.answers.insert((question, sample), answered);
                    }
                    Ok(_) => break,
                    Err(error) => {
                        torn = Some((number, error.to_string()));
                        continue;
                    }
                }
            }
            contents.whole += line.len();
        }
        Ok(contents)
    }
}

/// An error unless a journal was begun for this request.
fn same(path: &Path, found: &Request, wanted: &Request) -> Result<(), TeachError> {
    let temperature = |value: Option<f64>| value.map_or_else(|| "the server's".to_owned(), |value| value.to_string());
    let pairs = [
        ("model", found.model.clone(), wanted.model.clone()),
        ("prompt", found.prompt.clone(), wanted.prompt.clone()),
        ("temperature", temperature(found.temperature), temperature(wanted.temperature)),
    ];
    match pairs.into_iter().find(|(_, found, wanted)| found != wanted) {
        None => Ok(()),
        Some((name, found, wanted)) => {
            let what = format!("{name} `{found}`, not `{wanted}`");
            Err(TeachError::OtherRequest { path: path.to_owned(), what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request { model: "m".to_owned(), prompt: "p".to_owned(), temperature: Some(0.7) }
    }

    fn reply(text: &str) -> Answered {
        let (text, finish, model) = (text.to_owned(), "stop".to_owned(), "m-1".to_owned());
        Answered::Reply(Reply { text, finish, model, usage: Usage { prompt: 3, completion: 4, estimated: 0 } })
    }

    fn key(question: &str, sample: u32) -> SampleKey {
        (question.to_owned(), sample)
    }

    /// A journal with three answers, and its path.
    fn three(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("t.journal.jsonl");
        let journal = Journal::open(&path, &request()).unwrap();
        journal.append(&key("a", 0), &reply("một\n🍎")).unwrap();
        journal.append(&key("a", 1), &Answered::Refused("no".to_owned())).unwrap();
        journal.append(&key("b", 0), &reply("z")).unwrap();
        path
    }

    #[test]
    fn a_tail_cut_at_any_byte_costs_the_last_answer_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(&folder);
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
        assert_eq!(ends.len(), 4);
        let near = ends.iter().flat_map(|end| [end - 1, *end]);
        for cut in (0..whole.len()).step_by(7).chain(near) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path, &request()).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(journal.take_answers().len(), kept, "cut at {cut}");
            journal.append(&key("b", 0), &reply("again")).unwrap();
            drop(journal);
            let answers = Journal::peek(&path, &request()).unwrap();
            assert_eq!(answers[&key("b", 0)], reply("again"), "cut at {cut}");
        }
    }

    #[test]
    fn a_last_line_of_zeros_is_torn_and_a_broken_line_in_the_middle_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(&folder);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [whole.as_slice(), &[0; 900], b"\n"].concat()).unwrap();
        let mut journal = Journal::open(&path, &request()).unwrap();
        assert_eq!((journal.torn, journal.take_answers().len()), (901, 3));
        drop(journal);
        let mut broken = whole.clone();
        let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 5;
        broken[second] = 0;
        std::fs::write(&path, &broken).unwrap();
        assert!(matches!(Journal::open(&path, &request()), Err(TeachError::Damaged { line: 2, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), broken, "damage is left as it is");
    }

    #[test]
    fn another_file_another_request_and_a_second_process_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(&folder);
        let other = Request { temperature: None, ..request() };
        let refused = Journal::open(&path, &other).err().unwrap();
        assert!(refused.to_string().contains("temperature `0.7`, not `the server's`"), "{refused}");
        let _first = Journal::open(&path, &request()).unwrap();
        assert!(matches!(Journal::open(&path, &request()), Err(TeachError::Locked { .. })));
        let notes = folder.path().join("notes.txt");
        for text in ["my notes", "my notes\n", "{}\n{}\n", "[1]\n"] {
            std::fs::write(&notes, text).unwrap();
            assert!(matches!(Journal::open(&notes, &request()), Err(TeachError::NoJournal { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&notes).unwrap(), text);
        }
    }
}
