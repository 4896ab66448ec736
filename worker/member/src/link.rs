//! Where the connection to the coordinator stands, and what can happen to it.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::{CoordinatorMessage, WorkerMessage, coordinator_message::Body as Order};
use tokio::sync::mpsc;
use tokio::time::{Sleep, timeout};
use tonic::{Code, Response, Status, Streaming};

use crate::connect::Authorized;

/// Calls to the coordinator.
pub(crate) type Client = CoordinatorClient<Authorized>;
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Opened = Result<Response<Streaming<CoordinatorMessage>>, Status>;

/// A coordinator that lives takes a connection and opens the stream long before. A connection that it refuses as it begins
/// may leave a call behind that never ends.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Where the connection stands.
pub(crate) enum Link {
    Resting(Pin<Box<Sleep>>),
    Dialing(Waiting<Result<(Client, IpAddr), String>>),
    /// Reached; a Hello goes out as soon as it can say what the worker holds.
    Reached,
    Opening(mpsc::Sender<WorkerMessage>, Waiting<Opened>),
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
    /// A connection that is being made.
    pub(crate) fn dialing(
        limit: Duration,
        dialing: impl Future<Output = Result<(Client, IpAddr), String>> + Send + 'static,
    ) -> Link {
        let late = move |_| Err(format!("no connection in {limit:?}"));
        Link::Dialing(Box::pin(async move { timeout(limit, dialing).await.unwrap_or_else(late) }))
    }

    /// A stream that is being opened; the Hello lies in its outbox.
    pub(crate) fn opening(
        limit: Duration,
        outbox: mpsc::Sender<WorkerMessage>,
        opening: impl Future<Output = Opened> + Send + 'static,
    ) -> Link {
        let late = move |_| Err(Status::deadline_exceeded(format!("no answer to Hello in {limit:?}")));
        Link::Opening(outbox, Box::pin(async move { timeout(limit, opening).await.unwrap_or_else(late) }))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_never_ends_is_a_lost_connection() {
        let limit = Duration::from_millis(1);
        let (outbox, _messages) = mpsc::channel(1);
        let links = [
            (Link::dialing(limit, std::future::pending()), "no connection in 1ms"),
            (Link::opening(limit, outbox, std::future::pending()), "no answer to Hello in 1ms"),
        ];
        for (mut link, expected) in links {
            assert!(matches!(link.next().await, LinkEvent::Lost(reason) if reason == expected), "{expected}");
        }
    }
}
