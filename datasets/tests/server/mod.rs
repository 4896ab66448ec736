//! A small HTTP/1.1 server that misbehaves on demand. It counts what it is asked, and closes each connection after one
//! exchange.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What it gets.
pub(crate) enum Response {
    /// Status, headers beside Content-Length, body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The same, but the connection is cut after so many bytes of the body.
    Cut(u16, Vec<(&'static str, String)>, Vec<u8>, usize),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// Nothing, until the client gives up.
    Silence,
}

/// The server; it runs until the test ends.
pub(crate) struct Server {
    address: String,
    seen: Arc<(Mutex<Vec<Request>>, Condvar)>,
}

impl Server {
    /// Answers each request as `respond` says, on a thread of its own.
    pub(crate) fn start(respond: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (respond, log) = (Arc::new(respond), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (respond, log) = (respond.clone(), log.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let response = respond(&request);
                    log.0.lock().unwrap().push(request);
                    log.1.notify_all();
                    write(stream, response);
                });
            }
        });
        Server { address, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.0.lock().unwrap().clone()
    }

    /// Waits until so many requests were seen.
    pub(crate) fn wait_for(&self, requests: usize) {
        let mut seen = self.seen.0.lock().unwrap();
        while seen.len() < requests {
            seen = self.seen.1.wait(seen).unwrap();
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, path) = line.trim().strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

fn write(mut stream: TcpStream, response: Response) {
    let (status, headers, body, upto) = match response {
        Response::Whole(status, headers, body) => (status, headers, body, usize::MAX),
        Response::Cut(status, headers, body, upto) => (status, headers, body, upto),
        Response::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
            return;
        }
        Response::Silence => {
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(b"\r\n");
    // A client that has heard enough hangs up.
    let _ = stream.write_all(&body[..upto.min(body.len())]);
    let _ = stream.flush();
}
