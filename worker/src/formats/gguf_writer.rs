//! Writes a GGUF, version 3, little endian: metadata and tensor table first, then each tensor as it is made. Source:
//! ggml's docs/gguf.md.

use std::io::{self, Write};

use half::f16;

/// Bytes to which every tensor is aligned.
const ALIGNMENT: usize = 32;

/// How a tensor's numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// fp32
    F32,
    /// fp16
    F16,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Kind::F32 => 0,
            Kind::F16 => 1,
        }
    }

    fn bytes(self, values: usize) -> usize {
        match self {
            Kind::F32 => 4 * values,
            Kind::F16 => 2 * values,
        }
    }
}

/// A file's metadata and table, before its tensors.
#[derive(Debug, Clone, Default)]
pub struct Header {
    metadata: Vec<u8>,
    keys: u64,
    table: Vec<u8>,
    tensors: Vec<(Kind, usize)>,
    end: usize,
}

impl Header {
    /// A text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_text(&mut self.metadata, value);
    }

    /// An unsigned number of 32 bits.
    pub fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.metadata.extend(value.to_le_bytes());
    }

    /// An fp32.
    pub fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.metadata.extend(value.to_le_bytes());
    }

    /// A flag.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.metadata.push(u8::from(value));
    }

    /// A list of texts.
    pub fn texts<'a>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'a str>) {
        self.list(key, 8, values.len());
        values.for_each(|value| put_text(&mut self.metadata, value));
    }

    /// A list of signed numbers of 32 bits.
    pub fn integers(&mut self, key: &str, values: &[i32]) {
        self.list(key, 5, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// A list of unsigned numbers of 32 bits.
    pub fn numbers(&mut self, key: &str, values: &[u32]) {
        self.list(key, 4, values.len());
        self.metadata.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Announces a tensor; `shape` has rows first, `[out, in]`.
    pub fn tensor(&mut self, name: &str, shape: &[usize], kind: Kind) {
        put_text(&mut self.table, name);
        self.table.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            self.table.extend((*size as u64).to_le_bytes()); // the fastest dimension first
        }
        self.table.extend(kind.code().to_le_bytes());
        self.table.extend((self.end as u64).to_le_bytes());
        let values = shape.iter().product();
        self.end = (self.end + kind.bytes(values)).next_multiple_of(ALIGNMENT);
        self.tensors.push((kind, values));
    }

    /// Writes all of it; the tensors follow in the order in which they were announced.
    pub fn begin<W: Write>(self, mut to: W) -> io::Result<Writer<W>> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.keys.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.table);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        to.write_all(&bytes)?;
        Ok(Writer { to, left: self.tensors.into_iter().collect() })
    }

    fn key(&mut self, key: &str, kind: u32) {
        put_text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        self.keys += 1;
    }

    fn list(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, 9);
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend((count as u64).to_le_bytes());
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// A file whose tensors are being written.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    left: std::collections::VecDeque<(Kind, usize)>,
}

impl<W: Write> Writer<W> {
    /// The next tensor's values, row by row.
    pub fn tensor(&mut self, values: &[f32]) -> io::Result<()> {
        let Some((kind, count)) = self.left.pop_front().filter(|(_, count)| *count == values.len()) else {
            return Err(io::Error::other("a tensor that was not announced so"));
        };
        let mut bytes: Vec<u8> = match kind {
            Kind::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Kind::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        };
        bytes.resize(kind.bytes(count).next_multiple_of(ALIGNMENT), 0);
        self.to.write_all(&bytes)
    }

    /// Gives what was written to, once every tensor is there.
    pub fn finish(self) -> io::Result<W> {
        match self.left.len() {
            0 => Ok(self.to),
            left => Err(io::Error::other(format!("{left} announced tensors are missing"))),
        }
    }
}
