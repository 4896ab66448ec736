//! The door: connections that have not yet made a call which passes the gate are few, and short-lived. Whatever a stranger
//! sends, or does not send, it is cut off after a while and costs a log line.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, TcpIncoming};

/// Connections that may be open without having passed the gate.
const STRANGERS_MAX: usize = 256;
/// How long such a connection may stay.
const STRANGER_LIMIT: Duration = Duration::from_secs(5);

/// The connections of a listener, watched until they have passed the gate.
pub fn guarded(listener: TcpListener) -> impl Stream<Item = io::Result<Guarded>> {
    let strangers = Arc::new(AtomicUsize::new(0));
    // Without TCP_NODELAY every small message may wait for a delayed acknowledgement.
    TcpIncoming::from(listener).with_nodelay(Some(true)).filter_map(move |accepted| match accepted {
        Ok(stream) => Guarded::new(stream, strangers.clone()).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

/// Lets a connection stay: the gate holds it for each call.
#[derive(Debug, Clone)]
pub struct Pass(Arc<Stranger>);

#[derive(Debug)]
struct Stranger {
    has_passed: AtomicBool,
    strangers: Arc<AtomicUsize>,
}

impl Pass {
    /// The connection has made a call that passes the gate.
    pub fn admit(&self) {
        if !self.0.has_passed.swap(true, Ordering::Relaxed) {
            self.0.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if !*self.has_passed.get_mut() {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection that is cut off when it has not passed the gate in time.
#[derive(Debug)]
pub struct Guarded {
    stream: TcpStream,
    pass: Pass,
    limit: Pin<Box<Sleep>>,
}

impl Guarded {
    fn new(stream: TcpStream, strangers: Arc<AtomicUsize>) -> Option<Self> {
        if strangers.fetch_add(1, Ordering::Relaxed) >= STRANGERS_MAX {
            strangers.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(STRANGERS_MAX, "too many connections that have not said who they are; one more is refused");
            return None;
        }
        let pass = Pass(Arc::new(Stranger { has_passed: AtomicBool::new(false), strangers }));
        Some(Guarded { stream, pass, limit: Box::pin(tokio::time::sleep(STRANGER_LIMIT)) })
    }
}

impl Connected for Guarded {
    type ConnectInfo = Pass;

    fn connect_info(&self) -> Pass {
        self.pass.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.pass.0.has_passed.load(Ordering::Relaxed) && self.limit.as_mut().poll(cx).is_ready() {
            let from = self.stream.peer_addr().map_or_else(|error| error.to_string(), |address| address.to_string());
            tracing::warn!(from, "a connection has not said who it is in {STRANGER_LIMIT:?}; it is cut off");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
