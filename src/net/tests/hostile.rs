//! Bytes that no sound node sends.

use std::net::UdpSocket;
use std::sync::Arc;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TokioRuntime};

use crate::net::direct;
use crate::net::tls::{Known, Tls};
use crate::protocol::Lane;

use super::harness::{Cluster, TestNode, small, soon};

/// A caller with the first node's valid certificate, but with no manners.
struct Caller {
    endpoint: Endpoint,
    cluster: Cluster,
}

impl Caller {
    fn new() -> (Self, TestNode) {
        let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
        let node = cluster.start(1);
        let place = cluster.places[0].clone();
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            direct(cluster.take_socket(&place)).unwrap(),
            Arc::new(TokioRuntime),
        )
        .unwrap();
        (Self { endpoint, cluster }, node)
    }

    async fn call(&self) -> Connection {
        let [own, other] = [&self.cluster.places[0], &self.cluster.places[1]];
        let known = Known {
            cluster: self.cluster.name.clone(),
            peers: self.cluster.peers(own),
        };
        let tls = Tls::new(self.cluster.identity(own), Arc::new(known)).unwrap();
        let config = ClientConfig::new(tls.client(other.id()).unwrap());
        let connecting = self.endpoint.connect_with(config, other.address, "sterna");
        soon("a connection", connecting.unwrap()).await.unwrap()
    }

    /// Sends these bytes at the beginning of five streams and says why the node closed the connection.
    async fn provoke(&self, tags: [u8; 5], bytes: &[u8]) -> String {
        let connection = self.call().await;
        let mut streams = Vec::new();
        for tag in tags {
            let mut stream = connection.open_uni().await.unwrap();
            let mut all = vec![tag];
            all.extend(bytes);
            // The node may have closed the connection already.
            drop(stream.write_all(&all).await);
            streams.push(stream);
        }
        let closed = soon("the close", connection.closed()).await;
        let ConnectionError::ApplicationClosed(close) = closed else {
            panic!("{closed}");
        };
        String::from_utf8_lossy(&close.reason).into_owned()
    }
}

#[tokio::test]
async fn bad_frames_close_the_connection_and_nothing_else() {
    let (caller, mut node) = Caller::new();
    let tags = [0, 1, 2, 3, 4];
    for (bytes, reason) in [
        (&[0xff, 0xff, 0xff, 0x7f, 0][..], "beyond the limit"),
        (&[1, 0, 0, 0, 0x80, 1], "unknown flags"),
        (&[0, 0, 0, 0, 0], "an empty frame"),
        (&[2, 0, 0, 0, 0, 9, 9], "version 9"),
        (&[2, 0, 0, 0, 0, 1, 0xee], "garbled"),
        (&[5, 0, 0, 0, 1, 200, 0, 0, 0, 77], "does not unpack"),
    ] {
        let said = caller.provoke(tags, bytes).await;
        assert!(said.contains(reason), "{said}");
        node.connected(1).await;
        node.disconnected().await;
    }
}

#[tokio::test]
async fn bad_lanes_close_the_connection_before_it_counts() {
    let (caller, mut node) = Caller::new();
    for tags in [[0, 1, 2, 3, 3], [0, 1, 2, 3, 9]] {
        let said = caller.provoke(tags, &[]).await;
        assert!(said.contains("second lane"), "{said}");
    }
    assert!(node.events.try_recv().is_err());
}

#[tokio::test]
async fn random_frames_never_bring_a_node_down() {
    let (caller, mut node) = Caller::new();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    for _ in 0..20 {
        let length = chance.u8(1..200);
        let mut bytes = vec![length, 0, 0, 0, 0, 1];
        bytes.extend((1..length).map(|_| chance.u8(..)));
        // A frame that happens to be sound is followed by one that is not.
        bytes.extend([0; 5]);
        caller.provoke([0, 1, 2, 3, 4], &bytes).await;
        node.connected(1).await;
        while !matches!(node.next().await, crate::net::NetEvent::Disconnected { .. }) {}
    }
}

#[tokio::test]
async fn random_datagrams_do_no_harm() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "us")]);
    let (mut first, mut second) = (cluster.start(0), cluster.start(1));
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    first.connected(1).await;
    second.connected(1).await;
    for n in 0..200 {
        for place in &cluster.places {
            for _ in 0..10 {
                let datagram: Vec<u8> = (0..chance.usize(0..1500)).map(|_| chance.u8(..)).collect();
                noise.send_to(&datagram, place.address).unwrap();
            }
        }
        first.network.send(second.id, Lane::Control, &small(n));
        let [(_, message)] = &second.messages(1).await[..] else {
            panic!("one message was sent");
        };
        assert_eq!(*message, small(n));
    }
}
