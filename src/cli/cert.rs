//! `sterna cert init` and `sterna cert node`: certificates as files in a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::net::{CertError, PeerName, Pem, make_ca, make_node};

/// The wall clock, by which certificates are dated.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates are dated at the command line, not in a node's loop"
)]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// Why a command about certificates failed.
#[derive(Debug, thiserror::Error)]
pub enum CertCommandError {
    /// There is a CA already.
    #[error("{} exists: a new CA would make every certificate of the old one void; choose another folder, or remove ca.pem and ca.key first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no CA to sign with.
    #[error("{} is not there: make the cluster's CA first, with `sterna cert init --cluster NAME --certs {}`", path.display(), dir.display())]
    NoCa {
        /// The file.
        path: PathBuf,
        /// Where it is looked for.
        dir: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{deed} {}: {error}", path.display())]
    File {
        /// Read or write.
        deed: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate was not made.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The output is gone.
    #[error("write output: {0}")]
    Output(#[from] io::Error),
}

/// Makes the CA of a cluster: `ca.pem` and `ca.key` in `dir`, which is made if need be. Refuses to replace one.
pub fn cert_init(
    now: SystemTime,
    dir: &Path,
    cluster: &str,
    out: &mut dyn Write,
) -> Result<(), CertCommandError> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    for path in [&certificate, &key] {
        if path.exists() {
            return Err(CertCommandError::Exists { path: path.clone() });
        }
    }
    let ca = make_ca(now, cluster)?;
    fs::create_dir_all(dir).map_err(|error| file_error("create", dir, error))?;
    write_secret(&key, &ca.key)?;
    write_file(&certificate, &ca.certificate)?;
    writeln!(out, "wrote {} (goes to every node)", certificate.display())?;
    writeln!(out, "wrote {} (keep it off the nodes)", key.display())?;
    Ok(())
}

/// Makes or renews a node's certificate: `<node>.pem` and `<node>.key` in `dir`, signed by the CA there.
pub fn cert_node(
    now: SystemTime,
    dir: &Path,
    name: &PeerName,
    days: u32,
    out: &mut dyn Write,
) -> Result<(), CertCommandError> {
    let read = |file: &str| {
        let path = dir.join(file);
        if !path.exists() {
            let dir = dir.to_owned();
            return Err(CertCommandError::NoCa { path, dir });
        }
        fs::read_to_string(&path).map_err(|error| file_error("read", &path, error))
    };
    let ca = Pem {
        certificate: read("ca.pem")?,
        key: read("ca.key")?,
    };
    let pem = make_node(now, &ca, name, days)?;
    let certificate = dir.join(format!("{}.pem", name.node));
    let key = dir.join(format!("{}.key", name.node));
    write_secret(&key, &pem.key)?;
    write_file(&certificate, &pem.certificate)?;
    writeln!(
        out,
        "wrote {} and {} for {name}, {days} days; the node needs both, and ca.pem",
        certificate.display(),
        key.display()
    )?;
    Ok(())
}

fn file_error(deed: &'static str, path: &Path, error: io::Error) -> CertCommandError {
    CertCommandError::File {
        deed,
        path: path.to_owned(),
        error,
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), CertCommandError> {
    fs::write(path, text).map_err(|error| file_error("write", path, error))
}

/// Writes a file that only its owner may read, from its first byte on.
fn write_secret(path: &Path, text: &str) -> Result<(), CertCommandError> {
    let write = || -> io::Result<()> {
        if path.exists() {
            fs::remove_file(path)?;
        }
        create_secret(path)?.write_all(text.as_bytes())
    };
    write().map_err(|error| file_error("write", path, error))
}

fn create_secret(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use crate::net::Identity;
    use crate::net::tests::harness::today;

    use super::*;

    fn name(cluster: &str) -> PeerName {
        PeerName {
            cluster: cluster.to_owned(),
            region: "eu".to_owned(),
            node: "eu-1".to_owned(),
        }
    }

    #[test]
    fn files_make_an_identity_and_keys_are_secret() {
        let dir = tempfile::tempdir().unwrap();
        let (now, mut out) = (today(), Vec::new());
        cert_init(now, dir.path(), "demo", &mut out).unwrap();
        cert_node(now, dir.path(), &name("demo"), 30, &mut out).unwrap();
        cert_node(now, dir.path(), &name("demo"), 60, &mut out).unwrap();
        let identity = Identity::load(dir.path(), "eu-1").unwrap();
        assert_eq!(identity.name(), &name("demo"));
        #[cfg(unix)]
        for key in ["ca.key", "eu-1.key"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(key)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{key}");
        }
        assert!(String::from_utf8(out).unwrap().contains("ca.pem"));
    }

    #[test]
    fn without_a_ca_it_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = cert_node(today(), dir.path(), &name("demo"), 30, &mut Vec::new());
        let words = error.unwrap_err().to_string();
        assert!(words.contains("sterna cert init"), "{words}");
    }

    #[test]
    fn ca_is_not_replaced_and_serves_its_own_cluster_only() {
        let dir = tempfile::tempdir().unwrap();
        let (now, mut out) = (today(), Vec::new());
        cert_init(now, dir.path(), "demo", &mut out).unwrap();
        let again = cert_init(now, dir.path(), "demo", &mut out).unwrap_err();
        assert!(matches!(again, CertCommandError::Exists { .. }), "{again}");
        let other = cert_node(now, dir.path(), &name("other"), 30, &mut out).unwrap_err();
        assert!(other.to_string().contains("other"), "{other}");
    }
}
