//! Messages between sound nodes.

use crate::net::{NetEvent, bind, direct};
use crate::protocol::Lane;

use super::harness::{Cluster, TestNode, large, small, small_id, soon};

async fn pair(regions: [&str; 2]) -> (Cluster, TestNode, TestNode) {
    let mut cluster = Cluster::new(&[("a", regions[0]), ("b", regions[1])]);
    let (mut first, mut second) = (cluster.start(0), cluster.start(1));
    first.connected(1).await;
    second.connected(1).await;
    (cluster, first, second)
}

#[tokio::test]
async fn messages_keep_their_order_on_every_lane() {
    for regions in [["eu", "eu"], ["eu", "us"]] {
        let (_cluster, mut first, mut second) = pair(regions).await;
        for n in 0..1000 {
            for (lane, base) in Lane::ALL.into_iter().zip(0..) {
                first
                    .network
                    .send(second.id, lane, &small(base * 10_000 + n));
                second
                    .network
                    .send(first.id, lane, &small(base * 10_000 + n));
            }
        }
        let ids = [first.id, second.id];
        for (node, other) in [(&mut first, ids[1]), (&mut second, ids[0])] {
            let mut next = [0; 5];
            for (from, message) in node.messages(5000).await {
                assert_eq!(from, other);
                let id = small_id(&message);
                let lane = usize::try_from(id / 10_000).unwrap();
                assert_eq!(id % 10_000, next[lane], "lane {lane}");
                next[lane] += 1;
            }
        }
        let stats = first.network.stats()[0];
        assert!(stats.is_connected);
        assert_eq!((stats.sent_messages, stats.received_messages), (5000, 5000));
        assert_eq!((stats.dropped_full, stats.connects), (0, 1));
        assert!(stats.sent_bytes > 0 && stats.received_bytes > 0);
        assert!(stats.udp_sent_bytes > stats.sent_bytes);
    }
}

#[tokio::test]
async fn large_messages_cross_between_three_nodes() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu"), ("c", "us")]);
    let mut nodes: Vec<TestNode> = (0..3).map(|index| cluster.start(index)).collect();
    for node in &mut nodes {
        node.connected(2).await;
    }
    let mut chance = fastrand::Rng::with_seed(1);
    let value: Vec<u8> = (0..3 << 20).map(|_| chance.u8(..)).collect();
    let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        for to in &ids {
            let message = large(1, value.clone());
            node.network.send(*to, Lane::Reconcile, &message);
            let message = large(2, vec![9; 16 << 20]);
            node.network.send(*to, Lane::Fresh, &message);
        }
    }
    for node in &mut nodes {
        for (from, message) in node.messages(4).await {
            let sound = [large(1, value.clone()), large(2, vec![9; 16 << 20])];
            assert!(ids.contains(&from) && from != node.id);
            assert!(sound.contains(&message), "a message came back changed");
        }
    }
}

#[tokio::test]
async fn restarted_node_on_its_old_port_is_found_again() {
    for restarted in [0, 1] {
        let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
        let mut nodes = vec![cluster.start(0), cluster.start(1)];
        for node in &mut nodes {
            node.connected(1).await;
        }
        let stopped = nodes.remove(restarted);
        let mut left = nodes.remove(0);
        stopped.network.shutdown().await;
        drop(stopped);
        left.disconnected().await;
        left.network.send(left.id, Lane::Control, &small(0));

        let place = cluster.places[restarted].clone();
        let socket = soon("the old port", async {
            loop {
                match bind(place.address) {
                    Ok(socket) => return socket,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        let mut again = cluster.start_on(&place, direct(socket).unwrap());
        again.connected(1).await;
        left.connected(1).await;
        left.network.send(again.id, Lane::Control, &small(1));
        again.network.send(left.id, Lane::Control, &small(2));
        assert_eq!(again.messages(1).await, [(left.id, small(1))]);
        assert_eq!(left.messages(1).await, [(again.id, small(2))]);
        assert_eq!(left.network.stats()[0].connects, 2);
    }
}

#[tokio::test]
async fn messages_without_a_connection_are_dropped_and_counted() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
    let node = cluster.start(0);
    node.network
        .send(cluster.places[1].id(), Lane::Control, &small(1));
    let stats = node.network.stats()[0];
    assert_eq!((stats.dropped_unsent, stats.sent_messages), (1, 0));
}

#[tokio::test]
async fn receiver_that_is_slow_holds_the_sender_back() {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "eu")]);
    let place = cluster.places[1].clone();
    let socket = direct(cluster.take_socket(&place)).unwrap();
    let mut config = cluster.config(&place);
    config.received_bytes_max = 1 << 20;
    let (network, events) = crate::net::Network::start(
        config,
        socket,
        cluster.identity(&place),
        cluster.peers(&place),
    )
    .unwrap();
    let mut slow = TestNode {
        id: place.id(),
        network,
        events,
    };
    let mut fast = cluster.start(0);
    fast.connected(1).await;
    slow.connected(1).await;

    // Windows, queues and the receiving limit take about 30 MB; nobody takes messages until one is dropped.
    let message = large(1, vec![1; 1 << 20]);
    let mut sent = 0;
    soon("the lane to fill up", async {
        while fast.network.stats()[0].dropped_full == 0 {
            fast.network.send(slow.id, Lane::Fresh, &message);
            tokio::task::yield_now().await;
            sent += 1;
            assert!(sent < 1000, "nothing held the sender back");
        }
    })
    .await;
    // The other lanes are free.
    fast.network.send(slow.id, Lane::Control, &small(1));
    let mut fresh = 0;
    while fresh < fast.network.stats()[0].sent_messages - 1 {
        let event = slow.next().await;
        let NetEvent::Messages { messages, .. } = event else {
            panic!("{event:?}");
        };
        let is_fresh = |message: &&_| **message != small(1);
        fresh += u64::try_from(messages.iter().filter(is_fresh).count()).unwrap();
    }
}
