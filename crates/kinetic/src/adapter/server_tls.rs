//! What a listener for TLS shows and asks for, from PEM files that may be replaced while it listens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::parse_x509_certificate;

use crate::adapter::file;

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// PEM: the server's certificate, then those that lead from it to its authority.
    pub(crate) certificate: PathBuf,
    /// PEM: its private key, readable by its owner alone.
    pub(crate) key: PathBuf,
    /// PEM: the authorities of client certificates; without them nobody is asked for one.
    pub(crate) client_ca: Option<PathBuf>,
}

/// What the files held.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    /// For the listener.
    pub(crate) config: Arc<ServerConfig>,
    /// The end of the server's certificate, seconds since the Unix epoch.
    pub(crate) expires_s: i64,
}

/// How a file was when it was looked at: when it changed, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

impl TlsFiles {
    /// Reads and checks all of them: TLS 1.2 and 1.3, client certificates of the authorities named and none other, no
    /// resumption (connections are few and long).
    pub(crate) fn read(&self) -> Result<ServerTls> {
        let chain = certificates(&self.certificate)?;
        let (_, leaf) = parse_x509_certificate(chain.first().context("a chain is never empty")?)
            .with_context(|| format!("{} holds no X.509 certificate", self.certificate.display()))?;
        let expires_s = leaf.validity().not_after.timestamp();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).with_context(|| {
                        format!("{} holds what is no certificate authority", path.display())
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let text = file::read_secret_text(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            // Its error might quote what it has read.
            anyhow::anyhow!("{} holds no private key in PEM", self.key.display())
        })?;
        let mut config = builder.with_single_cert(chain, key).with_context(|| {
            format!("{} and {} do not go together", self.certificate.display(), self.key.display())
        })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ServerTls { config: Arc::new(config), expires_s })
    }

    fn stamps(&self) -> [Stamp; 3] {
        let stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        [stamp(&self.certificate), stamp(&self.key), self.client_ca.as_deref().and_then(stamp)]
    }
}

/// Files that are read again when they change.
#[derive(Debug)]
pub(crate) struct Watched {
    files: TlsFiles,
    stamps: [Stamp; 3],
    /// What is in force.
    pub(crate) current: ServerTls,
}

impl Watched {
    /// Reads them for the first time.
    pub(crate) fn open(files: TlsFiles) -> Result<Self> {
        // Stamps first: what changes while we read looks changed afterwards.
        let stamps = files.stamps();
        let current = files.read()?;
        Ok(Self { files, stamps, current })
    }

    /// What is new in them, once. Files that do not go together stay out of force, and are told of once: the second of two
    /// is often written a moment after the first.
    pub(crate) fn changed(&mut self) -> Option<Result<ServerTls>> {
        let stamps = self.files.stamps();
        if stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        Some(self.files.read().inspect(|new| self.current = new.clone()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = file::read_text(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} cannot be read as PEM", path.display()))?;
    if chain.is_empty() {
        bail!("{} holds no certificate in PEM", path.display());
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::PermissionsExt;

    fn write(files: &TlsFiles, (certificate, key): (&str, &str), mode: u32) {
        file::write_atomically(&files.certificate, certificate.as_bytes()).expect("writes");
        file::write_atomically(&files.key, key.as_bytes()).expect("writes");
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).expect("changes the mode");
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
    }

    fn files(dir: &Path) -> TlsFiles {
        TlsFiles { certificate: dir.join("chain.pem"), key: dir.join("key.pem"), client_ca: None }
    }

    #[test]
    fn files_are_checked_and_read_again_when_they_change() {
        let dir = tempfile::tempdir().expect("tempdir");
        let files = files(dir.path());
        let error = |files: &TlsFiles| format!("{:#}", Watched::open(files.clone()).expect_err("refused"));
        assert!(error(&files).contains("chain.pem"));
        let (one, other) = (pair(), pair());
        write(&files, (&one.0, &one.1), 0o644);
        assert!(error(&files).contains("chmod 600"), "{}", error(&files));
        write(&files, (&one.0, &other.1), 0o600);
        assert!(error(&files).contains("do not go together"), "{}", error(&files));
        write(&files, (&one.0, "no key"), 0o600);
        assert!(!error(&files).contains("no key\n") && error(&files).contains("no private key"));
        write(&files, (&one.0, &one.1), 0o600);
        let ca = TlsFiles { client_ca: Some(dir.path().join("none.pem")), ..files.clone() };
        assert!(error(&ca).contains("none.pem"));
        let mut watched = Watched::open(files.clone()).expect("good");
        assert!(watched.changed().is_none());
        file::write_atomically(&files.certificate, format!("{}\n", other.0).as_bytes()).expect("writes");
        assert!(watched.changed().expect("has changed").is_err(), "half of a pair");
        assert!(watched.changed().is_none(), "told once");
        write(&files, (&format!("{}\n", other.0), &format!("{}\n", other.1)), 0o600);
        let new = watched.changed().expect("has changed").expect("the other half");
        assert!(Arc::ptr_eq(&new.config, &watched.current.config));
        assert!(new.expires_s > 0);
    }
}
