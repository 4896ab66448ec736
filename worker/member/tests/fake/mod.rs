//! A coordinator whose every word a test chooses, over real sockets.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use polya_proto::v1::coordinator_message::Body as Order;
use polya_proto::v1::coordinator_server::{Coordinator, CoordinatorServer};
use polya_proto::v1::worker_message::Body as Message;
use polya_proto::v1::*;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use worker_member::integer_fold::IntegerFoldFactory;
use worker_member::trainer::StateFiles;
use worker_member::{MemberOptions, Outcome, run_member};

/// So that a story that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The coordinator's side of one stream.
pub struct Seat {
    orders: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    messages: Streaming<WorkerMessage>,
    /// What the worker said first.
    pub hello: Hello,
}

impl Seat {
    pub async fn send(&self, order: Order) {
        self.orders.send(Ok(CoordinatorMessage { body: Some(order) })).await.unwrap();
    }

    /// The next message but heartbeats and the class; none at the end of the stream.
    pub async fn hear(&mut self) -> Option<Message> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.messages.next()).await.expect("a message in time");
            match message {
                Some(Ok(WorkerMessage { body: Some(Message::Heartbeat(_) | Message::Class(_)) })) => {}
                Some(Ok(message)) => return message.body,
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub async fn idle(&mut self) -> Idle {
        match self.hear().await {
            Some(Message::Idle(idle)) => idle,
            other => panic!("expected Idle, heard {other:?}"),
        }
    }

    pub async fn done(&mut self) -> Done {
        match self.hear().await {
            Some(Message::Done(done)) => done,
            other => panic!("expected Done, heard {other:?}"),
        }
    }

    pub async fn ready(&mut self) -> Ready {
        match self.hear().await {
            Some(Message::Ready(ready)) => ready,
            other => panic!("expected Ready, heard {other:?}"),
        }
    }

    pub async fn broken(&mut self) -> Broken {
        match self.hear().await {
            Some(Message::Broken(broken)) => broken,
            other => panic!("expected Broken, heard {other:?}"),
        }
    }

    /// Welcome, and the state of step 0. Gives S_0.
    pub async fn welcome(&mut self, epoch: u64) -> Idle {
        self.send(welcome(epoch)).await;
        self.send(Order::Load(Load { step: 0, state_digest: vec![] })).await;
        self.idle().await
    }

    /// Leases and keeps microbatches.
    pub async fn compute(&mut self, step: u64, microbatches: &[u32]) -> Vec<Done> {
        for &k in microbatches {
            self.send(lease(step, k)).await;
        }
        let mut all = Vec::new();
        for &microbatch in microbatches {
            let done = self.done().await;
            assert_eq!((done.step, done.microbatch), (step, microbatch));
            self.send(Order::Keep(Keep { step, attempt: 0, microbatch })).await;
            all.push(done);
        }
        all
    }
}

pub fn welcome(epoch: u64) -> Order {
    let settings = Settings { seed: 9, failure_detection_ms: 2000, ..Settings::default() };
    Order::Welcome(Welcome {
        coordinator_epoch: epoch,
        settings: Some(settings),
        heartbeat_ms: 50,
        park_limit_ms: 60_000,
    })
}

pub fn plan(epoch: u64, step: u64) -> Order {
    Order::Plan(Plan {
        coordinator_epoch: epoch,
        step,
        exponents: vec![18, 20],
        microbatches: 4,
        samples: 4,
        bits: 28,
        hash: vec![step as u8; 32],
        ..Plan::default()
    })
}

pub fn lease(step: u64, microbatch: u32) -> Order {
    let sample = Sample { id: format!("{step}/{microbatch}"), ids: vec![1, 2, 3], ..Sample::default() };
    Order::Lease(Lease { step, microbatch, samples: vec![sample], ..Lease::default() })
}

pub fn table(rows: &[(&str, &[Done])]) -> Vec<OwnedMicrobatch> {
    let row = |worker: &str, done: &Done| OwnedMicrobatch {
        microbatch: done.microbatch,
        worker: worker.to_owned(),
        digest: done.digest,
        statistics: done.statistics.clone(),
        second_worker: String::new(),
    };
    rows.iter().flat_map(|(worker, all)| all.iter().map(move |done| row(worker, done))).collect()
}

pub fn reduce(group: (u64, u64), step: u64, rank: u32, world_size: u32, table: &[OwnedMicrobatch]) -> Order {
    let group = Some(Group { epoch: group.0, generation: group.1 });
    Order::Reduce(Reduce { group, step, attempt: 0, rank, world_size, table: table.to_vec() })
}

pub fn commit(epoch: u64, step: u64, state_digest: &[u8]) -> Order {
    Order::Commit(Commit { coordinator_epoch: epoch, step, state_digest: state_digest.to_vec() })
}

/// D of the protocol: the sum of the digests.
pub fn digest(table: &[OwnedMicrobatch]) -> u64 {
    table.iter().fold(0, |sum, row| sum.wrapping_add(row.digest))
}

type Keys = BTreeMap<(u64, u64, String), Vec<u8>>;

#[derive(Clone)]
struct Service {
    streams: mpsc::Sender<Seat>,
    uploads: mpsc::Sender<Vec<StateChunk>>,
    keys: Arc<(Mutex<Keys>, Notify)>,
    checkpoint: Arc<Mutex<Option<Vec<StateChunk>>>>,
    token: Option<String>,
}

/// The coordinator of a story.
pub struct Fake {
    pub address: String,
    streams: mpsc::Receiver<Seat>,
    pub uploads: mpsc::Receiver<Vec<StateChunk>>,
    /// What GetState gives.
    pub checkpoint: Arc<Mutex<Option<Vec<StateChunk>>>>,
    stop: Option<oneshot::Sender<()>>,
}

