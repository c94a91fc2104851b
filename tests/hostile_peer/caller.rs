//! A peer with a valid certificate and no manners: it dials a node and writes what it likes to the lanes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::patience::PATIENCE;

/// The tags of all lanes.
pub(crate) const LANES: [u8; 5] = [0, 1, 2, 3, 4];

/// Believes anybody: it is the other side that is tried here.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A caller, and whom it calls.
pub(crate) struct Caller {
    endpoint: Endpoint,
    victim: SocketAddr,
}

impl Caller {
    /// A caller with the certificate of a node.
    pub(crate) fn new(certs: &Path, node: &str, victim: &str) -> Self {
        let provider = Arc::new(ring::default_provider());
        let file = |kind: &str| certs.join(format!("{node}.{kind}"));
        let chain = CertificateDer::pem_file_iter(file("pem")).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
            .with_client_auth_cert(
                chain.map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(file("key")).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"sterna/1".to_vec()];
        let config = QuicClientConfig::try_from(config).unwrap();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(config)));
        Self {
            endpoint,
            victim: victim.parse().unwrap(),
        }
    }

    pub(crate) async fn call(&self) -> Connection {
        let connecting = self.endpoint.connect(self.victim, "sterna").unwrap();
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .unwrap()
            .unwrap()
    }

    /// A connection with lanes of these tags.
    pub(crate) async fn lanes(&self, tags: &[u8]) -> (Connection, Vec<SendStream>) {
        let connection = self.call().await;
        let mut lanes = Vec::new();
        for tag in tags {
            // The node may have closed already.
            let Ok(mut lane) = connection.open_uni().await else {
                break;
            };
            drop(lane.write_all(&[*tag]).await);
            lanes.push(lane);
        }
        (connection, lanes)
    }

    /// Sends bytes on one lane of a new connection, and gives the words with which it is closed; nothing if it stays open
    /// for a while.
    pub(crate) async fn provoke(&self, lane: usize, bytes: &[u8]) -> Option<String> {
        let (connection, mut lanes) = self.lanes(&LANES).await;
        if let Some(lane) = lanes.get_mut(lane) {
            drop(lane.write_all(bytes).await);
        }
        closed(&connection, Duration::from_millis(500)).await
    }
}

/// The words with which a connection is closed; nothing if it stays open for so long.
pub(crate) async fn closed(connection: &Connection, within: Duration) -> Option<String> {
    match tokio::time::timeout(within, connection.closed()).await {
        Ok(ConnectionError::ApplicationClosed(close)) => {
            Some(String::from_utf8_lossy(&close.reason).into_owned())
        }
        Ok(error) => panic!("{error}"),
        Err(_elapsed) => None,
    }
}

/// A plain frame.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..], &[0], payload].concat()
}

/// A compressed frame that says that it unpacks to so many bytes.
pub(crate) fn packed(payload: &[u8], claimed: u32) -> Vec<u8> {
    let packed = zstd::bulk::compress(payload, 1).unwrap();
    let length = u32::try_from(packed.len() + 4).unwrap().to_le_bytes();
    [&length[..], &[1], &claimed.to_le_bytes(), &packed].concat()
}
