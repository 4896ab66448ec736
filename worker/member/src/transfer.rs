//! A state on the wire: named files, cut into chunks.

use std::pin::pin;
use std::sync::Arc;

use polya_proto::v1::StateChunk;
use tokio_stream::{Stream, StreamExt};

use crate::trainer::StateFiles;

/// Bytes in one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Adapters and moments of the largest base are under 1 GB; more is a mistake of the sender.
const STATE_BYTES_MAX: u64 = 16 << 30;

/// The chunks of a state, in order. `worker` is the sender.
pub(crate) fn chunks(step: u64, files: Arc<StateFiles>, worker: String) -> impl Iterator<Item = StateChunk> + Send {
    let mut place = Some((0, 0)).filter(|_| !files.is_empty());
    std::iter::from_fn(move || {
        let (file, from) = place?;
        let (name, data) = &files[file];
        let to = data.len().min(from + CHUNK_BYTES);
        place = if to < data.len() { Some((file, to)) } else { Some((file + 1, 0)).filter(|_| file + 1 < files.len()) };
        Some(StateChunk {
            step,
            file: name.clone(),
            data: data[from..to].to_vec(),
            file_size: if from == 0 { data.len() as u64 } else { 0 },
            worker: worker.clone(),
            last: place.is_none(),
        })
    })
}

/// Puts the chunks of a state together again; an error says what is wrong with them.
pub(crate) async fn assemble(
    step: u64,
    stream: impl Stream<Item = Result<StateChunk, tonic::Status>>,
) -> Result<StateFiles, String> {
    let mut stream = pin!(stream);
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut announced = 0;
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|status| format!("{} ({:?})", status.message(), status.code()))?;
        if chunk.step != step {
            return Err(format!("a chunk of step {} in a state of step {step}", chunk.step));
        }
        if files.last().is_none_or(|(name, _)| *name != chunk.file) {
            whole(&files, announced)?;
            announced = chunk.file_size;
            total += announced;
            if total > STATE_BYTES_MAX {
                return Err(format!("the state has more than {STATE_BYTES_MAX} bytes"));
            }
            files.push((chunk.file, Vec::with_capacity(announced as usize)));
        }
        if let Some((name, data)) = files.last_mut() {
            data.extend_from_slice(&chunk.data);
            if data.len() as u64 > announced {
                return Err(format!("{name} has more than the announced {announced} bytes"));
            }
        }
        if chunk.last {
            whole(&files, announced)?;
            return Ok(files);
        }
    }
    Err("the transfer ended early".to_owned())
}

fn whole(files: &[(String, Vec<u8>)], announced: u64) -> Result<(), String> {
    match files.last() {
        Some((name, data)) if data.len() as u64 != announced => {
            Err(format!("{name} has {} of {announced} bytes", data.len()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through_the_wire(files: StateFiles, spoil: impl Fn(&mut Vec<StateChunk>)) -> Result<StateFiles, String> {
        let mut sent: Vec<StateChunk> = chunks(3, Arc::new(files), "w0".to_owned()).collect();
        spoil(&mut sent);
        assemble(3, tokio_stream::iter(sent.into_iter().map(Ok))).await
    }

    #[tokio::test]
    async fn a_state_survives_the_wire() {
        let sizes = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES];
        let files: StateFiles =
            sizes.iter().map(|&size| (format!("file-{size}"), vec![(size % 251) as u8; size])).collect();
        assert_eq!(through_the_wire(files.clone(), |_| {}).await.unwrap(), files);
        assert!(through_the_wire(files.clone(), |sent| drop(sent.pop())).await.is_err(), "the end is missing");
        assert!(through_the_wire(files.clone(), |sent| drop(sent.remove(4))).await.is_err(), "a piece is missing");
        assert!(through_the_wire(files, |sent| sent[1].step = 4).await.is_err(), "another step");
        assert!(through_the_wire(vec![], |_| {}).await.is_err(), "no state at all");
    }
}
