//! Certificates that are refused, and what the log says of it.

use crate::model::NodeId;
use crate::net::{NetEvent, Network, StartError, direct, make_ca};

use super::harness::{Cluster, Logs, Place, TestNode, soon, today};

/// Starts the first node soundly and the second as an impostor at its place; either may be the one that dials.
fn start(
    cluster: &mut Cluster,
    impostor: &Cluster,
    as_place: &Place,
    index: usize,
) -> [TestNode; 2] {
    let sound = cluster.start(1 - index);
    let place = cluster.places[index].clone();
    let socket = direct(cluster.take_socket(&place)).unwrap();
    let (network, events) = Network::start(
        impostor.config(as_place),
        socket,
        impostor.identity(as_place),
        cluster.peers(&place),
    )
    .unwrap();
    let id = as_place.id();
    [
        sound,
        TestNode {
            id,
            network,
            events,
        },
    ]
}

/// Whoever dials the other, the sound node refuses and says so; both go on trying, and log it once.
async fn check(words: &str, change: impl Fn(&Cluster, usize) -> (Cluster, Place)) {
    for index in [0, 1] {
        let (logs, _guard) = Logs::gather();
        let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu"), ("c", "eu")]);
        let (impostor, as_place) = change(&cluster, index);
        let [mut sound, impostor] = start(&mut cluster, &impostor, &as_place, index);
        logs.line_with(words).await;
        soon("some tries", async {
            let tries = |node: &TestNode| {
                let stats = node.network.endpoint.stats();
                stats.accepted_handshakes + stats.outgoing_handshakes
            };
            while tries(&sound) + tries(&impostor) < 12 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        // Once at each side, for each of the two that dials the other.
        assert!(logs.lines_with(words) <= 4, "logged more than once");
        assert!(!sound.network.stats().iter().any(|peer| peer.is_connected));
        assert!(sound.events.try_recv().is_err());
    }
}

#[tokio::test]
async fn certificate_of_another_ca_is_refused() {
    check("not valid under this cluster's CA", |cluster, index| {
        let mut other = Cluster::new(&[]);
        other.ca = make_ca(today(), "test").unwrap();
        (other, cluster.places[index].clone())
    })
    .await;
}

#[tokio::test]
async fn certificate_of_another_region_is_refused() {
    check("names another region", |cluster, index| {
        let mut same = Cluster::new(&[]);
        same.ca = cluster.ca.clone();
        let mut place = cluster.places[index].clone();
        place.region = "us".to_owned();
        (same, place)
    })
    .await;
}

#[tokio::test]
async fn certificate_of_an_unknown_node_is_refused() {
    check("names a node that", |cluster, index| {
        let mut same = Cluster::new(&[]);
        same.ca = cluster.ca.clone();
        let mut place = cluster.places[index].clone();
        // A stranger that dials everybody, since its id is the smallest.
        let is_smallest = |name: &String| NodeId::of(name) < cluster.places[0].id();
        let mut names = (0..).map(|n: u32| format!("stranger{n}"));
        place.name = names.find(is_smallest).unwrap();
        (same, place)
    })
    .await;
}

#[tokio::test]
async fn other_node_at_the_dialled_address_is_refused() {
    let (logs, _guard) = Logs::gather();
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu"), ("c", "eu")]);
    // The topology of the first node has the addresses of the other two the wrong way round.
    let [first, second, third] = [0, 1, 2].map(|index| cluster.places[index].clone());
    let mut peers = cluster.peers(&first);
    let address = |place: &Place| place.address.to_string();
    peers.get_mut(&second.id()).unwrap().address = address(&third);
    peers.get_mut(&third.id()).unwrap().address = address(&second);
    let socket = direct(cluster.take_socket(&first)).unwrap();
    let identity = cluster.identity(&first);
    let (network, mut events) =
        Network::start(cluster.config(&first), socket, identity, peers).unwrap();
    let mut others = [cluster.start(1), cluster.start(2)];
    logs.line_with(&format!("is not that of `{}`", second.name))
        .await;
    logs.line_with(&format!("is not that of `{}`", third.name))
        .await;
    for node in &mut others {
        let event = node.next().await;
        let NetEvent::Connected { peer } = event else {
            panic!("{event:?}");
        };
        assert_ne!(peer, first.id());
    }
    assert!(events.try_recv().is_err());
    drop(network);
}

#[tokio::test]
async fn own_certificate_of_somebody_else_is_refused_at_the_start() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
    let (own, other) = (cluster.places[0].clone(), cluster.places[1].clone());
    let socket = direct(cluster.take_socket(&own)).unwrap();
    let started = Network::start(
        cluster.config(&own),
        socket,
        cluster.identity(&other),
        cluster.peers(&own),
    );
    assert!(matches!(started, Err(StartError::OtherNode { .. })));
}

#[tokio::test]
async fn new_certificate_serves_connections_made_after_it() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
    let (mut first, mut second) = (cluster.start(0), cluster.start(1));
    first.connected(1).await;
    second.connected(1).await;
    // A new CA on one side only: the next connection is refused.
    cluster.ca = make_ca(today(), "test").unwrap();
    let (logs, _guard) = Logs::gather();
    let identity = cluster.identity(&cluster.places[1]);
    second.network.reload(identity).unwrap();
    first.network.peers[&second.id].disconnect();
    first.disconnected().await;
    second.disconnected().await;
    logs.line_with("not valid under this cluster's CA").await;
    // And on both.
    let identity = cluster.identity(&cluster.places[0]);
    first.network.reload(identity).unwrap();
    first.connected(1).await;
    second.connected(1).await;
}
