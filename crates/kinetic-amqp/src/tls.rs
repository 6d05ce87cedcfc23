//! TLS towards a broker: whom we trust, and the certificate that we show. Files are read at every connect, so that what was
//! renewed is used at once.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::{Address, AmqpError};

/// Files of a client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM: the certificate, then those that lead from it to its authority.
    pub cert_file: PathBuf,
    /// PEM: its private key, in a file that only its owner may read.
    pub key_file: PathBuf,
}

/// An identity as its files were when it was read.
pub struct Shown {
    identity: Identity,
    stamps: [Stamp; 2],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    login: String,
    expires_s: i64,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("login", &self.login).field("expires_s", &self.expires_s).finish()
    }
}

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// [`AmqpError::Certificate`] where one cannot be read, the key's may be read by others, or the certificate does not
    /// name exactly one login.
    pub fn read(&self) -> Result<Shown, AmqpError> {
        // Stamps first: what changes while we read looks renewed afterwards.
        let stamps = [self.stamp(&self.cert_file)?, self.stamp(&self.key_file)?];
        if stamps[1].mode & 0o077 != 0 {
            return Err(refused(
                &self.key_file,
                &format!(
                    "holds a key and others can read it (mode {:03o}): chmod 600 it",
                    stamps[1].mode & 0o777
                ),
            ));
        }
        let pem = read(&self.cert_file)?;
        let chain = certificates(&self.cert_file, &pem)?;
        let pem = Zeroizing::new(read(&self.key_file)?);
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| refused(&self.key_file, &format!("holds no private key ({error})")))?;
        let (login, expires_s) = subject(&chain[0]).map_err(|problem| refused(&self.cert_file, &problem))?;
        Ok(Shown { identity: self.clone(), stamps, chain, key, login, expires_s })
    }

    fn stamp(&self, path: &Path) -> Result<Stamp, AmqpError> {
        std::fs::metadata(path)
            .map(|metadata| Stamp::of(&metadata))
            .map_err(|error| refused(path, &format!("cannot be read: {error}")))
    }
}

impl Shown {
    /// The login: the certificate's common name.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The first second at which the certificate is good no more, since the Unix epoch.
    #[must_use]
    pub fn expires_s(&self) -> i64 {
        self.expires_s
    }

    /// Whether the files hold something else by now. One that is gone for the moment is on its way.
    pub(crate) fn is_outdated(&self) -> bool {
        let Identity { cert_file, key_file } = &self.identity;
        match (self.identity.stamp(cert_file), self.identity.stamp(key_file)) {
            (Ok(cert), Ok(key)) => [cert, key] != self.stamps,
            _ => false,
        }
    }
}

/// By what it shows that a file was replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    mode: u32,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.permissions().mode(),
        }
    }
}

/// What a connection over TLS is made with: TLS 1.2 or 1.3, by ring.
pub(crate) struct Tls {
    pub(crate) connector: RustlsConnector,
    pub(crate) shown: Option<Shown>,
}

impl Tls {
    pub(crate) fn prepare(address: &Address) -> Result<Self, AmqpError> {
        let roots = roots(address.ca_file.as_deref())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has the suites of both versions")
            .with_root_certificates(roots);
        let shown = match &address.identity {
            Some(identity) => Some(identity.read()?),
            None => None,
        };
        let config = match &shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
                .map_err(|error| {
                    refused(&shown.identity.cert_file, &format!("does not go with its key ({error})"))
                })?,
        };
        Ok(Self { connector: config.into(), shown })
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, AmqpError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path, &read(path)?)? {
                roots.add(certificate).map_err(|error| {
                    refused(path, &format!("holds what is no certificate authority ({error})"))
                })?;
            }
        }
        None => {
            // Not all that systems ship can be read; some do not ship any.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let problem =
                    "this system trusts no certificate authority: name one with --ca-file".to_owned();
                return Err(AmqpError::Certificate { problem });
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AmqpError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(refused(path, "holds no certificate in PEM")),
        Err(error) => Err(refused(path, &format!("cannot be read as PEM ({error})"))),
    }
}

/// The common name and the end of a certificate.
fn subject(der: &CertificateDer<'_>) -> Result<(String, i64), String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("holds no X.509 certificate ({error})"))?;
    let mut names = certificate.subject().iter_common_name().map(|name| name.as_str());
    match (names.next(), names.next()) {
        (Some(Ok(name)), None) if !name.is_empty() => {
            Ok((name.to_owned(), certificate.validity().not_after.timestamp()))
        }
        _ => Err("names no login: its subject needs one common name".to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "three small files a connect, with their path in every error")]
fn read(path: &Path) -> Result<Vec<u8>, AmqpError> {
    std::fs::read(path).map_err(|error| refused(path, &format!("cannot be read: {error}")))
}

fn refused(path: &Path, problem: &str) -> AmqpError {
    AmqpError::Certificate { problem: format!("{} {problem}", path.display()) }
}
