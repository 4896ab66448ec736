//! State for other workers: served by every worker, fetched by joiners.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use polya_proto::tls::Role;
use polya_proto::v1::coordinator_client::CoordinatorClient;
use polya_proto::v1::peer_client::PeerClient;
use polya_proto::v1::peer_server::{Peer, PeerServer};
use polya_proto::v1::{FetchStateRequest, GetStateRequest, StateChunk};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::connect::{Access, Authorized, channel};
use crate::machine::Source;
use crate::trainer::StateFiles;
use crate::transfer::{assemble, chunks};

/// Peers that may wait for a state at once.
const WAITING_MAX: usize = 16;
/// For one whole state.
const TRANSFER_LIMIT: Duration = Duration::from_secs(600);

/// A peer wants the state of a step; the answer is a refusal, or a promise.
pub(crate) struct Want {
    pub(crate) step: u64,
    pub(crate) reply: oneshot::Sender<Result<oneshot::Receiver<StateFiles>, String>>,
}

/// Starts the server on a free port. Gives its port and what peers want.
pub(crate) async fn serve(host: IpAddr, access: Access) -> std::io::Result<(u16, mpsc::Receiver<Want>)> {
    let listener = TcpListener::bind((host, 0)).await?;
    let port = listener.local_addr()?.port();
    let (wants, inbox) = mpsc::channel(WAITING_MAX);
    let Access { token, tls } = access;
    let check = move |request: Request<()>| token.check(&request).map(|()| request);
    let service = PeerServer::with_interceptor(StateOf { wants }, check);
    let mut server = tonic::transport::Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls.server()).map_err(std::io::Error::other)?;
    }
    tokio::spawn(async move {
        // One service needs no router.
        if let Err(error) =
            server.serve_with_incoming(service, TcpIncoming::from(listener).with_nodelay(Some(true))).await
        {
            tracing::error!(%error, "joiners cannot fetch state from here any more");
        }
    });
    Ok((port, inbox))
}

struct StateOf {
    wants: mpsc::Sender<Want>,
}

#[tonic::async_trait]
impl Peer for StateOf {
    type FetchStateStream = Pin<Box<dyn Stream<Item = Result<StateChunk, Status>> + Send>>;

    async fn fetch_state(
        &self,
        request: Request<FetchStateRequest>,
    ) -> Result<Response<Self::FetchStateStream>, Status> {
        let step = request.into_inner().step;
        let leaving = || Status::unavailable("the worker is leaving");
        let (reply, answer) = oneshot::channel();
        self.wants.send(Want { step, reply }).await.map_err(|_| leaving())?;
        let promise = answer.await.map_err(|_| leaving())?.map_err(Status::failed_precondition)?;
        let files = Arc::new(promise.await.map_err(|_| leaving())?);
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks(step, files, String::new()).map(Ok)))))
    }
}

/// Gets the state of a step.
pub(crate) async fn fetch(
    step: u64,
    source: Source,
    access: Access,
    coordinator: CoordinatorClient<Authorized>,
) -> Result<StateFiles, String> {
    let transfer = async {
        let stream = match source {
            Source::Coordinator => coordinator.clone().get_state(GetStateRequest { step }).await,
            Source::Peer(address) => {
                let tls = access.tls.as_ref().map(|tls| tls.client(Role::Worker));
                let mut peer = PeerClient::with_interceptor(channel(&address, tls).await?, access.token);
                peer.fetch_state(FetchStateRequest { step }).await
            }
        };
        let stream = stream.map_err(|status| format!("{} ({:?})", status.message(), status.code()))?;
        assemble(step, stream.into_inner()).await
    };
    tokio::time::timeout(TRANSFER_LIMIT, transfer).await.map_err(|_| format!("not whole in {TRANSFER_LIMIT:?}"))?
}
