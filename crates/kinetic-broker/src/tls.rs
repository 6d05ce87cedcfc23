//! TLS on a listener: the handshake, and whose certificate the client has shown.

use crate::entrance::Peer;
use crate::server::Shared;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::parse_x509_certificate;

/// A listener that speaks AMQP inside TLS alone.
#[derive(Debug, Clone)]
pub struct TlsListen {
    /// Address to listen on; port 0 lets the system choose (see `Broker::tls_addr`).
    pub listen: SocketAddr,
    /// Certificate, key, versions and what is asked of clients. One that verifies client certificates and does not insist
    /// on them lets those who show one log in with SASL EXTERNAL, and the others with a password.
    pub config: Arc<ServerConfig>,
}

/// Leads a client through the handshake of TLS; `None` when it fails or takes too long.
pub(crate) async fn accept(
    shared: &Shared,
    config: Arc<ServerConfig>,
    (stream, from): (TcpStream, SocketAddr),
) -> Option<TlsStream<TcpStream>> {
    let limit = Duration::from_millis(shared.config.handshake_ms);
    let failed = match tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "not in time".to_owned(),
    };
    tracing::info!(%from, error = failed, "TLS handshake failed");
    shared.count(|stats| stats.refused.tls += 1);
    None
}

/// What the client's certificate says, if it showed one.
pub(crate) fn peer(stream: &TlsStream<TcpStream>) -> Option<Peer> {
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    Some(Peer { common_name: common_name(leaf), sha256: Sha256::digest(leaf).into() })
}

/// The subject's common name, if it has exactly one.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.distinguished_name.push(DnType::OrganizationName, "of no interest");
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signs").der().to_vec()
    }

    #[test]
    fn the_common_name_is_the_only_one() {
        assert_eq!(common_name(&certificate(&["acme.host-7"])).as_deref(), Some("acme.host-7"));
        assert_eq!(common_name(&certificate(&[])), None);
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_no_trouble(at in 0usize..300, value in any::<u8>(), cut in 0usize..300) {
            let mut bytes = certificate(&["acme.host-7"]);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            drop(common_name(&bytes));
        }
    }
}
