//! Reaching the coordinator and other workers: addresses, time limits, the join token, waiting between attempts.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use polya_proto::tls::{Credentials, Role};
use polya_proto::v1::coordinator_client::CoordinatorClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// A channel that presents the join token with every call.
pub(crate) type Authorized = InterceptedService<Channel, Token>;

/// A dead or unreachable host: that long for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A silent host is asked this often, and lost when it gives no answer for [`ALIVE_LIMIT`].
const ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// Leases, tables and what a worker holds, for a thousand tensors and many microbatches.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The join token of the run, if it has one. Never printed.
#[derive(Clone, Default)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

/// What a worker shows: the token with each call, the fleet's certificate with each connection.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) token: Token,
    pub(crate) tls: Option<Credentials>,
}

impl Token {
    pub(crate) fn new(token: Option<&str>) -> Result<Token, String> {
        let header = |token: &str| MetadataValue::try_from(format!("Bearer {token}"));
        let header =
            token.map(header).transpose().map_err(|_| "the join token is not plain text on one line".to_owned())?;
        Ok(Token(header))
    }

    /// Refuses a call without the token. Compares digests, so that time says nothing about the token.
    pub(crate) fn check(&self, request: &Request<()>) -> Result<(), Status> {
        let Some(expected) = &self.0 else { return Ok(()) };
        let given = request.metadata().get("authorization").map_or(&[][..], MetadataValue::as_bytes);
        if blake3::hash(given) == blake3::hash(expected.as_bytes()) {
            return Ok(());
        }
        Err(Status::unauthenticated("the join token is missing or wrong"))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// The coordinator, and the address of this machine on the way to it.
pub(crate) async fn dial(address: String, access: Access) -> Result<(CoordinatorClient<Authorized>, IpAddr), String> {
    let channel = channel(&address, access.tls.as_ref().map(|tls| tls.client(Role::Coordinator))).await?;
    let host = route(&address).await.map_err(|error| format!("no route to {address}: {error}"))?;
    let client = CoordinatorClient::with_interceptor(channel, access.token)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok((client, host))
}

/// A connection to `host:port`, encrypted where there is a configuration for it.
pub(crate) async fn channel(address: &str, tls: Option<ClientTlsConfig>) -> Result<Channel, String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let wrong = |error| format!("{address}: {}", chain(&error));
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(wrong)?;
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).map_err(wrong)?;
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ALIVE_INTERVAL)
        .keep_alive_timeout(ALIVE_LIMIT)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| chain(&error))
}

/// The local address that packets to `address` leave from. Nothing is sent.
async fn route(address: &str) -> std::io::Result<IpAddr> {
    let target = tokio::net::lookup_host(address).await?.next();
    let target = target.ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// An error with its causes: the outermost alone says `transport error`. A cause may repeat the one around it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if words.last().is_some_and(|outer| more.starts_with(outer)) {
            words.pop();
        }
        words.push(more);
        cause = inner.source();
    }
    words.join(": ")
}

/// Waits between attempts: 50 ms, doubled up to a limit.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    limit: Duration,
}

impl Backoff {
    /// For a coordinator at this address. One on this machine is asked again sooner: asking costs little, and whoever
    /// started it again waits.
    pub(crate) fn towards(coordinator: &str) -> Self {
        let is_here = coordinator.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
        Backoff { attempts: 0, limit: Duration::from_millis(if is_here { 200 } else { 2_000 }) }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(50) * 2u32.pow(self.attempts.min(6));
        self.attempts += 1;
        wait.min(self.limit)
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_that_is_lower_on_this_machine() {
        let waits = |backoff: &mut Backoff| (0..8).map(|_| backoff.next().as_millis()).collect::<Vec<_>>();
        let mut far = Backoff::towards("10.0.0.5:7070");
        assert_eq!(waits(&mut far), [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(waits(&mut Backoff::towards("127.0.0.1:7070")), [50, 100, 200, 200, 200, 200, 200, 200]);
        far.reset();
        assert_eq!(far.next().as_millis(), 50);
    }

    #[test]
    fn a_call_without_the_token_is_refused() {
        let mut token = Token::new(Some("secret")).unwrap();
        assert!(token.check(&Request::new(())).is_err());
        let other = Token::new(Some("other")).unwrap().call(Request::new(())).unwrap();
        assert!(token.check(&other).is_err());
        let right = token.call(Request::new(())).unwrap();
        assert!(token.check(&right).is_ok());
        assert!(Token::default().check(&other).is_ok(), "a run without a token takes everybody");
        assert!(Token::new(Some("two\nlines")).is_err());
    }

    #[tokio::test]
    async fn the_route_to_loopback_is_loopback() {
        assert_eq!(route("127.0.0.1:9").await.unwrap(), IpAddr::from([127, 0, 0, 1]));
        let refused = channel("127.0.0.1:1", None).await.unwrap_err();
        assert!(refused.starts_with("transport error: tcp connect error: Connection refused"), "{refused}");
    }
}
