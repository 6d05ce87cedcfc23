//! Hands e-mails to a relay over SMTP, through lettre: one recipient per transaction, connections kept and used again.

#[cfg(test)]
mod script_tests;
mod session;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{Attempt, Email, Failed};
use kinetic_schema::schema::{self, MailTls};
use kinetic_wire::Mono;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};

use crate::adapter::{clock, file};
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
    idle: Arc<Mutex<Vec<(Mono, Session)>>>,
}

impl Relay {
    /// A relay as the schema describes it; reads the password file, opens no connection yet.
    pub(crate) fn new(declared: &schema::Relay) -> Result<Self> {
        let [implicit_tls, start_tls] = match declared.tls {
            MailTls::None => [None, None],
            MailTls::StartTls => [None, Some(tls_parameters(declared)?)],
            MailTls::Implicit => [Some(tls_parameters(declared)?), None],
        };
        let mut credentials = None;
        if let Some(username) = &declared.username {
            let path =
                declared.password_file.as_ref().context("the relay has a username and no password_file")?;
            credentials = Some(Credentials::new(username.clone(), file::read_secret(path)?));
        }
        let hello = ClientId::Domain(host_name());
        let (host, port) = (declared.host.clone(), declared.port);
        let way = Way { host, port, implicit_tls, start_tls, credentials, hello };
        Ok(Self { way: Arc::new(way), idle: Arc::default() })
    }

    /// One attempt.
    pub(crate) async fn send(&self, email: &Email) -> Attempt {
        let (from, to, content) = match parcel(email) {
            Ok(parcel) => parcel,
            Err(error) => {
                return Attempt::Refused { failed: Failed::Message, detail: format!("{error:#}") };
            }
        };
        let parcel = Parcel { from: &from, to: &to, message_id: &email.message_id, content: &content };
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

/// Envelope sender, recipient, and the message.
fn parcel(email: &Email) -> Result<(Address, Address, Vec<u8>)> {
    let mailbox = |text: &str| -> Result<Address> {
        let mailbox: Mailbox = text.parse().with_context(|| format!("`{text}` is no mailbox"))?;
        Ok(mailbox.email)
    };
    let from = mailbox(email.envelope_from.as_deref().unwrap_or(&email.from))?;
    Ok((from, mailbox(&email.to)?, message(email)?.formatted()))
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

/// The MIME form of an e-mail: text and HTML as alternatives.
fn message(email: &Email) -> Result<Message> {
    let seconds = u64::try_from(email.date.as_secs()).unwrap_or_default();
    let mut builder = Message::builder()
        .message_id(Some(format!("<{}>", email.message_id)))
        .date(std::time::UNIX_EPOCH + Duration::from_secs(seconds))
        .from(email.from.parse().with_context(|| format!("the sender `{}` is no mailbox", email.from))?)
        .to(email.to.parse().with_context(|| format!("the recipient `{}` is no mailbox", email.to))?)
        .subject(&email.subject);
    for (name, value) in &email.headers {
        let name = HeaderName::new_from_ascii(name.clone())
            .with_context(|| format!("`{name}` is no header name"))?;
        builder = builder.raw_header(HeaderValue::new(name, value.clone()));
    }
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(email.text.clone());
    let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(email.html.clone());
    builder
        .multipart(MultiPart::alternative().singlepart(text).singlepart(html))
        .context("cannot build the message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinetic_wire::Wall;

    #[test]
    fn every_header_arrives_and_the_date_is_utc() {
        let email = Email {
            message_id: "k1.acme.0.1.1.aa@kinetic.example".into(),
            from: "Kinetic <alerts@kinetic.example>".into(),
            to: "oncall@acme.example".into(),
            envelope_from: None,
            subject: "[FIRING] façade".into(),
            date: Wall::from_secs(1_795_159_693),
            headers: vec![("Auto-Submitted".into(), "auto-generated".into())],
            text: "web-7 is slow\n".into(),
            html: "<p>web-7 is slow</p>".into(),
        };
        let text = String::from_utf8(message(&email).expect("builds").formatted()).expect("ascii");
        for line in [
            "Message-ID: <k1.acme.0.1.1.aa@kinetic.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Date: Fri, 20 Nov 2026 07:28:13 +0000\r\n",
            "To: oncall@acme.example\r\n",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
        assert!(text.contains("Subject: [FIRING] =?utf-8?"), "{text}");
    }
}
