//! Lines of a file of any size and content: cut at LF only, each with its place, none larger than a limit in memory.

use std::io::{BufRead, ErrorKind};

/// Longer lines are not held; their length is known all the same.
pub const LINE_MAX: usize = 1 << 20;

/// One line, without its LF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Where it starts in the file.
    pub byte: u64,
    /// Its bytes, the first [`LINE_MAX`] of them.
    pub bytes: Vec<u8>,
    /// Its whole length.
    pub length: u64,
    /// A LF ends it; only a file's last line may lack one.
    pub ended: bool,
}

/// Reads lines one by one and hashes all bytes on the way.
pub struct Lines<R> {
    reader: R,
    number: u64,
    byte: u64,
    hasher: blake3::Hasher,
    /// Bytes that the reader holds and that are hashed already: whole buffers are, which is many times faster than lines.
    hashed: usize,
}

impl<R: BufRead> Lines<R> {
    /// Lines of a reader.
    pub fn new(reader: R) -> Self {
        Lines { reader, number: 0, byte: 0, hasher: blake3::Hasher::new(), hashed: 0 }
    }

    /// The next line; none at the end.
    pub fn next_line(&mut self) -> std::io::Result<Option<Line>> {
        let mut line = Line { number: self.number + 1, byte: self.byte, bytes: Vec::new(), length: 0, ended: false };
        while !line.ended {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            if chunk.is_empty() {
                break;
            }
            if self.hashed < chunk.len() {
                self.hasher.update(&chunk[self.hashed..]);
                self.hashed = chunk.len();
            }
            let end = memchr::memchr(b'\n', chunk);
            let body = &chunk[..end.unwrap_or(chunk.len())];
            let room = LINE_MAX - line.bytes.len();
            line.bytes.extend_from_slice(&body[..body.len().min(room)]);
            line.length += body.len() as u64;
            line.ended = end.is_some();
            let used = body.len() + usize::from(line.ended);
            self.byte += used as u64;
            self.hashed -= used;
            self.reader.consume(used);
        }
        if line.length == 0 && !line.ended {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(line))
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.byte
    }

    /// blake3 of the whole file once its end was met, hexadecimal.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_feed_ends_a_line() {
        let bytes = "a\r\n\u{2028}b\n\nlast".as_bytes();
        let mut lines = Lines::new(std::io::BufReader::with_capacity(3, bytes));
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((line.number, line.byte, line.length, line.ended));
        }
        assert_eq!(found, [(1, 0, 2, true), (2, 3, 4, true), (3, 8, 0, true), (4, 9, 4, false)]);
        assert_eq!(lines.hash(), blake3::hash(bytes).to_hex().to_string());
    }

    #[test]
    fn a_huge_line_is_not_held() {
        let bytes = vec![b'x'; LINE_MAX + 7];
        let line = Lines::new(bytes.as_slice()).next_line().unwrap().unwrap();
        assert_eq!((line.bytes.len(), line.length), (LINE_MAX, LINE_MAX as u64 + 7));
    }
}
