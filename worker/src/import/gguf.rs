//! The container: header, typed metadata, tensor table, data. Total: any bytes give a value or an error with its place.

use std::collections::BTreeMap;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct GgufError {
    /// Offset.
    pub at: usize,
    /// What was expected.
    pub reason: String,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer type.
    Integer(i64),
    /// fp32 or fp64.
    Float(f64),
    /// A flag.
    Boolean(bool),
    /// UTF-8.
    Text(String),
    /// Of one type.
    List(Vec<Value>),
}

/// A tensor's entry and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo<'a> {
    /// Rows first: `[out, in]`.
    pub shape: Vec<usize>,
    /// How its blocks are coded.
    pub kind: Kind,
    /// Its bytes.
    pub data: &'a [u8],
}

/// Codes of tensors that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// fp32
    F32,
    /// fp16
    F16,
    /// bfloat16
    Bf16,
    /// 32 values: fp16 scale, 4 bits each around 8.
    Q4_0,
    /// 32 values: fp16 scale and minimum, 4 bits each.
    Q4_1,
    /// 32 values: fp16 scale, 8 bits each.
    Q8_0,
}

impl Kind {
    fn of(code: u32) -> Option<Self> {
        Some(match code {
            0 => Kind::F32,
            1 => Kind::F16,
            2 => Kind::Q4_0,
            3 => Kind::Q4_1,
            8 => Kind::Q8_0,
            30 => Kind::Bf16,
            _ => return None,
        })
    }

    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Kind::F32 => (1, 4),
            Kind::F16 | Kind::Bf16 => (1, 2),
            Kind::Q4_0 => (32, 18),
            Kind::Q4_1 => (32, 20),
            Kind::Q8_0 => (32, 34),
        }
    }
}

/// A parsed file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf<'a> {
    /// By key.
    pub metadata: BTreeMap<String, Value>,
    /// By name.
    pub tensors: BTreeMap<String, TensorInfo<'a>>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, reason: impl Into<String>) -> Result<T, GgufError> {
        Err(GgufError { at: self.at, reason: reason.into() })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], GgufError> {
        match self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => self.error(format!("{count} more bytes expected; the file is truncated")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things of at least `size` bytes each: more than the rest of the file can hold is damage.
    fn count(&mut self, size: usize) -> Result<usize, GgufError> {
        let at = self.at;
        let count = self.u64()?;
        let left = (self.bytes.len() - self.at) / size.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(GgufError { at, reason: format!("a count of {count} does not fit into the file") }),
        }
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let length = self.count(1)?;
        let at = self.at;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| GgufError { at, reason: "a text is not UTF-8".to_owned() })
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => Value::Integer(self.array::<1>()?[0].into()),
            1 => Value::Integer(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Integer(self.u32()?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            7 => Value::Boolean(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < 4 => {
                let kind = self.u32()?;
                let count = self.count(1)?;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::List(list)
            }
            10 => Value::Integer(i64::try_from(self.u64()?).unwrap_or(i64::MAX)),
            11 => Value::Integer(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return self.error(format!("there is no value type {kind}")),
        })
    }
}

impl<'a> Gguf<'a> {
    /// Reads versions 2 and 3, little endian.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4)? != b"GGUF" {
            return Err(GgufError { at: 0, reason: "this is not a GGUF file".to_owned() });
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return reader.error(format!("GGUF version {version}; 2 and 3 are read"));
        }
        let tensor_count = reader.count(24)?;
        let metadata_count = reader.count(13)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            metadata.insert(key, reader.value(kind, 0)?);
        }
        let mut entries = Vec::new();
        for _ in 0..tensor_count {
            let name = reader.text()?;
            let at = reader.at;
            let dimensions = reader.u32()? as usize;
            if !(1..=4).contains(&dimensions) {
                return Err(GgufError { at, reason: format!("tensor `{name}` has {dimensions} dimensions") });
            }
            let mut shape = Vec::with_capacity(dimensions);
            for _ in 0..dimensions {
                shape.push(usize::try_from(reader.u64()?).unwrap_or(usize::MAX));
            }
            shape.reverse(); // GGUF has the fastest dimension first
            let code = reader.u32()?;
            let Some(kind) = Kind::of(code) else {
                let reason = format!("tensor `{name}` has type {code}; F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are read");
                return Err(GgufError { at, reason });
            };
            entries.push((at, name, shape, kind, reader.u64()?));
        }
        let alignment = match metadata.get("general.alignment") {
            Some(Value::Integer(alignment)) if *alignment > 0 => *alignment as usize,
            _ => 32,
        };
        let start = reader.at.div_ceil(alignment).saturating_mul(alignment);
        let mut tensors = BTreeMap::new();
        for (at, name, shape, kind, offset) in entries {
            let data = data(bytes, start, &shape, kind, offset);
            let Some(data) = data else {
                return Err(GgufError {
                    at,
                    reason: format!("tensor `{name}` does not fit into the file; is it truncated?"),
                });
            };
            tensors.insert(name, TensorInfo { shape, kind, data });
        }
        Ok(Gguf { metadata, tensors })
    }

    /// An integer.
    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.metadata.get(key)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list.
    pub fn list(&self, key: &str) -> Option<&[Value]> {
        match self.metadata.get(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

fn data<'a>(bytes: &'a [u8], start: usize, shape: &[usize], kind: Kind, offset: u64) -> Option<&'a [u8]> {
    let values = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size))?;
    let (block, size) = kind.block();
    if !values.is_multiple_of(block) {
        return None;
    }
    let from = start.checked_add(usize::try_from(offset).ok()?)?;
    bytes.get(from..from.checked_add((values / block).checked_mul(size)?)?)
}
