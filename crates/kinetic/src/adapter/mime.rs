//! The form in which a relay gets an e-mail: MIME, with the picture drawn and the signature made.

use std::time::Duration;

use anyhow::{Context, Result};
use kinetic_alert::Email;
use kinetic_plot::{Plot, Theme};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

use crate::adapter::dkim::Signer;

/// What goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Formed {
    /// Who hears of it if it cannot be delivered.
    pub(crate) from: Address,
    /// The recipient.
    pub(crate) to: Address,
    /// The message.
    pub(crate) bytes: Vec<u8>,
}

/// The whole message. Drawing takes milliseconds: call it where that blocks nobody.
pub(crate) fn formed(email: &Email, signer: Option<&Signer>) -> Result<Formed> {
    let message = message(email)?;
    let mut bytes = message.formatted();
    if let Some(signer) = signer {
        bytes = signer.sign(&bytes, sent_at(email))?;
    }
    let from = address(email.envelope_from.as_deref().unwrap_or(&email.from))?;
    Ok(Formed { from, to: address(&email.to)?, bytes })
}

/// The address within a mailbox.
fn address(mailbox: &str) -> Result<Address> {
    let parsed: Mailbox = mailbox.parse().with_context(|| format!("`{mailbox}` is no mailbox"))?;
    Ok(parsed.email)
}

fn sent_at(email: &Email) -> u64 {
    u64::try_from(email.date.as_secs()).unwrap_or_default()
}

/// Text and HTML as alternatives, the picture beside the HTML.
fn message(email: &Email) -> Result<Message> {
    let mut builder = Message::builder()
        .message_id(Some(format!("<{}>", email.message_id)))
        .date(std::time::UNIX_EPOCH + Duration::from_secs(sent_at(email)))
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
    let alternatives = MultiPart::alternative().singlepart(text);
    let whole = match email.plot.as_ref().and_then(picture) {
        None => alternatives.singlepart(html),
        Some(png) => {
            let kind = ContentType::parse("image/png").context("image/png is a content type")?;
            let picture = Attachment::new_inline(email.picture_id()).body(png, kind);
            alternatives.multipart(MultiPart::related().singlepart(html).singlepart(picture))
        }
    };
    builder.multipart(whole).context("cannot build the message")
}

/// The picture in pixels. A mail without its picture is better than none: the words stand in its place.
pub(crate) fn picture(plot: &Plot) -> Option<Vec<u8>> {
    let drawn = kinetic_plot::png::png(&kinetic_plot::svg(plot, Theme::Light));
    drawn.map_err(|error| tracing::warn!(%error, "a mail goes without its picture")).ok()
}

#[cfg(test)]
mod tests;
