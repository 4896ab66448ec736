//! A network that can break: what workers and coordinator say to each other passes through here, piece by piece, and each
//! direction of each path can be held, slowed, cut, or cut in mid-piece.
//!
//! Nothing is lost on a connection that lives: TCP would send it again. A partition therefore holds what is under way, ends
//! of connections included, and lets it go when it heals; whoever has been given up meanwhile is then heard from late.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What is read at once, at most: small enough that a state or a table of a step is more than one piece.
const PIECE_BYTES: usize = 2048;

/// Whether a fault met anything.
pub(crate) type Felt = Arc<AtomicBool>;

/// What happens to a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It passes.
    Open,
    /// It waits.
    Held,
    /// It takes so long.
    Slow(Duration),
    /// Its first half passes, then the connection is gone.
    Torn,
}

/// One direction of a path.
#[derive(Debug, Clone)]
struct Flow {
    way: Way,
    felt: Felt,
}

/// Both directions of all connections to one address.
#[derive(Debug)]
pub(crate) struct Path {
    target: watch::Receiver<Option<SocketAddr>>,
    there: watch::Sender<Flow>,
    back: watch::Sender<Flow>,
    cuts: watch::Sender<Option<Felt>>,
    passed: watch::Sender<u64>,
}

/// One of a path's directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From whoever connected.
    There,
    /// To whoever connected.
    Back,
}

/// All paths, and what has passed.
#[derive(Debug)]
pub(crate) struct Network {
    runtime: Handle,
    coordinator: watch::Sender<Option<SocketAddr>>,
    passed: watch::Sender<u64>,
}

impl Network {
    /// A network of the present runtime, without a coordinator.
    pub(crate) fn new() -> Arc<Network> {
        let (coordinator, passed) = (watch::Sender::new(None), watch::Sender::new(0));
        Arc::new(Network { runtime: Handle::current(), coordinator, passed })
    }

    /// Where a coordinator listens now; none: nowhere.
    pub(crate) fn set_coordinator(&self, address: Option<SocketAddr>) {
        self.coordinator.send_replace(address);
    }

    /// A path to the coordinator, wherever it is, and the address to dial.
    pub(crate) fn path_to_coordinator(&self) -> (Arc<Path>, SocketAddr) {
        self.path(self.coordinator.subscribe())
    }

    /// A path that leads nowhere yet, its address, and where to say where it leads. For the state that peers fetch.
    pub(crate) fn path_to_peer(&self) -> (Arc<Path>, SocketAddr, watch::Sender<Option<SocketAddr>>) {
        let target = watch::Sender::new(None);
        let (path, address) = self.path(target.subscribe());
        (path, address, target)
    }

    fn path(&self, target: watch::Receiver<Option<SocketAddr>>) -> (Arc<Path>, SocketAddr) {
        let open = || watch::Sender::new(Flow { way: Way::Open, felt: Felt::default() });
        let cuts = watch::Sender::new(None);
        let path = Arc::new(Path { target, there: open(), back: open(), cuts, passed: self.passed.clone() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(accept(path.clone(), listener));
        (path, address)
    }

    /// Pieces that have passed so far.
    pub(crate) fn passed(&self) -> u64 {
        *self.passed.borrow()
    }

    /// Waits until so many pieces have passed in all, or for so long.
    pub(crate) async fn passes(&self, pieces: u64, limit: Duration) {
        let mut passed = self.passed.subscribe();
        let _ = tokio::time::timeout(limit, passed.wait_for(|passed| *passed >= pieces)).await;
    }
}

impl Path {
    /// Changes a direction; `felt` becomes true once that has met a piece.
    pub(crate) fn set(&self, direction: Direction, way: Way, felt: &Felt) {
        self.flow(direction).send_replace(Flow { way, felt: felt.clone() });
    }

    /// Opens a direction again, unless another fault has it by now.
    pub(crate) fn heal(&self, direction: Direction, felt: &Felt) {
        self.flow(direction).send_if_modified(|flow| {
            let is_mine = Arc::ptr_eq(&flow.felt, felt);
            if is_mine {
                flow.way = Way::Open;
            }
            is_mine
        });
    }

    /// Ends all connections.
    pub(crate) fn cut(&self, felt: &Felt) {
        self.cuts.send_replace(Some(felt.clone()));
    }

    fn flow(&self, direction: Direction) -> &watch::Sender<Flow> {
        match direction {
            Direction::There => &self.there,
            Direction::Back => &self.back,
        }
    }
}

async fn accept(path: Arc<Path>, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(path.clone(), stream));
    }
}

/// One connection, until either side, a cut or a tear ends it.
async fn connection(path: Arc<Path>, mut here: TcpStream) {
    let mut cuts = path.cuts.subscribe();
    let target = *path.target.borrow();
    let Some(target) = target else { return };
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    for stream in [&here, &there] {
        // A pause of the kernel's is none of the storm's.
        let _ = stream.set_nodelay(true);
    }
    let (from_here, to_here) = here.split();
    let (from_there, to_there) = there.split();
    tokio::select! {
        () = pump(from_here, to_there, &path.there, &path.passed) => {}
        () = pump(from_there, to_here, &path.back, &path.passed) => {}
        Ok(()) = cuts.changed() => {
            let felt = cuts.borrow().clone();
            felt.inspect(|felt| felt.store(true, Ordering::Relaxed));
        }
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    flow: &watch::Sender<Flow>,
    passed: &watch::Sender<u64>,
) {
    let mut flow = flow.subscribe();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let Flow { way, felt } = flow.borrow_and_update().clone();
        match way {
            Way::Open => {}
            Way::Held => {
                felt.store(true, Ordering::Relaxed);
                // An end of the connection does not come through either.
                let _ = flow.wait_for(|flow| flow.way != Way::Held).await;
            }
            Way::Slow(time) => {
                felt.store(true, Ordering::Relaxed);
                tokio::time::sleep(time).await; // the way is that long
            }
            Way::Torn => {
                if !felt.swap(true, Ordering::Relaxed) {
                    let _ = to.write_all(&buffer[..count / 2]).await;
                    return;
                }
            }
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        passed.send_modify(|passed| *passed += 1);
    }
}
