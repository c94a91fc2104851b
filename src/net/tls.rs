//! Mutual TLS 1.3: what a peer's certificate must be and say, on both sides of a connection.
//!
//! The chain is checked by webpki against the cluster's own CA; then the names in it against the cluster,
//! the nodes we know with their regions, and, when we dialled, the one node we dialled. There is no
//! resumption, so no connection escapes these checks, and no 0-RTT data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};

use crate::model::NodeId;

use super::config::PeerInfo;
use super::identity::{Identity, PeerName};

/// What both sides must agree to speak.
const ALPN: &[u8] = b"sterna/1";

/// Why a peer's certificate was refused, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "its certificate is not valid under this cluster's CA ({why}): make it anew with `sterna cert node` in the folder of this cluster's CA"
    )]
    Chain { why: String },
    #[error("its certificate does not name a node: make it with `sterna cert node`")]
    Unnamed,
    #[error(
        "its certificate {name} is of another cluster than `{cluster}`: check its address in the topology, or its certificate"
    )]
    Cluster { name: PeerName, cluster: String },
    #[error(
        "its certificate {name} names a node that this node's topology does not: add it to the topology, or check the certificate"
    )]
    Unknown { name: PeerName },
    #[error(
        "its certificate {name} names another region than the topology, which has this node in `{region}`: make the certificate anew"
    )]
    Region { name: PeerName, region: String },
    #[error(
        "its certificate {name} is not that of `{expected}`, which was dialled: check the address of `{expected}` in the topology"
    )]
    OtherNode { name: PeerName, expected: String },
}

/// The nodes whose certificates are accepted.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) cluster: String,
    pub(super) peers: BTreeMap<NodeId, PeerInfo>,
}

impl Known {
    /// Which known node a certificate names. The chain is checked elsewhere.
    pub(super) fn identify(&self, certificate: &CertificateDer<'_>) -> Result<NodeId, Refused> {
        let name = PeerName::of(certificate).ok_or(Refused::Unnamed)?;
        if name.cluster != self.cluster {
            return Err(Refused::Cluster {
                name,
                cluster: self.cluster.clone(),
            });
        }
        let node = NodeId::of(&name.node);
        match self.peers.get(&node) {
            Some(peer) if peer.name == name.node => {
                if peer.region == name.region {
                    Ok(node)
                } else {
                    let region = peer.region.clone();
                    Err(Refused::Region { name, region })
                }
            }
            Some(_) | None => Err(Refused::Unknown { name }),
        }
    }

    fn is_node(&self, certificate: &CertificateDer<'_>, expected: NodeId) -> Result<(), Refused> {
        if self.identify(certificate)? == expected {
            return Ok(());
        }
        let name = PeerName::of(certificate).ok_or(Refused::Unnamed)?;
        let expected = self.peers.get(&expected);
        Err(Refused::OtherNode {
            name,
            expected: expected.map_or_else(String::new, |peer| peer.name.clone()),
        })
    }
}

/// An identity with the nodes it accepts, made into TLS configurations.
pub(super) struct Tls {
    identity: Identity,
    known: Arc<Known>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    server: Arc<QuicServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.identity.name();
        f.debug_struct("Tls")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(identity: Identity, known: Arc<Known>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.ca.clone())?;
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verifier = AcceptVerifier {
            chain,
            known: Arc::clone(&known),
        };
        let server = server_config(&identity, &provider, verifier)?;
        Ok(Self {
            identity,
            known,
            roots,
            provider,
            server,
        })
    }

    /// For connections that we accept.
    pub(super) fn server(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.server)
    }

    /// For a connection to one node.
    pub(super) fn client(&self, node: NodeId) -> Result<Arc<QuicClientConfig>, rustls::Error> {
        let verifier = Arc::new(DialVerifier {
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
            known: Arc::clone(&self.known),
            node,
        });
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.identity.chain.clone(), self.identity.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let config = QuicClientConfig::try_from(config)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Arc::new(config))
    }
}

fn server_config(
    identity: &Identity,
    provider: &Arc<CryptoProvider>,
    verifier: AcceptVerifier,
) -> Result<Arc<QuicServerConfig>, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let config = QuicServerConfig::try_from(config)
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(Arc::new(config))
}

fn refuse(refused: Refused) -> rustls::Error {
    // Of all kinds of error only this one is shown in its own words, here and at the peer.
    rustls::Error::Other(OtherError(Arc::new(refused)))
}

fn refuse_chain(error: &rustls::Error) -> rustls::Error {
    refuse(Refused::Chain {
        why: error.to_string(),
    })
}

/// Checks who dials us.
struct AcceptVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    known: Arc<Known>,
}

impl fmt::Debug for AcceptVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptVerifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AcceptVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| refuse_chain(&error))?;
        self.known.identify(end_entity).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Checks whom we dialled. The name to be is a node's, not a host's, so the host name plays no part.
#[derive(Debug)]
struct DialVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    known: Arc<Known>,
    node: NodeId,
}

impl ServerCertVerifier for DialVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
        .map_err(|error| refuse_chain(&error))?;
        self.known.is_node(end_entity, self.node).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
