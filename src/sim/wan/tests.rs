//! The emulator under real connections.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::model::{Duration, RegionId};
use crate::net::tests::harness::{Cluster, TestNode, small, small_id};
use crate::placement::LinkShape;
use crate::protocol::Lane;

use super::Wan;

const RTT: Duration = Duration::from_millis(120);

fn shape(rtt: Duration, loss: f64) -> LinkShape {
    LinkShape {
        rtt,
        jitter: Duration::ZERO,
        loss,
        reorder: 0.0,
        bandwidth_bits: None,
    }
}

fn regions(cluster: &Cluster) -> [RegionId; 2] {
    [0, 1].map(|index: usize| RegionId::of(&cluster.places[index].region))
}

async fn pair(idle_max: Duration, wan: &Wan) -> (Cluster, TestNode, TestNode) {
    let mut cluster = Cluster::new(&[("a", "eu"), ("b", "us")]);
    cluster.idle_max = idle_max;
    let addresses: BTreeMap<_, _> = cluster
        .places
        .iter()
        .map(|place| (place.address, RegionId::of(&place.region)))
        .collect();
    let start = |cluster: &mut Cluster, index: usize| {
        let place = cluster.places[index].clone();
        let socket = cluster.take_socket(&place);
        let own = RegionId::of(&place.region);
        let socket = wan.socket(socket, own, addresses.clone()).unwrap();
        cluster.start_on(&place, socket)
    };
    let (mut first, mut second) = (start(&mut cluster, 0), start(&mut cluster, 1));
    first.connected(1).await;
    second.connected(1).await;
    (cluster, first, second)
}

#[tokio::test]
async fn link_delays_by_half_its_round_trip() {
    let wan = Wan::new(1);
    let [eu, us] = ["eu", "us"].map(RegionId::of);
    wan.set(eu, us, shape(RTT, 0.0));
    let (_cluster, first, mut second) = pair(Duration::from_secs(3), &wan).await;
    for n in 0..5 {
        let sent = Instant::now();
        first.network.send(second.id, Lane::Control, &small(n));
        second.messages(1).await;
        let took = sent.elapsed();
        assert!(took >= RTT / 2 && took < RTT * 2, "{took:?}");
    }
    assert!(first.network.stats()[0].rtt >= RTT);
}

#[tokio::test]
async fn cut_disconnects_and_healing_connects() {
    let wan = Wan::new(1);
    let [eu, us] = ["eu", "us"].map(RegionId::of);
    wan.set(eu, us, shape(Duration::from_millis(10), 0.0));
    let (cluster, mut first, mut second) = pair(Duration::from_millis(500), &wan).await;
    let [a, b] = regions(&cluster);
    assert!(wan.cut(a, b));
    assert!(wan.links()[0].is_cut);
    first.disconnected().await;
    second.disconnected().await;
    assert!(wan.heal(b, a));
    first.connected(1).await;
    second.connected(1).await;
    second.network.send(first.id, Lane::Fresh, &small(7));
    assert_eq!(first.messages(1).await, [(second.id, small(7))]);
    assert!(!wan.cut(a, RegionId(77)));
}

#[tokio::test]
async fn loss_loses_no_message() {
    let wan = Wan::new(1);
    let [eu, us] = ["eu", "us"].map(RegionId::of);
    wan.set(eu, us, shape(Duration::from_millis(10), 0.01));
    let (_cluster, first, mut second) = pair(Duration::from_secs(3), &wan).await;
    let mut next = 0;
    for round in 0..100 {
        for n in 0..30 {
            let message = small(round * 30 + n);
            first.network.send(second.id, Lane::Fresh, &message);
        }
        for (_, message) in second.messages(30).await {
            assert_eq!(small_id(&message), next);
            next += 1;
        }
    }
    let link = wan.links()[0];
    assert!(link.lost > 0 && link.lost < link.datagrams / 10, "{link:?}");
}
