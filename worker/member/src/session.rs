//! The worker's life on the network: dial, present, obey, park, come again.
//!
//! One task owns the state machine and is the only one to touch it; the trainer's thread, downloads and peers send it
//! messages. Every branch of its `select!` waits on something stored, so dropping it at any await loses nothing.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use polya_proto::exit;
use polya_proto::v1::worker_message::Body as Message;
use polya_proto::v1::{Group, Heartbeat, Left, WorkerMessage, coordinator_message::Body as Order};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::connect::{Access, Backoff, Token, dial};
use crate::job::{Job, Report, TrainerThread};
use crate::link::{ANSWER_LIMIT, Client, Link, LinkEvent};
use crate::machine::{Effect, Identity, Machine};
use crate::peer::{Want, fetch, serve};
use crate::rendezvous::RpcRendezvous;
use crate::trainer::{AbortHandle, Rendezvous, StateFiles, TrainerFactory};
use crate::transfer::chunks;
use crate::{MemberOptions, Outcome};

/// Messages that may wait for the coordinator.
const OUTBOX_MESSAGES: usize = 1024;
/// Until the first Welcome says otherwise.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// For workers that nobody told otherwise.
const PARK_LIMIT: Duration = Duration::from_secs(600);
/// For the last words.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);
/// A stream that lasted this long was a good one: the waits between attempts begin anew.
const GOOD_SESSION: Duration = Duration::from_secs(1);

/// A worker.
pub(crate) struct Session {
    options: MemberOptions,
    access: Access,
    machine: Machine,
    thread: TrainerThread,
    aborts: Option<Arc<dyn AbortHandle>>,
    /// For the rendezvous, which runs on other threads.
    client: Arc<Mutex<Option<Client>>>,
    link: Link,
    backoff: Backoff,
    opened: Instant,
    parked_since: Option<Instant>,
    park_limit: Duration,
    heartbeat: tokio::time::Interval,
    reports: mpsc::UnboundedReceiver<Report>,
    downloads: (mpsc::Sender<Downloaded>, mpsc::Receiver<Downloaded>),
    wants: Option<mpsc::Receiver<Want>>,
}

type Downloaded = (u64, Result<StateFiles, String>);

enum Event {
    Link(LinkEvent),
    Trained(Report),
    Downloaded(Downloaded),
    Wanted(Want),
    Beat,
    ParkedTooLong,
    Told(String),
}

impl Session {
    pub(crate) fn new(options: MemberOptions, factory: Box<dyn TrainerFactory>) -> Result<Session, String> {
        let access = Access { token: Token::new(options.token.as_deref())?, tls: options.tls.clone() };
        let (outbox, reports) = mpsc::unbounded_channel();
        let client: Arc<Mutex<Option<Client>>> = Arc::default();
        let runtime = tokio::runtime::Handle::current();
        let shared = client.clone();
        let rendezvous = Box::new(move |group: Group| -> Arc<dyn Rendezvous> {
            let client = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Arc::new(RpcRendezvous { runtime: runtime.clone(), client, group })
        });
        let thread = TrainerThread::start(factory, rendezvous, outbox)
            .map_err(|error| format!("starting the trainer's thread: {error}"))?;
        let identity = Identity {
            worker: options.worker.clone(),
            incarnation: options.incarnation,
            process: std::process::id(),
            software: options.software.clone(),
            device: options.device.clone(),
            ..Identity::default()
        };
        Ok(Session {
            machine: Machine::new(identity),
            access,
            thread,
            aborts: None,
            client,
            link: Link::Resting(Box::pin(tokio::time::sleep(Duration::ZERO))),
            backoff: Backoff::towards(&options.coordinator),
            opened: Instant::now(),
            parked_since: Some(Instant::now()),
            park_limit: options.park_limit.unwrap_or(PARK_LIMIT),
            heartbeat: tokio::time::interval(HEARTBEAT),
            reports,
            downloads: mpsc::channel(1),
            wants: None,
            options,
        })
    }

