//! Flags of `kinetic broker`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::BadConfig;
use crate::adapter::server_tls::TlsFiles;
use crate::cli::Node;
use crate::shell::broker::Listen;

/// `kinetic broker`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kinetic broker --listen 127.0.0.1:5672 --schema /srv/kinetic/schema --data-dir /var/lib/kinetic-broker
  kinetic broker --listen-tls 0.0.0.0:5671 --tls-certificate broker.pem --tls-key broker.key --tls-client-ca ca.pem \\
                 --schema /srv/kinetic/schema --data-dir /var/lib/kinetic-broker

The other roles log in as `kinetic` on vhost `kinetic`, with the password in DIR/broker-secret.")]
pub(crate) struct Broker {
    /// Where to listen for AMQP without TLS; on anything but loopback only with --allow-plain
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Where to listen for AMQP inside TLS (1.2 and 1.3); the usual port is 5671
    #[arg(long, value_name = "ADDRESS", requires_all = ["tls_certificate", "tls_key"])]
    listen_tls: Option<SocketAddr>,
    /// PEM file of the certificate to show there, with those that lead to its authority behind it. The files may be replaced
    /// while this runs: what is new is shown within a second, and open connections stay
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_certificate: Option<PathBuf>,
    /// PEM file of its private key (mode 600)
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_key: Option<PathBuf>,
    /// PEM file of the authorities of client certificates, for logins by certificate (SASL EXTERNAL)
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    tls_client_ca: Option<PathBuf>,
    /// Allow --listen without TLS for other machines than this: keys and data can be read on the way
    #[arg(long)]
    allow_plain: bool,
    /// The node
    #[command(flatten)]
    pub(crate) node: Node,
}

impl Broker {
    /// Where it is to listen.
    pub(crate) fn listen(&self) -> Result<Listen> {
        let tls = match (self.listen_tls, &self.tls_certificate, &self.tls_key) {
            (Some(listen), Some(certificate), Some(key)) => {
                let files = TlsFiles {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    client_ca: self.tls_client_ca.clone(),
                };
                Some((listen, files))
            }
            _ => None,
        };
        let listen = Listen { plain: self.listen, tls, advertise: Vec::new() }
            .check(self.allow_plain, "--allow-plain");
        Ok(listen.map_err(|error| BadConfig(error.to_string()))?)
    }
}
