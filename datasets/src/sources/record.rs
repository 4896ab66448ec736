//! Records: the pieces of a file that become one trajectory each, whatever the file is made of.

use std::io::BufRead;

use serde_json::Value;

use super::lines::{LINE_MAX, Line, Lines};
use super::reasons::{Reason, Refusal};

/// A snippet of a record is this long at most, in bytes.
pub const SNIPPET_MAX: usize = 80;

/// One record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Line of its first byte, from 1; of a Parquet file its row, from 1.
    pub line: u64,
    /// Offset of its first byte in the unpacked file; of a Parquet file its row, from 0.
    pub byte: u64,
    /// From 0.
    pub index: u64,
    /// Its bytes, the first [`LINE_MAX`] of them.
    pub bytes: Vec<u8>,
    /// Its whole length.
    pub length: u64,
    /// The file ends before the record does.
    pub cut: bool,
}

impl Record {
    /// The JSON object in it.
    pub fn object(&self) -> Result<Value, Refusal> {
        if self.length > LINE_MAX as u64 {
            return Err(Reason::TooLong.because(format!("{} bytes, {LINE_MAX} are the limit", self.length)));
        }
        let mut bytes = self.bytes.as_slice();
        if self.byte == 0 {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Reason::NotUtf8.because(format!("byte {} of the record", error.valid_up_to())))?;
        if text.trim().is_empty() {
            return Err(Reason::BlankLine.because("no record on this line"));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let reason = if error.is_eof() && self.cut { Reason::Truncated } else { Reason::NotJson };
            reason.because(error.to_string())
        })?;
        if value.is_object() { Ok(value) } else { Err(Reason::NotAnObject.because("a record is a JSON object")) }
    }

    /// How it begins.
    pub fn snippet(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(SNIPPET_MAX)]).into_owned()
    }
}

/// How records follow each other in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One a line.
    Lines,
    /// Elements of one array, or documents one after the other, over any number of lines.
    Documents,
}

impl Framing {
    /// A file that begins with `[`, or with an object that its first line does not close, is made of documents.
    pub fn of(start: &[u8]) -> Self {
        let start = start.strip_prefix("\u{feff}".as_bytes()).unwrap_or(start);
        let text = start.trim_ascii_start();
        let first_line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let object_opens = text.starts_with(b"{") && first_line.len() < text.len();
        if text.starts_with(b"[") || object_opens && first_line.trim_ascii().len() < 2 {
            Framing::Documents
        } else {
            Framing::Lines
        }
    }
}

/// The records of a reader, and the hash of all bytes read.
pub struct Records<R> {
    lines: Lines<R>,
    framing: Framing,
    index: u64,
    open: Open,
}

/// A document that is being collected.
#[derive(Default)]
struct Open {
    record: Option<Record>,
    depth: u32,
    in_text: bool,
    escaped: bool,
    array: bool,
    rest: Option<(Line, usize)>,
}

impl<R: BufRead> Records<R> {
    /// Records in a framing.
    pub fn new(reader: R, framing: Framing) -> Self {
        Records { lines: Lines::new(reader), framing, index: 0, open: Open::default() }
    }

