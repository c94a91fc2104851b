//! QUIC's own settings: windows, timeouts, congestion control, datagram sizes; and the UDP socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{
    AsyncUdpSocket, IdleTimeout, MtuDiscoveryConfig, Runtime, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};

use crate::model::Duration;
use crate::protocol::Lane;

use super::Identity;

/// What one lane may have under way: 150 ms at 55 MB/s.
const STREAM_WINDOW: u32 = 8 << 20;
const LANES: u32 = 5;
const _: () = assert!(Lane::ALL.len() == 5);
/// Of a whole connection, in each direction. Invariant: as much as all lanes together, so that one that is
/// full leaves the others theirs.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * LANES;
/// A full UDP socket buffer drops datagrams; a long fat link delivers them in bursts.
const SOCKET_BUFFER: usize = 4 << 20;
/// Longest datagram to peers nearby. QUIC hands the kernel up to ten datagrams at once, 64 KiB at most.
const NEAR_DATAGRAM_MAX: u16 = 6500;
/// A keep-alive is lost now and then: so many fit in the idle timeout.
const KEEP_ALIVES_PER_IDLE: u32 = 5;

/// How far away a peer is, for the sake of QUIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Distance {
    /// On this machine, and in this region: long datagrams from the start.
    SameMachine,
    /// In this region.
    SameRegion,
    /// In another region: a long fat link.
    Remote,
}

impl Distance {
    pub(super) fn of(address: SocketAddr, is_remote: bool) -> Self {
        if is_remote {
            Self::Remote
        } else if address.ip().to_canonical().is_loopback() {
            Self::SameMachine
        } else {
            Self::SameRegion
        }
    }
}

/// Settings for connections over this distance.
pub(super) fn transport(distance: Distance, idle_max: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(LANES))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_idle_timeout(IdleTimeout::try_from(idle_max).ok())
        .keep_alive_interval(Some(idle_max / KEEP_ALIVES_PER_IDLE));
    let mut discovery = MtuDiscoveryConfig::default();
    match distance {
        Distance::SameMachine => {
            config
                .initial_mtu(NEAR_DATAGRAM_MAX)
                .initial_rtt(Duration::from_millis(20))
                .mtu_discovery_config(None)
                .congestion_controller_factory(near_congestion());
        }
        Distance::SameRegion => {
            discovery.upper_bound(NEAR_DATAGRAM_MAX);
            config
                .initial_rtt(Duration::from_millis(20))
                .mtu_discovery_config(Some(discovery))
                .congestion_controller_factory(near_congestion());
        }
        Distance::Remote => {
            config
                .initial_rtt(Duration::from_millis(150))
                .mtu_discovery_config(Some(discovery))
                .congestion_controller_factory(Arc::new(BbrConfig::default()));
        }
    }
    config
}

fn near_congestion() -> Arc<CubicConfig> {
    let mut cubic = CubicConfig::default();
    cubic.initial_window(256 << 10);
    Arc::new(cubic)
}

/// Longest datagram that this node takes, and with what it refuses those of connections that it does not know.
///
/// After a crash peers go on sending on connections that the process before had. They believe that these are over only if
/// they are told so with its key (RFC 9000, section 10.3), else they wait until they time out. So the key outlives the
/// process: it comes out of the node's own.
pub(super) fn endpoint(identity: &Identity) -> quinn::EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key.secret_der());
    let derive = |purpose: &[u8]| hmac::sign(&secret, purpose);
    let resets = hmac::Key::new(
        hmac::HMAC_SHA256,
        derive(b"sterna: stateless resets").as_ref(),
    );
    let mut config = quinn::EndpointConfig::new(Arc::new(resets));
    // Only what names a connection as this node does is answered so.
    let names = derive(b"sterna: connection ids");
    let names = names
        .as_ref()
        .first_chunk()
        .map_or(0, |key| u64::from_be_bytes(*key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(names)));
    if let Err(error) = config.max_udp_payload_size(NEAR_DATAGRAM_MAX) {
        tracing::warn!(%error, "datagrams stay short");
    }
    config
}

/// A UDP socket for [`super::Network::start`], with large buffers; port 0 takes a free one.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    for (what, result) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER)),
    ] {
        if let Err(error) = result {
            tracing::warn!(%error, what, "the UDP socket's buffer stays small");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that sends at once, with no emulated link before it. To be called inside a tokio runtime.
pub fn direct(socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    TokioRuntime.wrap_udp_socket(socket)
}
