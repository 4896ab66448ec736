//! The tonic service: streams to inputs of the driver, nothing decided here. A stranger's bytes cost a log line.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_core::{Connection, Digest};
use polya_proto::v1::coordinator_server::Coordinator;
use polya_proto::v1::{
    CoordinatorMessage, GetStateRequest, PutStateReply, ScaleReply, ScaleRequest, StateChunk, StatusReply,
    StatusRequest, StoreAddReply, StoreAddRequest, StoreGetReply, StoreGetRequest, StoreSetReply, StoreSetRequest,
    WorkerMessage, worker_message,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::checkpoints::{CheckpointError, StateFiles};

/// Messages that may wait for one worker.
const OUTBOX_MESSAGES: usize = 1024;
/// Bytes of a state in one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Largest state that a worker may upload.
const STATE_BYTES_MAX: usize = 16 << 30;
/// Groups whose rendezvous keys are kept.
const GROUPS_KEPT: usize = 4;

/// What the service tells the driver.
#[derive(Debug)]
pub enum Input {
    /// A worker's stream is open.
    Connected(Connection, mpsc::Sender<Result<CoordinatorMessage, Status>>),
    /// It said something.
    Said(Connection, Box<worker_message::Body>),
    /// It ended.
    Disconnected(Connection),
    /// A state was uploaded.
    Uploaded {
        /// Of which step.
        step: u64,
        /// Who sent it.
        worker: String,
        /// Its files.
        files: StateFiles,
    },
    /// A checkpoint was written, or not.
    Saved {
        /// Of which step.
        step: u64,
        /// Hash of its manifest.
        result: Result<Digest, CheckpointError>,
    },
    /// Somebody asks for a checkpoint's files.
    Wanted(u64, oneshot::Sender<Result<StateFiles, String>>),
    /// In the store another coordinator has claimed the run, with this epoch.
    Superseded(u64),
    /// Somebody asks how it goes.
    Asked(oneshot::Sender<StatusReply>),
    /// Somebody wants another number of local workers.
    Scale(u32, oneshot::Sender<Result<String, String>>),
}

/// The service; clones share everything.
#[derive(Clone)]
pub struct Service {
    inputs: mpsc::Sender<Input>,
    connections: Arc<AtomicU64>,
    store: Arc<Store>,
}

type StoreKey = ((u64, u64), String);

#[derive(Default)]
struct Store {
    values: Mutex<HashMap<StoreKey, Vec<u8>>>,
    changed: Notify,
}

impl Service {
    /// A service that feeds `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Service { inputs, connections: Arc::default(), store: Arc::default() }
    }

    async fn tell(&self, input: Input) -> Result<(), Status> {
        self.inputs.send(input).await.map_err(|_| Status::unavailable("the coordinator stops"))
    }
}

impl Store {
    fn set(&self, group: (u64, u64), key: String, value: Vec<u8>) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups: Vec<(u64, u64)> = values.keys().map(|(group, _)| *group).collect();
        groups.sort_unstable();
        groups.dedup();
        if !groups.contains(&group) && groups.len() >= GROUPS_KEPT {
            let oldest = groups[0];
            values.retain(|(group, _), _| *group != oldest);
        }
        values.insert((group, key), value);
        drop(values);
        self.changed.notify_waiters();
    }

    fn get(&self, key: &StoreKey) -> Option<Vec<u8>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    async fn wait(&self, key: &StoreKey) -> Vec<u8> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = self.get(key) {
                return value;
            }
            changed.await;
        }
    }

    /// A c10d counter: decimal text, as c10d's own stores keep it.
    fn add(&self, group: (u64, u64), key: String, amount: i64) -> i64 {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry((group, key)).or_insert_with(|| b"0".to_vec());
        let number: i64 = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0) + amount;
        *value = number.to_string().into_bytes();
        drop(values);
        self.changed.notify_waiters();
        number
    }
}

fn group_of(group: Option<polya_proto::v1::Group>) -> Result<(u64, u64), Status> {
    let group = group.ok_or_else(|| Status::invalid_argument("a store request without a group"))?;
    Ok((group.epoch, group.generation))
}

