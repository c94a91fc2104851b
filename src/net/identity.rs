//! Who a node is: its certificate chain and key, the cluster's CA, and the names inside a certificate.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::GeneralName;

/// The names that a node's certificate carries, as the URI `sterna://<cluster>/<region>/<node>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerName {
    /// The cluster.
    pub cluster: String,
    /// The region.
    pub region: String,
    /// The node.
    pub node: String,
}

/// A node's certificate and key, and the CA that certificates of its cluster are checked against.
#[derive(Debug)]
pub struct Identity {
    pub(super) ca: CertificateDer<'static>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) name: PeerName,
}

/// Why there is no identity: what is wrong with which file, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("read {}: {why}; make it with `sterna cert init` and `sterna cert node`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file or text holds no certificate or key.
    #[error("no PEM {what} in {from}: {why}")]
    Pem {
        /// A certificate or a key.
        what: &'static str,
        /// Whose.
        from: &'static str,
        /// What the parser said.
        why: String,
    },
    /// The certificate does not name a node.
    #[error("the certificate does not name a node (no URI sterna://<cluster>/<region>/<node>)")]
    Unnamed,
}

impl PeerName {
    /// The names in a certificate; nothing if it has no such URI, or more than one.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut ours = names.value.general_names.iter().filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Self::parse(uri)
            } else {
                None
            }
        });
        let name = ours.next()?;
        ours.next().is_none().then_some(name)
    }

    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("sterna://")?.split('/');
        let name = Self {
            cluster: parts.next()?.to_owned(),
            region: parts.next()?.to_owned(),
            node: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(name)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sterna://{}/{}/{}", self.cluster, self.region, self.node)
    }
}

impl Identity {
    /// Reads `ca.pem`, `<node>.pem` and `<node>.key` of a folder. Blocks.
    pub fn load(dir: &Path, node: &str) -> Result<Self, IdentityError> {
        let read = |name: String| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| IdentityError::Read {
                path,
                why: error.to_string(),
            })
        };
        Self::from_pem(
            &read("ca.pem".to_owned())?,
            &read(format!("{node}.pem"))?,
            &read(format!("{node}.key"))?,
        )
    }

    /// Reads PEM text: the CA's certificate, the node's chain (its own certificate first), and its key.
    pub fn from_pem(ca: &str, chain: &str, key: &str) -> Result<Self, IdentityError> {
        let certificates = |text: &str, from| {
            CertificateDer::pem_slice_iter(text.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| pem_error("certificate", from, &error))
        };
        let [ca]: [CertificateDer<'static>; 1] = certificates(ca, "the CA's file")?
            .try_into()
            .map_err(|found: Vec<_>| IdentityError::Pem {
                what: "certificate",
                from: "the CA's file",
                why: format!("{} certificates, not one", found.len()),
            })?;
        let chain = certificates(chain, "the node's certificate file")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| pem_error("key", "the node's key file", &error))?;
        let own = chain.first().ok_or(IdentityError::Unnamed)?;
        let name = PeerName::of(own).ok_or(IdentityError::Unnamed)?;
        Ok(Self {
            ca,
            chain,
            key,
            name,
        })
    }

    /// The names in the certificate.
    pub fn name(&self) -> &PeerName {
        &self.name
    }
}

fn pem_error(
    what: &'static str,
    from: &'static str,
    error: &rustls::pki_types::pem::Error,
) -> IdentityError {
    IdentityError::Pem {
        what,
        from,
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_exactly() {
        let name = PeerName::parse("sterna://c/eu/eu-1").unwrap();
        assert_eq!(name.to_string(), "sterna://c/eu/eu-1");
        for other in ["https://c/eu/eu-1", "sterna://c/eu", "sterna://c/eu/eu-1/x"] {
            assert_eq!(PeerName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn missing_files_and_garbage_are_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = Identity::load(dir.path(), "eu-1").unwrap_err();
        assert!(error.to_string().contains("sterna cert"), "{error}");
        let error = Identity::from_pem("x", "y", "z").unwrap_err();
        assert!(error.to_string().contains("the CA's file"), "{error}");
    }
}
