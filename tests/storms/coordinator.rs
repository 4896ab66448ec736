//! A coordinator's life: the real service, driver and journal on a runtime of their own, put together as `coordinator::run`
//! does. A crash ends that runtime wherever it stands; what was said and not sent is lost, what was appended is not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coordinator::config::Config;
use coordinator::driver::{Driver, Parts};
use coordinator::exit::ExitError;
use coordinator::run::{Options, begin_epoch, open_journal, serve};
use coordinator::run_data;
use coordinator::service::Input;
use coordinator::setup::{open_record, setup};
use coordinator_core::End;
use polya_proto::v1::worker_message::Body;
use polya_proto::v1::{StatusReply, StatusRequest};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::storm::Happened;

/// Inputs that may wait for the driver.
const INPUTS: usize = 1024;
/// For the workers to hear that the run is finished.
const FAREWELL: Duration = Duration::from_secs(2);

/// Gives the address under which the others reach a worker's state, for its name and its own address: the network's.
pub(crate) type Translate = Arc<dyn Fn(&str, &str) -> String + Send + Sync>;

/// A living coordinator.
pub(crate) struct Coordinator {
    crash: Option<oneshot::Sender<()>>,
}

impl Coordinator {
    /// Starts one on the run of a directory, which is begun if it is not there. Its address and its end are told.
    pub(crate) fn start(
        config: Config,
        run_dir: PathBuf,
        translate: Translate,
        happened: mpsc::UnboundedSender<Happened>,
    ) -> Coordinator {
        let (crash, crashed) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let end = runtime.block_on(async {
                tokio::select! {
                    end = live(config, run_dir, translate, &happened) => Some(end.map_err(|exit| format!("{:#}", exit.error))),
                    _ = crashed => None,
                }
            });
            drop(runtime);
            // The storm may be over.
            let _ = happened.send(Happened::CoordinatorEnded(end));
        });
        Coordinator { crash: Some(crash) }
    }

    /// Ends it as SIGKILL does. False if it was dying already.
    pub(crate) fn crash(&mut self) -> bool {
        self.crash.take().is_some_and(|crash| crash.send(()).is_ok())
    }
}

async fn live(
    config: Config,
    run_dir: PathBuf,
    translate: Translate,
    happened: &mpsc::UnboundedSender<Happened>,
) -> Result<End, ExitError> {
    std::fs::create_dir_all(&run_dir)?;
    let data = run_data::load(&config)?;
    let setup = setup(&config, &data)?;
    let open = open_record(&config, &data, &setup)?;
    let options = Options {
        config: config.clone(),
        resume: run_dir.join("journal").exists(),
        run_dir: run_dir.clone(),
        from_step: None,
        workers: 0,
        external: true,
        listen: None,
        token_file: None,
        tls: None,
    };
    let (mut journal, fold) = open_journal(&options, &setup, &open)?;
    if fold.ended() {
        return Ok(End::Finished); // the crash came between the last record and the farewell
    }
    let epoch = fold.epoch() + 1;
    let core = begin_epoch(&mut journal, fold, setup, epoch, &run_dir)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (heard, on_the_way) = mpsc::channel(INPUTS);
    let (inputs, mut received) = mpsc::channel(INPUTS);
    let _server = serve(listener, heard, None, None)?;
    tokio::spawn(relay(on_the_way, inputs.clone(), translate));
    let mut driver = Driver::new(Parts { core, config, run_dir, data, journal }, inputs)?;
    let _ = happened.send(Happened::CoordinatorListens(address));
    let (_nobody, exits) = mpsc::unbounded_channel();
    let (_never, stop) = mpsc::channel(1);
    let end = driver.run(&mut received, exits, stop).await?;
    driver.see_off(&end, &mut received, FAREWELL).await;
    Ok(end)
}

/// Hands on what workers say. Their peers reach them through the network too, so a Hello says where that is.
async fn relay(mut heard: mpsc::Receiver<Input>, inputs: mpsc::Sender<Input>, translate: Translate) {
    while let Some(mut input) = heard.recv().await {
        if let Input::Said(_, body) = &mut input
            && let Body::Hello(hello) = &mut **body
        {
            hello.peer_address = translate(&hello.worker, &hello.peer_address);
        }
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// What a coordinator says about itself, for a storm that does not end.
pub(crate) async fn status(address: SocketAddr) -> String {
    let asked = async {
        let endpoint = format!("http://{address}");
        let mut client = polya_proto::v1::coordinator_client::CoordinatorClient::connect(endpoint).await.ok()?;
        let reply: StatusReply = client.status(StatusRequest {}).await.ok()?.into_inner();
        Some(format!("{reply:#?}"))
    };
    let reply = tokio::time::timeout(Duration::from_secs(5), asked).await;
    reply.ok().flatten().unwrap_or_else(|| "no answer".to_owned())
}
