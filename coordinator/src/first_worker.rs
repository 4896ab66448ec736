//! With workers elsewhere, the first one to come decides what `worker.device = auto` is: what a run computes on is part of
//! it, and the coordinator's own machine says nothing about it.

use std::path::Path;
use std::time::Duration;

use coordinator_core::Connection;
use polya_proto::v1::{StatusReply, worker_message::Body};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::service::Input;

/// The first worker.
#[derive(Debug)]
pub struct FirstWorker {
    /// Its name.
    pub worker: String,
    /// `cuda` or `cpu`.
    pub device: String,
    /// All that was heard, for the driver: nobody has to come twice.
    pub heard: Vec<Input>,
}

/// Waits for its Hello; none if the server has ended.
pub async fn first_worker(inputs: &mut mpsc::Receiver<Input>, run_dir: &Path) -> Option<FirstWorker> {
    let (mut heard, since) = (vec![], Instant::now());
    loop {
        match inputs.recv().await? {
            // Whoever asks may have given up meanwhile.
            Input::Asked(reply) => drop(reply.send(waiting(run_dir, since.elapsed()))),
            Input::Scale(_, reply) => {
                drop(reply.send(Err("the run has not begun: it waits for the first worker".to_owned())))
            }
            Input::Disconnected(gone) => heard.retain(|input| connection(input) != Some(gone)),
            input => {
                let first = hello(&input);
                heard.push(input);
                if let Some((worker, device)) = first {
                    return Some(FirstWorker { worker, device, heard });
                }
            }
        }
    }
}

fn hello(input: &Input) -> Option<(String, String)> {
    let Input::Said(_, body) = input else { return None };
    let Body::Hello(hello) = body.as_ref() else { return None };
    let device = if hello.device == "cuda" { "cuda" } else { "cpu" };
    Some((hello.worker.clone(), device.to_owned()))
}

fn connection(input: &Input) -> Option<Connection> {
    match input {
        Input::Connected(connection, _) | Input::Said(connection, _) => Some(*connection),
        _ => None,
    }
}

fn waiting(run_dir: &Path, waited: Duration) -> StatusReply {
    StatusReply {
        phase: "not begun".to_owned(),
        waiting_for: "the first worker, which decides what worker.device = auto is".to_owned(),
        waiting_ms: waited.as_millis() as u64,
        run_dir: run_dir.display().to_string(),
        ..StatusReply::default()
    }
}

#[cfg(test)]
mod tests {
    use polya_proto::v1::{Heartbeat, Hello};
    use tokio::sync::oneshot;

    use super::*;

    fn connected(n: u64) -> Input {
        Input::Connected(Connection(n), mpsc::channel(1).0)
    }

    fn said(n: u64, device: &str) -> Input {
        let hello = Hello { worker: format!("w{n}"), device: device.to_owned(), ..Hello::default() };
        Input::Said(Connection(n), Box::new(Body::Hello(hello)))
    }

    #[tokio::test]
    async fn the_first_hello_decides_and_nothing_heard_of_those_still_there_is_lost() {
        let (inputs, mut received) = mpsc::channel(16);
        let (asked, status) = oneshot::channel();
        let chatter = Input::Said(Connection(2), Box::new(Body::Heartbeat(Heartbeat::default())));
        let came = [connected(1), connected(2), chatter, Input::Disconnected(Connection(1)), Input::Asked(asked)];
        for input in came.into_iter().chain([said(2, "cuda"), said(3, "cpu")]) {
            inputs.send(input).await.unwrap();
        }
        let first = first_worker(&mut received, Path::new("run")).await.unwrap();
        assert_eq!((first.worker.as_str(), first.device.as_str()), ("w2", "cuda"));
        let of: Vec<_> = first.heard.iter().map(connection).collect();
        assert_eq!(of, vec![Some(Connection(2)); 3], "the stream, what it said and its Hello");
        assert!(status.await.unwrap().waiting_for.contains("first worker"));
        assert!(hello(&received.recv().await.unwrap()).is_some(), "later ones wait for the driver");
    }

    #[tokio::test]
    async fn a_worker_that_says_nothing_of_gpus_has_none() {
        let (inputs, mut received) = mpsc::channel(16);
        inputs.send(said(1, "")).await.unwrap();
        assert_eq!(first_worker(&mut received, Path::new("run")).await.unwrap().device, "cpu");
    }

    #[tokio::test]
    async fn no_server_no_first_worker() {
        let (inputs, mut received) = mpsc::channel(1);
        drop(inputs);
        assert!(first_worker(&mut received, Path::new("run")).await.is_none());
    }
}
