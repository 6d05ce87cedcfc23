//! Hands e-mails to a relay over SMTP, through lettre: one recipient per transaction, connections kept and used again.

#[cfg(test)]
mod script_tests;
mod session;
#[cfg(test)]
mod sink_tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{Attempt, Email, Failed};
use kinetic_schema::schema::{self, MailTls};
use kinetic_wire::Mono;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;

use crate::adapter::dkim::Signer;
use crate::adapter::{clock, file, mime};
use crate::node::host_name;
use session::{Parcel, Session, Way};

/// Connections kept open without work. How many there are at once, the machine bounds (in flight per relay).
const IDLE_MAX: usize = 32;
/// A connection without work for this long is closed: many relays would soon do so themselves.
const IDLE_FOR_MAX: Duration = Duration::from_secs(30);
/// Mails over one connection; many relays end it at a hundred.
const MAILS_PER_CONNECTION_MAX: u32 = 100;

/// A relay, with its open connections.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    way: Arc<Way>,
    signer: Option<Arc<Signer>>,
    idle: Arc<Mutex<Vec<(Mono, Session)>>>,
}

impl Relay {
    /// A relay as the schema describes it; reads the password file, opens no connection yet.
    pub(crate) fn new(declared: &schema::Relay, signer: Option<Arc<Signer>>) -> Result<Self> {
        let [implicit_tls, start_tls] = match declared.tls {
            MailTls::None => [None, None],
            MailTls::StartTls => [None, Some(tls_parameters(declared)?)],
            MailTls::Implicit => [Some(tls_parameters(declared)?), None],
        };
        let mut credentials = None;
        if let Some(username) = &declared.username {
            let path =
                declared.password_file.as_ref().context("the relay has a username and no password_file")?;
            credentials =
                Some(Credentials::new(username.clone(), file::read_secret(path)?.expose().to_owned()));
        }
        let hello = ClientId::Domain(host_name());
        let (host, port) = (declared.host.clone(), declared.port);
        let way = Way { host, port, implicit_tls, start_tls, credentials, hello };
        Ok(Self { way: Arc::new(way), signer, idle: Arc::default() })
    }

    /// One attempt.
    pub(crate) async fn send(&self, email: &Email) -> Attempt {
        let (formed, signer) = (email.clone(), self.signer.clone());
        // Drawing and signing take milliseconds of computing.
        let formed = tokio::task::spawn_blocking(move || mime::formed(&formed, signer.as_deref())).await;
        let mime::Formed { from, to, bytes } = match formed {
            Ok(Ok(formed)) => formed,
            Ok(Err(error)) => {
                return Attempt::Refused { failed: Failed::Message, detail: format!("{error:#}") };
            }
            Err(error) => return Attempt::Retry { failed: Failed::Message, detail: chain(&error) },
        };
        let parcel = Parcel { from: &from, to: &to, message_id: &email.message_id, content: &bytes };
        while let Some(mut session) = self.take_idle() {
            match session.send(parcel).await {
                // It was closed while it had no work, and has seen nothing of the mail.
                Err(stop) if stop.found_closed() => {}
                ended => return self.ended(session, ended).await,
            }
        }
        match Session::open(&self.way).await {
            Ok(mut session) => {
                let ended = session.send(parcel).await;
                self.ended(session, ended).await
            }
            Err(stop) => stop.attempt(),
        }
    }

    /// Keeps a connection that is still good, and says how the transaction went.
    async fn ended(&self, mut session: Session, ended: Result<String, session::Stop>) -> Attempt {
        let good = match &ended {
            Ok(_) => true,
            Err(stop) => stop.leaves_connection() && session.reset().await,
        };
        if good && session.mails < MAILS_PER_CONNECTION_MAX {
            self.keep(session);
        } else if good {
            session.quit().await;
        }
        match ended {
            Ok(detail) => Attempt::Accepted { detail },
            Err(stop) => stop.attempt(),
        }
    }

    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((clock::now().mono, session));
        }
    }

    /// The connection that was used last; those that have had no work for too long are dropped.
    fn take_idle(&self) -> Option<Session> {
        let now = clock::now().mono;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| now.since(*since) < IDLE_FOR_MAX);
        idle.pop().map(|(_, session)| session)
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
        let cause_words = cause.to_string();
        // Some errors name their cause themselves.
        if !text.ends_with(&cause_words) {
            text.push_str(": ");
            text.push_str(&cause_words);
        }
        source = cause.source();
    }
    text
}
