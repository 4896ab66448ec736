//! One storm: a run under faults that fall at places counted in pieces of its traffic. At last they stop, and the run must
//! end as the undisturbed one did.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coordinator_core::{Digest, End};
use polya_tests::seed::Random;
use tokio::sync::{mpsc, watch};
use worker_member::Outcome;

use crate::coordinator::{Coordinator, Translate, status};
use crate::fault::Fault;
use crate::network::{Direction, Felt, Network, Path, Way};
use crate::run;
use crate::witness::WitnessFactory;
use crate::worker::{Worker, name};

/// A fault comes after so many pieces at most, …
const PIECES_MAX: u64 = 70;
/// … or when nothing has passed for so long, since all may be waiting for something that is broken.
const LULL: Duration = Duration::from_millis(150);
/// I7: once nothing is broken any more the run ends within this time; many storms share two cores.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the faults of a storm at least so many meet something.
pub(crate) const FELT_MIN: u64 = 5;
/// An orchestrator starts a process that has ended by itself again after a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// What the parts of a storm tell it.
pub(crate) enum Happened {
    /// A coordinator listens.
    CoordinatorListens(SocketAddr),
    /// It was crashed (none), or ended.
    CoordinatorEnded(Option<Result<End, String>>),
    /// A worker was crashed (none), or ended.
    WorkerEnded(usize, Option<Outcome>),
    /// It is time for another life of a worker.
    StartWorker(usize),
    /// It is time for the next coordinator.
    StartCoordinator,
}

/// What came of a storm.
pub(crate) struct Survived {
    /// S_1, S_2, …
    pub(crate) states: Vec<Digest>,
    /// The faults that met something, by name.
    pub(crate) felt: BTreeMap<&'static str, u64>,
    /// What happened when.
    pub(crate) log: Vec<String>,
}

/// See the module.
pub(crate) struct Storm {
    kind: usize,
    random: Random,
    dir: PathBuf,
    began: Instant,
    expected: Arc<Vec<Digest>>,
    network: Arc<Network>,
    places: Vec<Place>,
    coordinator: Option<Coordinator>,
    address: Option<SocketAddr>,
    translate: Translate,
    /// Until the next coordinator comes, and what it shall find.
    next_coordinator: (Duration, Option<usize>),
    happened: mpsc::UnboundedReceiver<Happened>,
    tell: mpsc::UnboundedSender<Happened>,
    faults: Vec<(&'static str, Felt)>,
    log: Vec<String>,
}

/// A worker's place in the fleet: its paths stay, lives come and go.
struct Place {
    path: Arc<Path>,
    address: SocketAddr,
    peer: Arc<Path>,
    life: Option<Worker>,
    lives: u64,
    /// Until the next life.
    away: Duration,
}

impl Storm {
    /// A storm of a seed over a fleet of so many workers. `expected`: the undisturbed states.
    pub(crate) fn new(seed: u64, kind: usize, workers: usize, dir: PathBuf, expected: Arc<Vec<Digest>>) -> Storm {
        let network = Network::new();
        let (tell, happened) = mpsc::unbounded_channel();
        let mut places = vec![];
        let mut peers: BTreeMap<String, (SocketAddr, watch::Sender<Option<SocketAddr>>)> = BTreeMap::new();
        for index in 0..workers {
            let (path, address) = network.path_to_coordinator();
            let (peer, peer_address, target) = network.path_to_peer();
            peers.insert(name(index), (peer_address, target));
            places.push(Place { path, address, peer, life: None, lives: 0, away: PAUSE });
        }
        let peers = Mutex::new(peers);
        let translate: Translate = Arc::new(move |worker, real| {
            let peers = peers.lock().unwrap();
            let (address, target) = &peers[worker];
            target.send_replace(real.parse().ok());
            address.to_string()
        });
        Storm {
            kind,
            random: Random::new(seed),
            dir,
            began: Instant::now(),
            expected,
            network,
            places,
            coordinator: None,
            address: None,
            translate,
            next_coordinator: (PAUSE, None),
            happened,
            tell,
            faults: vec![],
            log: vec![],
        }
    }