impl Fake {
    pub async fn start() -> Fake {
        Fake::start_at("127.0.0.1:0", None).await
    }

    pub async fn start_at(address: &str, token: Option<&str>) -> Fake {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (streams_in, streams) = mpsc::channel(8);
        let (uploads_in, uploads) = mpsc::channel(8);
        let checkpoint = Arc::new(Mutex::new(None));
        let service = Service {
            streams: streams_in,
            uploads: uploads_in,
            keys: Arc::default(),
            checkpoint: checkpoint.clone(),
            token: token.map(|token| format!("Bearer {token}")),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        // Aborted, not drained: a killed coordinator says no goodbye.
        let serving = tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(
            CoordinatorServer::new(service),
            TcpIncoming::from(listener).with_nodelay(Some(true)),
        ));
        tokio::spawn(async move {
            let _ = stopped.await;
            serving.abort();
        });
        Fake { address, streams, uploads, checkpoint, stop: Some(stop) }
    }

    /// The next stream that a worker opens.
    pub async fn seat(&mut self) -> Seat {
        tokio::time::timeout(PATIENCE, self.streams.recv()).await.expect("a worker in time").unwrap()
    }

    /// Stops listening.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// A worker, and how to shut it down.
    pub fn worker(&self, id: &str) -> Worker {
        Worker::start(self.options(id))
    }

    pub fn options(&self, id: &str) -> MemberOptions {
        MemberOptions {
            tls: None,
            coordinator: self.address.clone(),
            token: None,
            worker: id.to_owned(),
            incarnation: 1,
            host: None,
            park_limit: None,
            software: "a test".to_owned(),
            device: "cpu".to_owned(),
        }
    }
}

pub struct Worker {
    life: tokio::task::JoinHandle<Outcome>,
    shutdown: Option<oneshot::Sender<String>>,
}

impl Worker {
    pub fn start(options: MemberOptions) -> Worker {
        let (shutdown, told) = oneshot::channel();
        let told = async move {
            match told.await {
                Ok(reason) => reason,
                Err(_) => std::future::pending().await,
            }
        };
        let life = tokio::spawn(run_member(options, Box::new(IntegerFoldFactory), told));
        Worker { life, shutdown: Some(shutdown) }
    }

    pub fn shut_down(&mut self, reason: &str) {
        self.shutdown.take().unwrap().send(reason.to_owned()).unwrap();
    }

    pub async fn outcome(self) -> Outcome {
        tokio::time::timeout(PATIENCE, self.life).await.expect("the worker ends in time").unwrap()
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<StateChunk, Status>> + Send>>;

#[tonic::async_trait]
impl Coordinator for Service {
    type SessionStream = ReceiverStream<Result<CoordinatorMessage, Status>>;
    type GetStateStream = Chunks;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if self.token.as_deref() != given {
            return Err(Status::unauthenticated("the join token is wrong"));
        }
        let (orders, outgoing) = mpsc::channel(64);
        let mut messages = request.into_inner();
        let Some(Ok(WorkerMessage { body: Some(Message::Hello(hello)) })) = messages.next().await else {
            return Err(Status::invalid_argument("a stream begins with a Hello"));
        };
        self.streams.send(Seat { orders, messages, hello }).await.map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn store_set(&self, request: Request<StoreSetRequest>) -> Result<Response<StoreSetReply>, Status> {
        let StoreSetRequest { group, key, value } = request.into_inner();
        let group = group.unwrap();
        self.keys.0.lock().unwrap().insert((group.epoch, group.generation, key), value);
        self.keys.1.notify_waiters();
        Ok(Response::new(StoreSetReply {}))
    }

    async fn store_get(&self, request: Request<StoreGetRequest>) -> Result<Response<StoreGetReply>, Status> {
        let StoreGetRequest { group, key, wait_ms } = request.into_inner();
        let group = group.unwrap();
        let key = (group.epoch, group.generation, key);
        let wait = async {
            loop {
                let changed = self.keys.1.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(value) = self.keys.0.lock().unwrap().get(&key).cloned() {
                    return value;
                }
                changed.await;
            }
        };
        let value = tokio::time::timeout(Duration::from_millis(wait_ms), wait).await.ok();
        Ok(Response::new(StoreGetReply { found: value.is_some(), value: value.unwrap_or_default() }))
    }

    async fn store_add(&self, _request: Request<StoreAddRequest>) -> Result<Response<StoreAddReply>, Status> {
        Err(Status::unimplemented("not part of these stories"))
    }

    async fn put_state(&self, request: Request<Streaming<StateChunk>>) -> Result<Response<PutStateReply>, Status> {
        let chunks: Result<Vec<StateChunk>, Status> = request.into_inner().collect().await;
        self.uploads.send(chunks?).await.map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(PutStateReply {}))
    }

    async fn get_state(&self, _request: Request<GetStateRequest>) -> Result<Response<Chunks>, Status> {
        let chunks = self.checkpoint.lock().unwrap().clone().ok_or_else(|| Status::not_found("no such checkpoint"))?;
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks.into_iter().map(Ok)))))
    }

    async fn scale(&self, _request: Request<ScaleRequest>) -> Result<Response<ScaleReply>, Status> {
        Err(Status::unimplemented("not part of these stories"))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("not part of these stories"))
    }
}

/// A state as GetState sends it.
pub fn chunk(step: u64, files: StateFiles) -> Vec<StateChunk> {
    let count = files.len();
    let one = |(index, (file, data)): (usize, (String, Vec<u8>))| StateChunk {
        step,
        file,
        file_size: data.len() as u64,
        data,
        worker: String::new(),
        last: index + 1 == count,
    };
    files.into_iter().enumerate().map(one).collect()
}
