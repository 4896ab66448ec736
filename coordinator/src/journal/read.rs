//! Reading: a journal's records one by one, with one segment in memory, also while a coordinator writes it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use coordinator_core::{Digest, Record};

use super::error::{self, io};
use super::frame::{self, Header, Next};
use super::{JournalError, segment};

/// The records of a journal, in order. After the last one (or the first error) `head` and `torn` say how it ended.
#[derive(Debug)]
pub struct Records {
    waiting: VecDeque<(PathBuf, File)>,
    segment: Option<Segment>,
    head: Option<Digest>,
    torn: u64,
    number: u64,
}

/// Where a record ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Number of its segment.
    pub(super) segment: u64,
    /// The first byte behind it.
    pub(super) end: usize,
    /// Head of the chain after it.
    pub(super) head: Digest,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
}

impl Records {
    /// All records. The file `path` is the journal's last segment; the sealed ones stand in a folder beside it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        // The last segment first: whatever is sealed meanwhile, those before it are there already.
        let (last, header) = open_segment(path)?;
        let mut waiting = VecDeque::new();
        for number in 1..header.number {
            let path = segment::sealed(path, number);
            let file = File::open(&path).map_err(io(&path))?;
            waiting.push_back((path, file));
        }
        waiting.push_back((path.to_owned(), last));
        Ok(Records { waiting, segment: None, head: None, torn: 0, number: 0 })
    }

    /// The records of the last segment only.
    pub fn tail(path: &Path) -> Result<Self, JournalError> {
        let (last, header) = open_segment(path)?;
        let waiting = VecDeque::from([(path.to_owned(), last)]);
        Ok(Records { waiting, segment: None, head: None, torn: 0, number: header.number - 1 })
    }

    /// Hash of the last frame that was read: the head of the chain.
    pub fn head(&self) -> Option<Digest> {
        self.head
    }

    /// Bytes of a torn tail, if there was one.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// The end of the record that was read last.
    pub(super) fn place(&self) -> Option<Place> {
        Some(Place { segment: self.number, end: self.segment.as_ref()?.at, head: self.head? })
    }

    /// Number of the segment that was read last.
    pub(super) fn segment(&self) -> u64 {
        self.number
    }

    /// Reads the next segment; none when there is none.
    fn advance(&mut self) -> Result<Option<Segment>, JournalError> {
        let Some((path, mut file)) = self.waiting.pop_front() else { return Ok(None) };
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).map_err(io(&path))?;
        let header = Header::decode(&bytes).map_err(error::header(&path))?;
        self.number += 1;
        let expected = self.head.or((self.number == 1).then_some(Header::first().previous));
        if header.number != self.number || expected.is_some_and(|expected| expected != header.previous) {
            return Err(JournalError::Discontinued { path });
        }
        self.head = Some(header.previous);
        Ok(Some(Segment { path, bytes, at: frame::HEADER }))
    }

    fn step(&mut self) -> Result<Option<Record>, JournalError> {
        loop {
            if self.segment.is_none() {
                self.segment = self.advance()?;
            }
            let (Some(segment), Some(head)) = (&mut self.segment, self.head) else { return Ok(None) };
            let at = segment.at as u64;
            match frame::next(&segment.bytes, segment.at, head) {
                Next::Frame { payload, head, end } => {
                    let record = Record::decode(payload);
                    let record = record.map_err(|error| JournalError::Record { path: segment.path.clone(), at, error });
                    segment.at = end;
                    self.head = Some(head);
                    return record.map(Some);
                }
                Next::End => self.segment = None,
                // Only the last segment can be torn: the others were whole when they were sealed.
                Next::Torn(bytes) if self.waiting.is_empty() => {
                    self.torn = bytes;
                    self.segment = None;
                }
                Next::Torn(_) | Next::Broken => return Err(JournalError::Broken { path: segment.path.clone(), at }),
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.waiting.clear();
            self.segment = None;
        }
        step.transpose()
    }
}

/// The header of the journal's last segment.
pub(super) fn header_of(path: &Path) -> Result<Header, JournalError> {
    Ok(open_segment(path)?.1)
}

/// Opens a segment and reads its header; the file stands at its first byte again.
fn open_segment(path: &Path) -> Result<(File, Header), JournalError> {
    let mut file = File::open(path).map_err(io(path))?;
    let mut bytes = vec![];
    Read::by_ref(&mut file).take(frame::HEADER as u64).read_to_end(&mut bytes).map_err(io(path))?;
    let header = Header::decode(&bytes).map_err(error::header(path))?;
    std::io::Seek::rewind(&mut file).map_err(io(path))?;
    Ok((file, header))
}
