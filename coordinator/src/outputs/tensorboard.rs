//! TensorBoard event files: TFRecord frames (length, masked crc32c, Event, masked crc32c) of TensorFlow's event.proto.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// An event file.
pub struct TensorBoard {
    file: File,
}

impl TensorBoard {
    /// A new file in `tensorboard/`; TensorBoard reads all files of a folder as one run.
    pub fn create(run_dir: &Path, time_s: u64) -> Result<Self> {
        let folder = run_dir.join("tensorboard");
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("events.out.tfevents.{time_s}.{}", std::process::id()));
        let file =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        let mut events = TensorBoard { file };
        let version = Some("brain.Event:2".to_owned());
        events.write(Event { wall_time: time_s as f64, step: 0, file_version: version, summary: None })?;
        Ok(events)
    }

    /// Writes scalars of a step.
    pub fn scalars(&mut self, step: u64, time_ms: u64, values: &[(String, f64)]) -> Result<()> {
        let value =
            values.iter().map(|(tag, value)| Scalar { tag: tag.clone(), simple_value: *value as f32 }).collect();
        let wall_time = time_ms as f64 / 1000.0;
        self.write(Event { wall_time, step: step as i64, file_version: None, summary: Some(Summary { value }) })
    }

    fn write(&mut self, event: Event) -> Result<()> {
        self.file.write_all(&frame(&event.encode_to_vec())).context("writing TensorBoard events")
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut frame = length.to_vec();
    frame.extend(masked(&length).to_le_bytes());
    frame.extend(payload);
    frame.extend(masked(payload).to_le_bytes());
    frame
}

/// TFRecord's masked crc32c.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_as_events() {
        let run = tempfile::tempdir().unwrap();
        let mut events = TensorBoard::create(run.path(), 7).unwrap();
        events.scalars(3, 8_500, &[("loss/verify".to_owned(), 0.25)]).unwrap();
        let path = std::fs::read_dir(run.path().join("tensorboard")).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(path).unwrap();
        let mut found = vec![];
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(bytes[8..12], masked(&bytes[..8]).to_le_bytes());
            let payload = &bytes[12..12 + length];
            assert_eq!(bytes[12 + length..16 + length], masked(payload).to_le_bytes());
            found.push(Event::decode(payload).unwrap());
            bytes.drain(..16 + length);
        }
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let scalar = &found[1].summary.as_ref().unwrap().value[0];
        assert_eq!((found[1].step, found[1].wall_time, scalar.simple_value), (3, 8.5, 0.25));
    }
}
