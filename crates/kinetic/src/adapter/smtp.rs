//! Hands e-mails to a relay over SMTP, through lettre.

use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::machine::{Attempt, Email};
use kinetic_schema::schema::{self, MailTls};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::adapter::file;

/// How long one SMTP command may take; RFC 5321 4.5.3.2 gives relays minutes, an alert would rather try again.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections kept to the relay.
const POOL_SIZE_MAX: u32 = 4;

/// A relay, with its pooled connections.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl Relay {
    /// A relay as the schema describes it; reads the password file, opens no connection yet.
    pub(crate) fn new(declared: &schema::Relay) -> Result<Self> {
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
        Ok(Self { transport: builder.build() })
    }

    /// One attempt.
    pub(crate) async fn send(&self, email: &Email) -> Attempt {
        let message = match message(email) {
            Ok(message) => message,
            Err(error) => return Attempt::Refused { detail: format!("{error:#}") },
        };
        match self.transport.send(message).await {
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
