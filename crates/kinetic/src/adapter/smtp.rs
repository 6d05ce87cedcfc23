//! Hands e-mails to a relay over SMTP, through lettre.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{Attempt, Email};
use kinetic_schema::schema::{self, MailTls};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::adapter::dkim::Signer;
use crate::adapter::{file, mime};

/// How long one SMTP command may take; RFC 5321 4.5.3.2 gives relays minutes, an alert would rather try again.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections kept to the relay.
const POOL_SIZE_MAX: u32 = 4;

/// A relay, with its pooled connections.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    signer: Option<Arc<Signer>>,
}

impl Relay {
    /// A relay as the schema describes it; reads the password file, opens no connection yet.
    pub(crate) fn new(declared: &schema::Relay, signer: Option<Arc<Signer>>) -> Result<Self> {
        let tls = match declared.tls {
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(tls_parameters(declared)?),
            MailTls::Implicit => Tls::Wrapper(tls_parameters(declared)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&declared.host)
            .port(declared.port)
            .timeout(Some(COMMAND_TIMEOUT))
            .pool_config(lettre::transport::smtp::PoolConfig::new().max_size(POOL_SIZE_MAX))
            .tls(tls);
        if let Some(username) = &declared.username {
            let path =
                declared.password_file.as_ref().context("the relay has a username and no password_file")?;
            builder = builder.credentials(Credentials::new(username.clone(), file::read_secret(path)?));
        }
        Ok(Self { transport: builder.build(), signer })
    }

    /// One attempt.
    pub(crate) async fn send(&self, email: &Email) -> Attempt {
        let (email, signer) = (email.clone(), self.signer.clone());
        // Drawing and signing take milliseconds of computing.
        let formed = tokio::task::spawn_blocking(move || mime::formed(&email, signer.as_deref())).await;
        let mime::Formed { envelope, bytes } = match formed {
            Ok(Ok(formed)) => formed,
            Ok(Err(error)) => return Attempt::Refused { detail: format!("{error:#}") },
            Err(error) => return Attempt::Retry { detail: chain(&error) },
        };
        match self.transport.send_raw(&envelope, &bytes).await {
            Ok(response) => {
                let words: Vec<&str> = response.message().collect();
                Attempt::Accepted { detail: format!("{} {}", response.code(), words.join(" ")) }
            }
            Err(error) if error.is_permanent() => Attempt::Refused { detail: chain(&error) },
            Err(error) => Attempt::Retry { detail: chain(&error) },
        }
    }
}

fn tls_parameters(declared: &schema::Relay) -> Result<TlsParameters> {
    TlsParameters::new(declared.host.clone())
        .with_context(|| format!("cannot set up TLS for the relay {}", declared.host))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