type ChunkStream = Pin<Box<dyn Stream<Item = Result<StateChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Coordinator for Service {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type GetStateStream = ChunkStream;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let connection = Connection(self.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
        self.tell(Input::Connected(connection, outbox)).await?;
        let service = self.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(WorkerMessage { body: Some(body) })) = incoming.next().await {
                if service.tell(Input::Said(connection, Box::new(body))).await.is_err() {
                    return;
                }
            }
            let _ = service.tell(Input::Disconnected(connection)).await;
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn store_set(&self, request: Request<StoreSetRequest>) -> Result<Response<StoreSetReply>, Status> {
        let StoreSetRequest { group, key, value } = request.into_inner();
        self.store.set(group_of(group)?, key, value);
        Ok(Response::new(StoreSetReply {}))
    }

    async fn store_get(&self, request: Request<StoreGetRequest>) -> Result<Response<StoreGetReply>, Status> {
        let StoreGetRequest { group, key, wait_ms } = request.into_inner();
        let key = (group_of(group)?, key);
        let found = match wait_ms {
            0 => self.store.get(&key),
            wait_ms => tokio::time::timeout(Duration::from_millis(wait_ms), self.store.wait(&key)).await.ok(),
        };
        Ok(Response::new(StoreGetReply { found: found.is_some(), value: found.unwrap_or_default() }))
    }

    async fn store_add(&self, request: Request<StoreAddRequest>) -> Result<Response<StoreAddReply>, Status> {
        let StoreAddRequest { group, key, amount } = request.into_inner();
        Ok(Response::new(StoreAddReply { value: self.store.add(group_of(group)?, key, amount) }))
    }

    async fn put_state(&self, request: Request<Streaming<StateChunk>>) -> Result<Response<PutStateReply>, Status> {
        let mut chunks = request.into_inner();
        let (mut step, mut worker, mut files, mut bytes, mut complete) =
            (0, String::new(), StateFiles::new(), 0, false);
        let mut sizes: Vec<u64> = vec![];
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            bytes += chunk.data.len();
            if bytes > STATE_BYTES_MAX {
                return Err(Status::resource_exhausted("the state is larger than any that Polya makes"));
            }
            (step, worker) = (chunk.step, chunk.worker);
            match files.last_mut() {
                Some((name, data)) if *name == chunk.file => data.extend_from_slice(&chunk.data),
                _ => {
                    sizes.push(chunk.file_size);
                    files.push((chunk.file, chunk.data));
                }
            }
            complete = chunk.last;
        }
        let whole = files.iter().zip(&sizes).all(|((_, data), size)| data.len() as u64 == *size);
        if !complete || !whole {
            return Err(Status::aborted("the upload ended before its last chunk"));
        }
        self.tell(Input::Uploaded { step, worker, files }).await?;
        Ok(Response::new(PutStateReply {}))
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Result<Response<Self::GetStateStream>, Status> {
        let step = request.into_inner().step;
        let (reply, files) = oneshot::channel();
        self.tell(Input::Wanted(step, reply)).await?;
        let files = files.await.map_err(|_| Status::unavailable("the coordinator stops"))?;
        let files = files.map_err(Status::not_found)?;
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks(step, files).map(Ok)))))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let (reply, status) = oneshot::channel();
        self.tell(Input::Asked(reply)).await?;
        Ok(Response::new(status.await.map_err(|_| Status::unavailable("the coordinator stops"))?))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Result<Response<ScaleReply>, Status> {
        let (reply, outcome) = oneshot::channel();
        self.tell(Input::Scale(request.into_inner().workers, reply)).await?;
        let outcome = outcome.await.map_err(|_| Status::unavailable("the coordinator stops"))?;
        Ok(Response::new(ScaleReply { outcome: outcome.map_err(Status::failed_precondition)? }))
    }
}

/// A state in pieces of at most [`CHUNK_BYTES`].
fn chunks(step: u64, files: StateFiles) -> impl Iterator<Item = StateChunk> {
    let count = files.len();
    files.into_iter().enumerate().flat_map(move |(index, (file, data))| {
        let file_size = data.len() as u64;
        let pieces: Vec<Vec<u8>> =
            if data.is_empty() { vec![vec![]] } else { data.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect() };
        let last_piece = pieces.len() - 1;
        pieces.into_iter().enumerate().map(move |(piece, data)| StateChunk {
            step,
            file: file.clone(),
            data,
            file_size,
            worker: String::new(),
            last: index + 1 == count && piece == last_piece,
        })
    })
}