    /// Lives until something ends it.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = String>) -> Outcome {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            self.present();
            let event = self.next(shutdown.as_mut()).await;
            let effects = self.react(event).await;
            let has_last_words =
                effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Left(_) | Message::Failed(_))));
            for effect in effects {
                if let Some(outcome) = self.execute(effect) {
                    if has_last_words {
                        self.farewell().await;
                    }
                    return outcome;
                }
            }
        }
    }

    async fn next(&mut self, shutdown: Pin<&mut impl Future<Output = String>>) -> Event {
        let is_up = matches!(self.link, Link::Up(..));
        let deadline = self.parked_since.map(|since| since + self.park_limit);
        tokio::select! {
            reason = shutdown => Event::Told(reason),
            event = self.link.next() => Event::Link(event),
            Some(report) = self.reports.recv() => Event::Trained(report),
            Some(downloaded) = self.downloads.1.recv() => Event::Downloaded(downloaded),
            Some(want) = wanted(&mut self.wants) => Event::Wanted(want),
            _ = self.heartbeat.tick(), if is_up => Event::Beat,
            () = until(deadline) => Event::ParkedTooLong,
        }
    }

    async fn react(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Link(event) => return self.react_to_link(event).await,
            Event::Trained(report) => {
                if let Report::Built(aborts, _) = &report {
                    self.aborts = Some(aborts.clone());
                }
                self.machine.trained(report)
            }
            Event::Downloaded((ticket, result)) => self.machine.downloaded(ticket, result),
            Event::Wanted(want) => {
                self.serve_peer(want);
                vec![]
            }
            Event::Beat => {
                let progress = self.thread.progress.load(Ordering::Relaxed);
                vec![Effect::Send(Message::Heartbeat(Heartbeat { progress }))]
            }
            Event::ParkedTooLong => {
                let reason = format!("no coordinator at {} for {:?}", self.options.coordinator, self.park_limit);
                vec![Effect::Exit(Outcome { exit_code: exit::LEFT, reason })]
            }
            Event::Told(reason) => vec![
                Effect::Send(Message::Left(Left { reason: reason.clone() })),
                Effect::Exit(Outcome { exit_code: exit::LEFT, reason }),
            ],
        }
    }

    async fn react_to_link(&mut self, event: LinkEvent) -> Vec<Effect> {
        match event {
            LinkEvent::Rested => {
                let dialing = dial(self.options.coordinator.clone(), self.access.clone());
                self.link = Link::dialing(ANSWER_LIMIT, dialing);
                vec![]
            }
            LinkEvent::Reached(client, route) => {
                if let Err(error) = self.open_for_peers(route).await {
                    return self.lose(&format!("listening for peers on {route}: {error}"));
                }
                self.set_client(Some(client));
                self.link = Link::Reached;
                vec![]
            }
            LinkEvent::Open(stream) => {
                self.opened = Instant::now();
                if let Link::Opening(outbox, _) = std::mem::replace(&mut self.link, Link::Reached) {
                    self.link = Link::Up(outbox, Box::new(stream));
                }
                vec![]
            }
            LinkEvent::Said(Some(order)) => {
                if let Order::Welcome(welcome) = &order {
                    self.welcomed(welcome.heartbeat_ms, welcome.park_limit_ms);
                }
                self.machine.order(order)
            }
            LinkEvent::Said(None) => vec![], // an order of a later protocol; versions are compared at the door
            LinkEvent::Lost(reason) => self.lose(&reason),
            LinkEvent::Unwelcome(reason) => {
                let reason = format!("{} refuses this worker: {reason}", self.options.coordinator);
                vec![Effect::Exit(Outcome { exit_code: exit::REFUSED, reason })]
            }
        }
    }

    fn welcomed(&mut self, heartbeat_ms: u64, park_limit_ms: u64) {
        tracing::info!(coordinator = self.options.coordinator, worker = self.options.worker, "joined");
        self.parked_since = None;
        if self.options.park_limit.is_none() && park_limit_ms > 0 {
            self.park_limit = Duration::from_millis(park_limit_ms);
        }
        if heartbeat_ms > 0 {
            self.heartbeat = tokio::time::interval(Duration::from_millis(heartbeat_ms));
            self.heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
    }

    /// Says Hello on a connection that is waiting for it.
    fn present(&mut self) {
        if !matches!(self.link, Link::Reached) || !self.machine.is_presentable() {
            return;
        }
        let Some(mut client) = self.client() else { return };
        let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
        let hello = WorkerMessage { body: Some(Message::Hello(self.machine.hello())) };
        // A new channel has room for one.
        let _ = outbox.try_send(hello);
        let opening = async move { client.session(ReceiverStream::new(messages)).await };
        self.link = Link::opening(ANSWER_LIMIT, outbox, opening);
    }

    async fn open_for_peers(&mut self, route: IpAddr) -> std::io::Result<()> {
        if self.wants.is_some() {
            return Ok(());
        }
        let bind = if self.options.host.is_some() { unspecified(route) } else { route };
        let (port, wants) = serve(bind, self.access.clone()).await?;
        let host = self.options.host.clone().unwrap_or_else(|| route.to_string());
        let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        self.machine.identity.peer_address = format!("{name}:{port}");
        self.machine.identity.host = host;
        self.wants = Some(wants);
        Ok(())
    }

    fn serve_peer(&mut self, want: Want) {
        let promise = self.machine.may_serve(want.step).map(|()| {
            let (files, promise) = tokio::sync::oneshot::channel();
            self.thread.queue(Job::Serve(files));
            promise
        });
        // The peer may have gone.
        let _ = want.reply.send(promise);
    }

    /// Executes one effect; gives the outcome if it is the last.
    fn execute(&mut self, effect: Effect) -> Option<Outcome> {
        match effect {
            Effect::Send(message) => {
                let message = WorkerMessage { body: Some(message) };
                let is_stuck = self.link.outbox().is_some_and(|outbox| outbox.try_send(message).is_err());
                if is_stuck && matches!(self.link, Link::Up(..)) {
                    let effects = self.lose("the coordinator does not read");
                    return effects.into_iter().find_map(|effect| self.execute(effect));
                }
            }
            Effect::Job(job) => self.thread.queue(job),
            Effect::Abort(group) => {
                if let Some(aborts) = &self.aborts {
                    aborts.abort(&group);
                }
            }
            Effect::Download { ticket, step, source } => {
                // Without a connection the order is void: the next Hello brings it again.
                if let Some(client) = self.client() {
                    let (access, done) = (self.access.clone(), self.downloads.0.clone());
                    tokio::spawn(async move {
                        let _ = done.send((ticket, fetch(step, source, access, client).await)).await;
                    });
                }
            }
            Effect::Upload { step, files } => self.upload(step, files),
            Effect::Reconnect { reason } => {
                let effects = self.lose(&reason);
                return effects.into_iter().find_map(|effect| self.execute(effect));
            }
            Effect::Exit(outcome) => return Some(outcome),
        }
        None
    }

    fn upload(&self, step: u64, files: StateFiles) {
        let Some(mut client) = self.client() else { return };
        let stream = tokio_stream::iter(chunks(step, Arc::new(files), self.options.worker.clone()));
        tokio::spawn(async move {
            match client.put_state(stream).await {
                Ok(_) => tracing::debug!(step, "state uploaded"),
                Err(status) => tracing::error!(step, reason = status.message(), "the state was not taken"),
            }
        });
    }

    /// Parks: model, sum and READY stay; tries again until the park limit is over.
    fn lose(&mut self, reason: &str) -> Vec<Effect> {
        if matches!(self.link, Link::Up(..)) && self.opened.elapsed() >= GOOD_SESSION {
            self.backoff.reset();
        }
        if self.parked_since.is_none() {
            self.parked_since = Some(Instant::now());
        }
        let (coordinator, limit) = (&self.options.coordinator, self.park_limit);
        // Now and then, so that a log stays readable.
        match self.backoff.attempts() {
            attempts if attempts % 16 != 0 => tracing::debug!(coordinator, reason, "no connection"),
            _ if self.machine.is_member() => {
                tracing::warn!(coordinator, reason, "parked with model and sum; trying again for {limit:?}");
            }
            _ => tracing::warn!(coordinator, reason, "no coordinator yet; trying again for {limit:?}"),
        }
        self.set_client(None);
        self.link = Link::Resting(Box::pin(tokio::time::sleep(self.backoff.next())));
        self.machine.link_lost()
    }

    /// Lets the last words out: ends our half of the stream, waits for the other.
    async fn farewell(&mut self) {
        let resting = Link::Resting(Box::pin(tokio::time::sleep(Duration::ZERO)));
        if let Link::Up(outbox, mut stream) = std::mem::replace(&mut self.link, resting) {
            drop(outbox);
            let rest = async { while let Ok(Some(_)) = stream.message().await {} };
            let _ = tokio::time::timeout(FAREWELL_LIMIT, rest).await;
        }
    }

    fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_client(&self, client: Option<Client>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }
}

async fn wanted(wants: &mut Option<mpsc::Receiver<Want>>) -> Option<Want> {
    match wants {
        Some(wants) => wants.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0u16; 8]) }
}
