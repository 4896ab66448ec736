//! Where the connection to the coordinator stands, and what can happen to it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::{CoordinatorMessage, WorkerMessage, coordinator_message::Body as Order};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tonic::{Code, Response, Status, Streaming};

use crate::connect::Authorized;

/// Calls to the coordinator.
pub(crate) type Client = CoordinatorClient<Authorized>;
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where the connection stands.
pub(crate) enum Link {
    Resting(Pin<Box<Sleep>>),
    Dialing(Waiting<Result<(Client, IpAddr), String>>),
    /// Reached; a Hello goes out as soon as it can say what the worker holds.
    Reached,
    Opening(mpsc::Sender<WorkerMessage>, Waiting<Result<Response<Streaming<CoordinatorMessage>>, Status>>),
    Up(mpsc::Sender<WorkerMessage>, Box<Streaming<CoordinatorMessage>>),
}

pub(crate) enum LinkEvent {
    Rested,
    Reached(Client, IpAddr),
    Open(Streaming<CoordinatorMessage>),
    Said(Option<Order>),
    Lost(String),
    Unwelcome(String),
}

impl Link {
    /// The next thing that happens to the connection. Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        match self {
            Link::Resting(sleep) => {
                sleep.await;
                LinkEvent::Rested
            }
            Link::Dialing(dialing) => match dialing.await {
                Ok((client, host)) => LinkEvent::Reached(client, host),
                Err(reason) => LinkEvent::Lost(reason),
            },
            Link::Reached => std::future::pending().await,
            Link::Opening(_, opening) => match opening.await {
                Ok(response) => LinkEvent::Open(response.into_inner()),
                Err(status) => lost(&status),
            },
            Link::Up(_, stream) => match stream.message().await {
                Ok(Some(message)) => LinkEvent::Said(message.body),
                Ok(None) => LinkEvent::Lost("the coordinator ended the stream".to_owned()),
                Err(status) => lost(&status),
            },
        }
    }

    pub(crate) fn outbox(&self) -> Option<&mpsc::Sender<WorkerMessage>> {
        match self {
            Link::Opening(outbox, _) | Link::Up(outbox, _) => Some(outbox),
            Link::Resting(_) | Link::Dialing(_) | Link::Reached => None,
        }
    }
}

fn lost(status: &Status) -> LinkEvent {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => LinkEvent::Unwelcome(status.message().to_owned()),
        _ => LinkEvent::Lost(status.message().to_owned()),
    }
}