    /// blake3 of the whole file once its end was met, hexadecimal.
    pub fn hash(&self) -> String {
        self.lines.hash()
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// The next record; none at the end. Errors are those of reading.
    pub fn next_record(&mut self) -> std::io::Result<Option<Record>> {
        let record = match self.framing {
            Framing::Lines => self.lines.next_line()?.map(|line| Record {
                line: line.number,
                byte: line.byte,
                index: 0,
                cut: !line.ended,
                length: line.length,
                bytes: line.bytes,
            }),
            Framing::Documents => self.next_document()?,
        };
        Ok(record.map(|mut record| {
            record.index = self.index;
            self.index += 1;
            record
        }))
    }

    fn next_document(&mut self) -> std::io::Result<Option<Record>> {
        loop {
            let (line, from) = match self.open.rest.take() {
                Some(rest) => rest,
                None => match self.lines.next_line()? {
                    Some(line) => (line, 0),
                    None => {
                        let open = std::mem::take(&mut self.open);
                        return Ok(open.record.map(|record| Record { cut: true, ..record }));
                    }
                },
            };
            if let Some((record, next)) = self.open.take(&line, from) {
                self.open.rest = Some((line, next));
                return Ok(Some(record));
            }
        }
    }
}

impl Open {
    /// Goes on with a line at byte `from`; a document that is complete comes back with the byte after it.
    ///
    /// Outside of documents only `[`, `]`, `,` and white space are passed over; any other run of bytes is a record of
    /// its own, which will not be JSON.
    fn take(&mut self, line: &Line, from: usize) -> Option<(Record, usize)> {
        let mut at = from;
        while at < line.bytes.len() {
            let byte = line.bytes[at];
            let between = self.record.is_none();
            if between {
                let mark = line.number == 1 && at == 0 && line.bytes.starts_with("\u{feff}".as_bytes());
                if mark {
                    at += 3;
                    continue;
                }
                let opens_array = byte == b'[' && !self.array;
                self.array |= opens_array;
                if opens_array || byte.is_ascii_whitespace() || self.array && matches!(byte, b',' | b']') {
                    at += 1;
                    continue;
                }
                self.record = Some(Record {
                    line: line.number,
                    byte: line.byte + at as u64,
                    index: 0,
                    bytes: Vec::new(),
                    length: 0,
                    cut: false,
                });
                (self.depth, self.in_text, self.escaped) = (0, false, false);
            }
            let record = self.record.as_mut()?;
            record.length += 1;
            if record.bytes.len() < LINE_MAX {
                record.bytes.push(byte);
            }
            at += 1;
            let was_escaped = std::mem::take(&mut self.escaped);
            match byte {
                b'\\' if self.in_text && !was_escaped => self.escaped = true,
                b'"' if !was_escaped => self.in_text = !self.in_text,
                b'{' | b'[' if !self.in_text => self.depth = self.depth.saturating_add(1),
                b'}' | b']' if !self.in_text => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            let closes = matches!(byte, b'}' | b']') && !self.in_text && self.depth == 0;
            let bare_ends = self.depth == 0
                && !self.in_text
                && line.bytes.get(at).is_none_or(|next| matches!(next, b',' | b']' | b'{' | b'['));
            if closes || bare_ends {
                return self.record.take().map(|record| (record, at));
            }
        }
        if let Some(record) = &mut self.record {
            // A line that was too long to hold makes its record too long, whatever stands in it.
            record.length += 1 + (line.length - line.bytes.len() as u64);
            if record.bytes.len() < LINE_MAX {
                record.bytes.push(b'\n');
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(text: &str) -> Vec<Record> {
        let mut records = Records::new(text.as_bytes(), Framing::of(text.as_bytes()));
        let mut found = Vec::new();
        while let Some(record) = records.next_record().unwrap() {
            found.push(record);
        }
        found
    }

    fn texts(text: &str) -> Vec<String> {
        records(text).into_iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
    }

    #[test]
    fn lines_arrays_and_whole_files_are_told_apart() {
        assert_eq!(texts("{\"a\": 1}\n{\"b\": 2}\n"), ["{\"a\": 1}", "{\"b\": 2}"]);
        assert_eq!(texts("[\n {\"a\": \"]}\\\"\"},\n {\"b\":\n [1]}\n]\n"), ["{\"a\": \"]}\\\"\"}", "{\"b\":\n [1]}"]);
        assert_eq!(texts("{\n  \"a\": 1\n}"), ["{\n  \"a\": 1\n}"]);
        assert_eq!(texts("\u{feff}[{\"a\": 1}]"), ["{\"a\": 1}"]);
        assert_eq!(texts("[1, {\"a\": 2}, oops]"), ["1", "{\"a\": 2}", "oops"]);
        assert_eq!(texts(""), Vec::<String>::new());
    }

    #[test]
    fn places_and_cuts_are_known() {
        let text = "[\n {\"a\": 1},\n {\"b\": 2";
        let found = records(text);
        assert_eq!((found[0].line, found[0].byte, found[0].cut), (2, 3, false));
        assert_eq!((found[1].line, found[1].byte, found[1].cut), (3, 14, true));
        assert_eq!(found[1].object().unwrap_err().reason, Reason::Truncated);
    }

    #[test]
    fn an_endless_element_is_not_held() {
        let text = format!("[\"{}\", {{\"a\": 1}}]", "x".repeat(3 * LINE_MAX));
        let found = records(&text);
        assert!(found.iter().all(|record| record.bytes.len() <= LINE_MAX));
        assert_eq!(found[0].object().unwrap_err().reason, Reason::TooLong);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'{'), Just(b'['),
            Just(b'"'), Just(b'}'), Just(b']'), Just(b','), Just(b'\n')], 0..80)) {
            for framing in [Framing::Lines, Framing::Documents] {
                let mut records = Records::new(bytes.as_slice(), framing);
                let mut last = None;
                while let Some(record) = records.next_record().unwrap() {
                    prop_assert!(last.is_none_or(|last| last < record.byte) && record.byte < bytes.len().max(1) as u64);
                    last = Some(record.byte);
                    let _ = record.object();
                }
                prop_assert_eq!(records.position(), bytes.len() as u64);
            }
        }
    }
}
