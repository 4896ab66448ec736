//! Writes safetensors one tensor at a time: the header first, then each tensor's bytes as they are made.
//!
//! The crate's own writer takes all tensors at once and puts metadata in the order of a hash map, which differs from
//! process to process; a state's bytes must not. Source: the safetensors format, version 1.

use std::io::{self, Write};

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

/// One tensor to come. Wider types first keeps all of them aligned.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How its numbers are coded.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Entry {
    /// A tensor with the name of a key.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[i64]) -> Self {
        Entry { name: name.into(), dtype, shape: shape.iter().map(|size| *size as usize).collect() }
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// A file in the making.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    left: usize,
    size: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header: `metadata` beside `format = pt`, then the entries in the order in which they will be written.
    pub fn new(mut to: W, metadata: &[(&str, &str)], entries: &[Entry]) -> io::Result<Self> {
        let mut header = Map::new();
        let mut texts = Map::from_iter([("format".to_owned(), json!("pt"))]);
        texts.extend(metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        header.insert("__metadata__".to_owned(), Value::Object(texts));
        let mut end = 0;
        for entry in entries {
            let start = end;
            end += entry.bytes();
            let dtype = json!(entry.dtype);
            let of_tensor = json!({ "dtype": dtype, "shape": entry.shape, "data_offsets": [start, end] });
            if header.insert(entry.name.clone(), of_tensor).is_some() {
                return Err(io::Error::other(format!("tensor `{}` stands twice", entry.name)));
            }
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        to.write_all(&(header.len() as u64).to_le_bytes())?;
        to.write_all(&header)?;
        Ok(Writer { to, left: end, size: (8 + header.len() + end) as u64 })
    }

    /// The next bytes of the tensors, in the header's order.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or_else(|| io::Error::other("more bytes than the header says"))?;
        self.to.write_all(bytes)
    }

    /// The next numbers, in a tensor's kind.
    pub fn write_tensor(&mut self, tensor: &Tensor, kind: Kind) -> io::Result<()> {
        self.write(&bytes_of(tensor, kind)?)
    }

    /// Gives what was written to, and its size in bytes, once all of it is there.
    pub fn finish(self) -> io::Result<(W, u64)> {
        match self.left {
            0 => Ok((self.to, self.size)),
            left => Err(io::Error::other(format!("{left} bytes of the header's tensors are missing"))),
        }
    }
}

/// A tensor's numbers as little-endian bytes of a kind.
pub fn bytes_of(tensor: &Tensor, kind: Kind) -> io::Result<Vec<u8>> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(kind).contiguous();
    let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn what_is_written_piece_by_piece_is_read_whole() {
        let entries = [Entry::new("b", Dtype::F32, &[2, 2]), Entry::new("a", Dtype::F16, &[3])];
        let mut writer = Writer::new(vec![], &[("polya.quantisation", "nf4")], &entries).unwrap();
        let b = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]);
        writer.write_tensor(&b.narrow(0, 0, 1), Kind::Float).unwrap();
        writer.write_tensor(&b.narrow(0, 1, 1), Kind::Float).unwrap();
        writer.write_tensor(&Tensor::from_slice(&[0.5f32, 1.5, -2.0]), Kind::Half).unwrap();
        let (bytes, size) = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, size);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("b").unwrap().shape(), [2, 2]);
        assert_eq!(read.tensor("a").unwrap().data(), [0x00, 0x38, 0x00, 0x3e, 0x00, 0xc0]);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        assert_eq!((metadata["format"].as_str(), metadata["polya.quantisation"].as_str()), ("pt", "nf4"));
    }

    #[test]
    fn too_many_and_too_few_bytes_are_errors() {
        let entries = [Entry::new("a", Dtype::U8, &[3])];
        let mut writer = Writer::new(vec![], &[], &entries).unwrap();
        assert!(writer.write(&[1, 2, 3, 4]).is_err());
        let mut writer = Writer::new(vec![], &[], &entries).unwrap();
        writer.write(&[1, 2]).unwrap();
        assert!(writer.finish().is_err());
    }
}
