//! Names that are derived, never drawn: of alerts, of groups, and of e-mails. The same things have the same names
//! after a restart and on every retry.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use kinetic_wire::{AlertEvent, AnalyticName, ClusterName, CustomerName, ServiceName, Wall};
use sha2::{Digest, Sha256};

use crate::machine::{MailId, Thread};

/// Characters of a customer's name that a Message-ID shows; the whole name is in the hash beside it.
const CUSTOMER_SHOWN_MAX: usize = 16;

/// Whose, by which rule, of which cluster: what one mail speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) customer: CustomerName,
    pub(crate) analytic: AnalyticName,
    pub(crate) service: ServiceName,
    pub(crate) cluster: ClusterName,
}

impl GroupKey {
    pub(crate) fn of(event: &AlertEvent) -> Self {
        Self {
            customer: event.customer.clone(),
            analytic: event.analytic.clone(),
            service: event.service.clone(),
            cluster: event.cluster.clone(),
        }
    }

    /// Before all groups of a customer: nothing has an empty name.
    pub(crate) fn first_of(customer: &CustomerName) -> Self {
        let customer = customer.clone();
        Self { customer, analytic: "".into(), service: "".into(), cluster: "".into() }
    }

    /// Reads what `Display` wrote. Names hold no slash: intake refuses those that do.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let key = Self {
            customer: parts.next()?.into(),
            analytic: parts.next()?.into(),
            service: parts.next()?.into(),
            cluster: parts.next()?.into(),
        };
        parts.next().is_none().then_some(key)
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.customer, self.analytic, self.service, self.cluster)
    }
}

/// One recipient of one alert block: within a group, a correspondence of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamKey {
    /// Name of the alert block.
    pub(crate) alert: Arc<str>,
    /// Mailbox.
    pub(crate) to: Arc<str>,
}

/// An alert within its group: customer, analytic, service, cluster, origin and metric, hashed to 128 bits, so that
/// names of any length cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AlertKey(u128);

impl AlertKey {
    pub(crate) fn of(event: &AlertEvent) -> Self {
        let mut hash = Sha256::new();
        for part in [
            event.customer.as_str(),
            event.analytic.as_str(),
            event.service.as_str(),
            event.cluster.as_str(),
            &event.feed.origin,
            &event.feed.metric,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (head, _) = digest.split_first_chunk().expect("a SHA-256 digest has 32 bytes");
        Self(u128::from_be_bytes(*head))
    }

    /// Reads what `Display` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Derives the ids that stand in mail headers, keyed, so that nobody outside can tell or make them up.
#[derive(Clone, Debug)]
pub(crate) struct MailNames<'a> {
    pub(crate) key: &'a [u8; 32],
    pub(crate) domain: &'a str,
}

impl MailNames<'_> {
    /// First `N` hex digits of the keyed hash over length-prefixed parts.
    fn keyed(&self, digits: usize, parts: &[&str]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let mut hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        hex.truncate(digits);
        hex
    }

    /// The group as one alert block mails it: 16 hex digits.
    pub(crate) fn group16(&self, group: &GroupKey, alert: &str) -> String {
        self.keyed(16, &["group", &group.to_string(), alert])
    }

    /// The recipient as envelope senders name him, so that what bounces says whose mail it was: 16 hex digits.
    pub(crate) fn bounce_token(&self, to: &str) -> String {
        self.keyed(16, &["bounce", to])
    }

    /// `bounces+<token>@<domain>` of the mailbox `bounces@<domain>` (VERP).
    pub(crate) fn envelope_from(&self, bounces: &str, to: &str) -> Option<String> {
        let (local, domain) = bounces.rsplit_once('@')?;
        Some(format!("{local}+{}@{domain}", self.bounce_token(to)))
    }

    fn episode_prefix(&self, group: &GroupKey, thread: &Thread) -> String {
        let customer: String = group
            .customer
            .as_str()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(CUSTOMER_SHOWN_MAX)
            .collect();
        format!("k1.{customer}.{}.{:x}", self.group16(group, &thread.alert), thread.episode.as_ms())
    }

    /// The left part of a mail's Message-ID: `k1.<customer>.<group16>.<episode>.<seq>.<rcpt8>`.
    pub(crate) fn mail(&self, group: &GroupKey, thread: &Thread, to: &str) -> MailId {
        let recipient = self.keyed(8, &["recipient", to]);
        MailId(format!("{}.{}.{recipient}", self.episode_prefix(group, thread), thread.seq))
    }

    /// The left part of a digest's Message-ID: `k1.<customer>.digest.<when>.<rcpt8>`.
    pub(crate) fn digest(&self, customer: &CustomerName, to: &str, at: Wall) -> MailId {
        let shown: String = customer.as_str().chars().take(CUSTOMER_SHOWN_MAX).collect();
        let shown = shown.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let recipient = self.keyed(8, &["digest", customer.as_str(), to]);
        MailId(format!("k1.{shown}.digest.{:x}.{recipient}", at.as_ms()))
    }

    /// The left part of the Message-ID of a test's mail: `k1.<customer>.test.<trace16>.<rcpt8>`.
    pub(crate) fn test(&self, customer: &CustomerName, trace: &str, to: &str) -> MailId {
        let shown: String = customer.as_str().chars().take(CUSTOMER_SHOWN_MAX).collect();
        let shown = shown.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let test = self.keyed(16, &["test", customer.as_str(), trace]);
        let recipient = self.keyed(8, &["recipient", to]);
        MailId(format!("k1.{shown}.test.{test}.{recipient}"))
    }

    /// The Message-ID, without brackets, that all mails of an episode refer to; no mail bears it.
    pub(crate) fn root(&self, group: &GroupKey, thread: &Thread) -> String {
        format!("{}.root@{}", self.episode_prefix(group, thread), self.domain)
    }
}

#[cfg(test)]
mod tests {
    use kinetic_wire::Wall;

    use super::*;

    fn names(key: &[u8; 32]) -> MailNames<'_> {
        MailNames { key, domain: "mail.example" }
    }

    #[test]
    fn a_mail_id_depends_on_each_of_its_parts_and_on_the_key() {
        let group = GroupKey::parse("acme/slow-host/checkout/frontends").unwrap();
        let thread =
            Thread { alert: "team".into(), episode: Wall::from_secs(1), seq: 1, subject: String::new() };
        let (key, other) = ([1; 32], [2; 32]);
        let id = |key, thread: &Thread, to| names(key).mail(&group, thread, to).0;
        let first = id(&key, &thread, "a@acme.example");
        insta::assert_snapshot!(first, @"k1.acme.f6bf4d61bda6e488.3e8.1.2066ac01");
        assert_eq!(first, id(&key, &thread, "a@acme.example"));
        assert_ne!(first, id(&other, &thread, "a@acme.example"));
        assert_ne!(first, id(&key, &thread, "b@acme.example"));
        assert_ne!(first, id(&key, &Thread { seq: 2, ..thread.clone() }, "a@acme.example"));
        assert_ne!(first, id(&key, &Thread { alert: "other".into(), ..thread.clone() }, "a@acme.example"));
        assert_ne!(first, id(&key, &Thread { episode: Wall::from_secs(2), ..thread }, "a@acme.example"));
    }

    #[test]
    fn a_group_key_reads_back() {
        let text = "acme/slow-host/checkout/frontends";
        assert_eq!(GroupKey::parse(text).unwrap().to_string(), text);
        assert_eq!(GroupKey::parse("a/b/c"), None);
        assert_eq!(GroupKey::parse("a/b/c/d/e"), None);
    }
}
