//! Receivers over HTTP: what is posted to them, and how they know whose it is. `docs/alerting-webhooks.md` explains it.

mod alertmanager;

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use kinetic_schema::schema::{self, Schema, WebhookFormat};
use kinetic_wire::{CustomerName, Wall, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::announce;
use crate::id::MailNames;
use crate::machine::{Email, MailId};
use crate::render::Notification;

/// What a webhook's name as a recipient begins with; no mailbox does, since this has no `@`.
const SCHEME: &str = "webhook:";

/// What is posted to a webhook. Its address and its key are the schema's at the moment of the attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Whose webhook.
    pub customer: CustomerName,
    /// Name of the alert block.
    pub alert: String,
    /// Name of the webhook within it.
    pub webhook: String,
    /// JSON; the same bytes on every attempt.
    pub body: String,
}

impl Post {
    /// The webhook that the schema declares by these names.
    #[must_use]
    pub fn declared<'a>(&self, schema: &'a Schema) -> Option<&'a schema::Webhook> {
        let alert = schema.customers.get(&self.customer)?.alerts.get(&self.alert)?;
        alert.webhooks.iter().find(|webhook| webhook.name == self.webhook)
    }
}

/// The value of the header `Kinetic-Signature`: `t=<unix seconds>,v1=<hex>`, the latter the HMAC-SHA-256 of
/// `<unix seconds>.<body>`, once with each secret, so that one may be rotated out while its successor is rolled out.
#[must_use]
pub fn signature<S: AsRef<[u8]>>(secrets: &[S], at: Wall, body: &[u8]) -> String {
    let seconds = at.as_secs();
    let mut value = format!("t={seconds}");
    for secret in secrets {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_ref()).expect("HMAC takes a key of any length");
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        value.push_str(",v1=");
        mac.finalize().into_bytes().iter().for_each(|byte| value.push_str(&format!("{byte:02x}")));
    }
    value
}

/// What a webhook is called among the recipients of its customer.
pub(crate) fn recipient(alert: &str, webhook: &str) -> String {
    format!("{SCHEME}{alert}/{webhook}")
}

/// Whether a recipient is a webhook, not a mailbox.
pub(crate) fn is_webhook(to: &str) -> bool {
    to.starts_with(SCHEME)
}

/// The webhook that a recipient is. Names hold no slash.
pub(crate) fn declared<'a>(
    schema: &'a Schema,
    customer: &CustomerName,
    to: &str,
) -> Option<&'a schema::Webhook> {
    let (alert, name) = to.strip_prefix(SCHEME)?.split_once('/')?;
    let alert = schema.customers.get(customer)?.alerts.get(alert)?;
    alert.webhooks.iter().find(|webhook| webhook.name == name)
}

/// The mailboxes that are told what a webhook is told.
pub(crate) fn beside<'a>(schema: &'a Schema, customer: &CustomerName, to: &str) -> &'a [String] {
    let alert = || {
        let (alert, _) = to.strip_prefix(SCHEME)?.split_once('/')?;
        schema.customers.get(customer)?.alerts.get(alert)
    };
    alert().map(|alert| alert.to.as_slice()).unwrap_or_default()
}

/// 16 hexadecimal digits of a hash over names and values, each with its length.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The whole message to a webhook.
pub(crate) fn message(
    notification: &Notification<'_>,
    names: &MailNames<'_>,
    id: &MailId,
    webhook: &schema::Webhook,
    public_url: Option<&str>,
) -> Email {
    let alert = &notification.thread.alert;
    let body = match webhook.format {
        WebhookFormat::Alertmanager => encode(&alertmanager::message(notification, webhook, public_url)),
        WebhookFormat::Kinetic => encode(&announce::announcement(notification)),
    };
    let body = String::from_utf8(body).expect("JSON is written as UTF-8");
    Email {
        message_id: format!("{}@{}", id.0, names.domain),
        from: String::new(),
        to: recipient(alert, &webhook.name),
        envelope_from: None,
        subject: notification.thread.subject.clone(),
        date: notification.at,
        headers: Vec::new(),
        text: String::new(),
        html: String::new(),
        plot: None,
        post: Some(Post {
            customer: notification.group.customer.clone(),
            alert: alert.clone(),
            webhook: webhook.name.clone(),
            body,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1795176000.{"a":1}' | openssl dgst -sha256 -hmac KEY
        let at = Wall::from_ms(1_795_176_000_999);
        let value = signature(&["old", "new"], at, br#"{"a":1}"#);
        let (old, new) = (
            "1de2198cd69b0283db74f19bb3ab26b8edc2ecaddb1e0ad719f9dafd9da22650",
            "9ac27f9e96a746f674e6e5e5d1c0e34fdcb016330783d1afadf629f4f6ee6090",
        );
        assert_eq!(value, format!("t=1795176000,v1={old},v1={new}"));
        assert_eq!(signature::<&str>(&[], at, b""), "t=1795176000");
    }

    #[test]
    fn a_recipient_is_a_webhook_of_its_block_alone() {
        let to = recipient("team", "pager");
        assert!(is_webhook(&to) && !is_webhook("team/pager@acme.example"));
        let alerts = "alert \"team\" {
            webhook \"chat\" { url = \"https://x.example\" }
            webhook \"pager\" { url = \"https://x.example\" }
        }\n";
        let files = [
            ("kinetic.hcl", "region \"l\" {}\ncustomer \"acme\" { region = region.l }\n"),
            ("customers/acme/alerts.hcl", alerts),
        ];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into();
        let schema = kinetic_schema::load(&files).schema.expect("checks");
        let of = |to: &str| declared(&schema, &"acme".into(), to).map(|webhook| webhook.name.clone());
        assert_eq!(of(&to).as_deref(), Some("pager"));
        assert_eq!(of("webhook:team/other"), None);
        assert_eq!(of("webhook:tea/pager"), None);
        assert_eq!(of("team/pager"), None);
        assert_eq!(of("a@acme.example"), None);
    }
}