    /// Goes through so many faults to the run's end. The error says what was promised and not kept.
    pub(crate) async fn pass(mut self, faults: usize) -> Result<Survived, (String, Vec<String>)> {
        let proven = self.run(faults).await.and_then(|()| run::proven_states(&self.dir, &run::config_of(self.kind)));
        let log = std::mem::take(&mut self.log);
        match proven {
            Ok(states) => Ok(Survived { states, felt: self.felt(), log }),
            Err(error) => Err((error, log)),
        }
    }

    async fn run(&mut self, faults: usize) -> Result<(), String> {
        self.start_coordinator();
        for index in 0..self.places.len() {
            self.start_worker(index);
        }
        // Where all are away or waiting a fault meets nothing: there are more of them until enough have met something.
        while self.faults.len() < faults || (faults > 0 && self.felt().values().sum::<u64>() < FELT_MIN) {
            let place = self.network.passed() + self.random.below(PIECES_MAX);
            let network = self.network.clone();
            let mut falls = std::pin::pin!(network.passes(place, LULL));
            loop {
                tokio::select! {
                    () = &mut falls => break,
                    Some(happened) = self.happened.recv() => if self.hear(happened)? { return Ok(()) },
                }
            }
            let fault = Fault::draw(&mut self.random, self.places.len());
            self.note(format!("{fault:?}"));
            let felt = Felt::default();
            self.faults.push((fault.name(), felt.clone()));
            self.apply(fault, felt);
        }
        self.note("no more faults".to_owned());
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                Some(happened) = self.happened.recv() => if self.hear(happened)? { return Ok(()) },
                () = tokio::time::sleep_until(until) => return Err(self.why_it_hangs().await),
            }
        }
    }

    fn felt(&self) -> BTreeMap<&'static str, u64> {
        let mut felt = BTreeMap::new();
        for (name, _) in self.faults.iter().filter(|(_, felt)| felt.load(Ordering::Relaxed)) {
            *felt.entry(*name).or_default() += 1;
        }
        felt
    }

    /// True when the run is finished.
    fn hear(&mut self, happened: Happened) -> Result<bool, String> {
        match happened {
            Happened::CoordinatorListens(address) => {
                self.note("a coordinator listens".to_owned());
                self.address = Some(address);
                self.network.set_coordinator(Some(address));
            }
            Happened::CoordinatorEnded(end) => {
                self.network.set_coordinator(None);
                self.coordinator = None;
                self.address = None;
                match end {
                    None => self.later(self.next_coordinator.0, Happened::StartCoordinator),
                    Some(Ok(End::Finished)) => return Ok(true),
                    Some(other) => return Err(format!("the coordinator ended: {other:?}")),
                }
            }
            Happened::WorkerEnded(index, outcome) => {
                self.places[index].life = None;
                // Dismissed by its own wish; a run that is finished ends with the coordinator.
                if let Some(outcome) = outcome.filter(|outcome| ![0, 75].contains(&outcome.exit_code)) {
                    return Err(format!("{} ended by itself: {outcome:?}", name(index)));
                }
                self.later(self.places[index].away, Happened::StartWorker(index));
            }
            Happened::StartWorker(index) => self.start_worker(index),
            Happened::StartCoordinator => {
                if let (_, Some(bytes)) = self.next_coordinator {
                    self.tear_journal(bytes);
                }
                self.start_coordinator();
            }
        }
        Ok(false)
    }

    fn start_coordinator(&mut self) {
        let config = run::config_of(self.kind);
        let coordinator = Coordinator::start(config, self.dir.clone(), self.translate.clone(), self.tell.clone());
        self.coordinator = Some(coordinator);
        self.next_coordinator = (PAUSE, None);
    }

    fn start_worker(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.lives += 1;
        place.away = PAUSE;
        // A machine's clock may be behind that of the one whose place it takes.
        let is_behind = place.lives > 1 && self.random.below(8) == 0;
        let incarnation = if is_behind { 1 } else { 1_000 * place.lives };
        let factory = Box::new(WitnessFactory { dir: self.dir.clone(), expected: self.expected.clone() });
        place.life = Some(Worker::start(index, incarnation, place.address, factory, self.tell.clone()));
        self.note(format!("{} starts as {incarnation}", name(index)));
    }

    fn apply(&mut self, fault: Fault, felt: Felt) {
        let both = [Direction::There, Direction::Back];
        match fault {
            Fault::Partition(index, time) => {
                let Place { path, peer, .. } = &self.places[index];
                self.change(&[path.clone(), peer.clone()], &both, Way::Held, time, &felt);
            }
            Fault::OneWay(index, direction, time) => {
                self.change(&[self.places[index].path.clone()], &[direction], Way::Held, time, &felt);
            }
            Fault::Hold(time) => {
                let all: Vec<Arc<Path>> = self.places.iter().map(|place| place.path.clone()).collect();
                self.change(&all, &both, Way::Held, time, &felt);
            }
            Fault::Slow(index, piece, time) => {
                self.change(&[self.places[index].path.clone()], &both, Way::Slow(piece), time, &felt);
            }
            Fault::HoldPeer(index, time) => {
                self.change(&[self.places[index].peer.clone()], &both, Way::Held, time, &felt);
            }
            Fault::Cut(index) => self.places[index].path.cut(&felt),
            Fault::Tear(index, direction) => self.places[index].path.set(direction, Way::Torn, &felt),
            Fault::TearPeer(index) => self.places[index].peer.set(Direction::Back, Way::Torn, &felt),
            Fault::CrashWorker(index, away) => {
                let place = &mut self.places[index];
                if place.life.as_mut().is_some_and(Worker::crash) {
                    place.away = away;
                    felt.store(true, Ordering::Relaxed);
                }
            }
            Fault::Leave(index, away) => {
                let place = &mut self.places[index];
                if place.life.as_mut().is_some_and(Worker::leave) {
                    place.away = away;
                    felt.store(true, Ordering::Relaxed);
                }
            }
            Fault::CrashCoordinator(away, torn) => {
                if self.coordinator.as_mut().is_some_and(Coordinator::crash) {
                    self.next_coordinator = (away, torn);
                    felt.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Changes directions of paths for a while.
    fn change(&self, paths: &[Arc<Path>], directions: &[Direction], way: Way, time: Duration, felt: &Felt) {
        for path in paths {
            for &direction in directions {
                path.set(direction, way, felt);
                let (path, felt) = (path.clone(), felt.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await; // that long it is broken
                    path.heal(direction, &felt);
                });
            }
        }
    }

    fn later(&self, time: Duration, what: Happened) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await; // that long it is away
            let _ = tell.send(what);
        });
    }

    /// What a crash in the middle of an append leaves: a length, and a part of what it promises.
    fn tear_journal(&self, bytes: usize) {
        let mut torn = 500u32.to_le_bytes().to_vec();
        torn.resize(bytes.max(1), b'{');
        let file = std::fs::OpenOptions::new().append(true).open(self.dir.join("journal"));
        file.and_then(|mut file| file.write_all(&torn)).unwrap();
    }

    async fn why_it_hangs(&self) -> String {
        let dead: BTreeSet<String> =
            (0..self.places.len()).filter(|&index| self.places[index].life.is_none()).map(name).collect();
        let said = match self.address {
            Some(address) => status(address).await,
            None => "there is no coordinator".to_owned(),
        };
        format!("I7: not finished {PATIENCE:?} after the last fault; dead: {dead:?}; {said}")
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:6} ms, {:5} pieces: {what}", self.began.elapsed().as_millis(), self.network.passed()));
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.places.iter_mut().filter_map(|place| place.life.as_mut()).for_each(|life| {
            life.crash();
        });
    }
}
