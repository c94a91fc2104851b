//! Making certificates: a CA for a cluster, and certificates of its nodes, as PEM text. No files, no clock.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::GeneralName;

use crate::model::Duration;

use super::identity::PeerName;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A CA outlives its cluster: replacing it means a new certificate for every node at once.
const CA_DAYS: u32 = 20 * 365;
/// Longest life of a node's certificate, in days.
const NODE_DAYS_MAX: u32 = 10 * 365;
/// Longest name: a label of a DNS name.
const NAME_BYTES_MAX: usize = 63;

/// A certificate and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM: not for other eyes.
    pub key: String,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").finish_non_exhaustive()
    }
}

/// Why a certificate was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertError {
    /// A name that cannot stand in a certificate.
    #[error("`{name}` cannot be a {what}'s name: use 1 to 63 letters, digits, `-` or `_`")]
    Name {
        /// Cluster, region or node.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Too long a life, or none.
    #[error("{days} days: a node's certificate lives from 1 to {NODE_DAYS_MAX} days")]
    Days {
        /// The days asked for.
        days: u32,
    },
    /// The CA is not one that `make_ca` made for this cluster.
    #[error(
        "this CA is {found}, not the CA of cluster `{cluster}`: use the folder of that cluster's CA"
    )]
    OtherCluster {
        /// The cluster asked for.
        cluster: String,
        /// Whose CA it is.
        found: String,
    },
    /// The CA's certificate or key cannot be read, or signing failed.
    #[error("sign the certificate: {why}")]
    Sign {
        /// What the library said.
        why: String,
    },
}

impl From<rcgen::Error> for CertError {
    fn from(error: rcgen::Error) -> Self {
        Self::Sign {
            why: error.to_string(),
        }
    }
}

/// A new CA for a cluster, with an Ed25519 key.
pub fn make_ca(now: SystemTime, cluster: &str) -> Result<Pem, CertError> {
    check_name("cluster", cluster)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * CA_DAYS).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Sterna CA of {cluster}"));
    params.subject_alt_names = vec![SanType::URI(ca_uri(cluster).as_str().try_into()?)];
    Ok(Pem {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// A new certificate for a node, with an Ed25519 key of its own, signed by its cluster's CA.
/// It serves both ends of a connection, from a day before `now` until `days` after it.
pub fn make_node(now: SystemTime, ca: &Pem, name: &PeerName, days: u32) -> Result<Pem, CertError> {
    check_name("cluster", &name.cluster)?;
    check_name("region", &name.region)?;
    check_name("node", &name.node)?;
    if days == 0 || days > NODE_DAYS_MAX {
        return Err(CertError::Days { days });
    }
    check_ca(&ca.certificate, &name.cluster)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, name.node.as_str());
    let dns = format!("{}.{}.{}.sterna", name.node, name.region, name.cluster);
    params.subject_alt_names = vec![
        SanType::URI(name.to_string().as_str().try_into()?),
        SanType::DnsName(dns.as_str().try_into()?),
    ];
    Ok(Pem {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn ca_uri(cluster: &str) -> String {
    format!("sterna://{cluster}")
}

fn check_name(what: &'static str, name: &str) -> Result<(), CertError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(CertError::Name {
            what,
            name: name.to_owned(),
        })
    }
}

fn check_ca(certificate: &str, cluster: &str) -> Result<(), CertError> {
    let found = ca_cluster(certificate).unwrap_or_else(|| "not one of Sterna's".to_owned());
    if found == ca_uri(cluster) {
        Ok(())
    } else {
        Err(CertError::OtherCluster {
            cluster: cluster.to_owned(),
            found,
        })
    }
}

fn ca_cluster(certificate: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        if let GeneralName::URI(uri) = name {
            Some((*uri).to_owned())
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::net::Identity;

    use super::*;

    fn name(cluster: &str) -> PeerName {
        PeerName {
            cluster: cluster.to_owned(),
            region: "eu".to_owned(),
            node: "eu-1".to_owned(),
        }
    }

    #[test]
    fn node_certificate_says_its_names() {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let ca = make_ca(now, "demo").unwrap();
        let node = make_node(now, &ca, &name("demo"), 30).unwrap();
        let identity = Identity::from_pem(&ca.certificate, &node.certificate, &node.key).unwrap();
        assert_eq!(identity.name(), &name("demo"));
    }

    #[test]
    fn bad_wishes_are_refused() {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let ca = make_ca(now, "demo").unwrap();
        assert!(matches!(make_ca(now, "a/b"), Err(CertError::Name { .. })));
        assert!(matches!(
            make_node(now, &ca, &name("other"), 30),
            Err(CertError::OtherCluster { .. })
        ));
        assert_eq!(
            make_node(now, &ca, &name("demo"), 0),
            Err(CertError::Days { days: 0 })
        );
    }
}
