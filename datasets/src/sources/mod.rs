//! Sources: bytes of published files to trajectories. Every record is kept, a duplicate, or rejected with a reason.

pub mod chat;
pub mod detect;
pub mod files;
mod flat;
pub mod gsm8k;
pub mod headings;
pub mod lines;
pub mod math;
pub mod open;
pub mod parse;
pub mod reasons;
pub mod record;
pub mod rows;
mod seen;
pub mod teacher;
pub mod trajectories;
pub mod vnhsge;

use std::borrow::Cow;
use std::collections::BTreeMap;

use reasons::{Reason, Refusal};
use record::Record;
use serde::Serialize;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::nfc::nfc;
use crate::trajectory::Trajectory;

/// A published format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Source {
    /// `question` and `answer`, calculator annotations in the answer (also the socratic form).
    Gsm8k,
    /// `problem` and `solution`, the answer in the last `\boxed{}`; a file a problem in a tree, or JSON Lines.
    Math,
    /// `Question` with options, `Choice`, `Explanation`; Vietnamese.
    Vnhsge,
    /// A teacher model's traces: `cot_4steps`, or four stages as text in `full_response`.
    Teacher,
    /// `messages` of `role` and `content`.
    Chat,
    /// Trajectories as this program writes them, to be checked again.
    Trajectories,
}

impl Source {
    /// As `--source` and the Parquet's metadata have it.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Gsm8k => "gsm8k",
            Source::Math => "math",
            Source::Vnhsge => "vnhsge",
            Source::Teacher => "teacher",
            Source::Chat => "chat",
            Source::Trajectories => "trajectories",
        }
    }

    /// The parser's version.
    pub const fn version(self) -> &'static str {
        match self {
            Source::Gsm8k => gsm8k::VERSION,
            Source::Math => math::VERSION,
            Source::Vnhsge => vnhsge::VERSION,
            Source::Teacher => teacher::VERSION,
            Source::Chat => chat::VERSION,
            Source::Trajectories => trajectories::VERSION,
        }
    }

    /// A record as a trajectory: in NFC, and such that its canonical text is read back as the same stages.
    pub fn convert(self, record: &Value, at: &At<'_>) -> Result<Trajectory, Refusal> {
        let convert = match self {
            Source::Gsm8k => gsm8k::convert,
            Source::Math => math::convert,
            Source::Vnhsge => vnhsge::convert,
            Source::Teacher => teacher::convert,
            Source::Chat => chat::convert,
            Source::Trajectories => trajectories::convert,
        };
        checked(convert(record, at)?)
    }

    /// The same of a record as it was read.
    fn convert_record(self, record: &Record, at: &At<'_>) -> Result<Trajectory, Refusal> {
        let flat = if self == Source::Gsm8k { gsm8k::convert_flat(record, at) } else { None };
        match flat {
            Some(made) => checked(made?),
            None => self.convert(&record.object()?, at),
        }
    }
}

/// The trajectory in NFC, if its canonical text is read back as the same stages.
fn checked(mut trajectory: Trajectory) -> Result<Trajectory, Refusal> {
    let t = &mut trajectory;
    let mut holds_signs = false;
    for text in [&mut t.question, &mut t.understand, &mut t.plan, &mut t.execute, &mut t.verify, &mut t.answer] {
        if let Cow::Owned(normal) = nfc(text) {
            *text = normal;
        }
        // Both are rare, and looked for together.
        if memchr::memchr2(0, b'#', text.as_bytes()).is_some() {
            holds_signs = true;
            if holds_nul(text) {
                return Err(Reason::Nul.because("in the text"));
            }
        }
    }
    // Without a sign of a tag only the end of VERIFY can be read elsewhere.
    let is_read_back = if holds_signs { trajectory.is_read_back() } else { trajectory.verify_ends_late() };
    if !is_read_back {
        return Err(Reason::HoldsATag.because("the canonical text is not read back as the same stages"));
    }
    Ok(trajectory)
}

/// Where a record stands, for its id.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Begins the id: `gsm8k/train`.
    pub prefix: &'a str,
    /// The source's own split.
    pub split: &'a str,
    /// Number of the record in its file, from 0.
    pub index: u64,
    /// The file's own name for it, where each file is one record.
    pub name: Option<&'a str>,
}

impl At<'_> {
    /// `gsm8k/train/17`, or `math/train/algebra/1057` where each problem has its file.
    pub fn id(&self) -> String {
        let mut number = itoa::Buffer::new();
        [self.prefix, "/", self.name.unwrap_or_else(|| number.format(self.index))].concat()
    }
}

/// A field that must hold text which says something.
pub(crate) fn text<'a>(record: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    let text = match record.get(name) {
        None => return Err(Reason::MissingField.because(format!("no field `{name}`"))),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Reason::NotAString.because(format!("field `{name}` is no string"))),
    };
    if holds_nul(text) {
        return Err(Reason::Nul.because(format!("field `{name}`")));
    }
    if text.trim().is_empty() {
        return Err(Reason::EmptyField.because(format!("field `{name}`")));
    }
    Ok(text)
}

fn holds_nul(text: &str) -> bool {
    memchr::memchr(0, text.as_bytes()).is_some()
}

/// `vi` for a text with at least three letters that only Vietnamese has, else `en`.
pub fn language_of(text: &str) -> &'static str {
    let is_vietnamese = |c: &char| matches!(c, 'đ' | 'Đ' | 'ơ' | 'Ơ' | 'ư' | 'Ư' | 'ă' | 'Ă' | '\u{1ea0}'..='\u{1ef9}');
    if text.nfc().filter(is_vietnamese).take(3).count() == 3 { "vi" } else { "en" }
}

/// Where a record stands, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was named.
    pub source: String,
    /// Line of its first byte, from 1.
    pub line: u64,
    /// Offset of its first byte in the (unpacked) file.
    pub byte: u64,
}

/// A record that was refused, as it goes into the rejects file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// A code of the table in [`reasons`].
    pub reason: &'static str,
    /// What exactly was wrong, and where in the record.
    pub detail: String,
    /// How the record begins.
    pub snippet: String,
}

/// A record whose problem an earlier one has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Where the problem was first.
    pub first: Place,
}

/// How many records became what; `read = kept + rejected + duplicates`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records in the files.
    pub read: u64,
    /// Trajectories made.
    pub kept: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Problems that an earlier record has.
    pub duplicates: u64,
}

impl Counts {
    /// Whether every record is accounted for.
    pub fn add_up(&self) -> bool {
        self.read == self.kept + self.refused() + self.duplicates
    }

    /// All that were refused.
    pub fn refused(&self) -> u64 {
        self.rejected.values().sum()
    }
}
