//! A server with a fake behind it, and a client that sends just the bytes it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::Limits;

use super::super::{Error, Options, serve_node};
use super::fake::Fake;

/// A running server.
pub(super) struct Server {
    pub(super) fake: Arc<Fake>,
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<Result<(), Error>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(Limits::default(), Options::default()).await
    }

    pub(super) async fn start_with(limits: Limits, options: Options) -> Self {
        let fake = Fake::new(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = serve_node(listener, Arc::clone(&fake), options, stop.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "the test waits for the server itself, by this handle"
        )]
        let task = tokio::spawn(task);
        Self {
            fake,
            address,
            stop,
            task,
        }
    }

    pub(super) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.client().await.ask(method, path, &[], body).await
    }
}

/// One connection.
pub(super) struct Client {
    pub(super) stream: BufReader<TcpStream>,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Sends a request with a length and reads the answer.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        // In one piece: a second small one would wait for the first to be acknowledged.
        self.send(&[head.as_bytes(), body].concat()).await;
        self.answer(method).await
    }

    /// Sends bytes; a server that has closed already is no trouble, its answer is there to read.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.get_mut().write_all(bytes).await {
            println!("send: {error}");
        }
    }

    /// Reads one answer.
    pub(super) async fn answer(&mut self, method: &str) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let bytes = self.stream.read_line(&mut line).await.unwrap();
            assert_ne!(bytes, 0, "closed in the head, after {lines:?}");
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines[1..]
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer.header("content-length").unwrap_or("0");
        if method != "HEAD" {
            answer.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut answer.body).await.unwrap();
        }
        answer
    }

    /// Waits until the server has closed.
    pub(super) async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.stream.read_to_end(&mut rest).await {
            println!("reset: {error}");
        }
        rest
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a problem.
    pub(super) fn code(&self) -> String {
        let json = self.json();
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.len() > 10, "words: {message}");
        json["error"]["code"].as_str().unwrap().to_owned()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
