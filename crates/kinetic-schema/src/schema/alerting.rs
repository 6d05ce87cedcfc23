//! Who is told of what, when, and by which way: alert blocks, working hours, relays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kinetic_wire::AnalyticName;

use super::{Analytic, Cluster, ClusterPath, Customer, Glob, Severity};

/// How the connection to a relay is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailTls {
    /// STARTTLS or no mail (the default, port 587).
    #[default]
    StartTls,
    /// TLS from the first byte (port 465).
    Implicit,
    /// None; for a relay on this machine.
    None,
}

/// One SMTP relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// What logs and counters call it: `host:port` for the first, its label for a `fallback`.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection.
    pub tls: MailTls,
    /// SMTP AUTH user, with a password file.
    pub username: Option<String>,
    /// File on the alert node that holds the password; the secret itself never stands in the repository.
    pub password_file: Option<PathBuf>,
}

/// How mail is signed (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// `d=`: the domain that answers for the mail.
    pub domain: String,
    /// `s=`: its key's record is `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// File on the alert node with the private key, PEM (PKCS #8 or PKCS #1).
    pub key_file: PathBuf,
}

/// How mail leaves.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Relays in the order in which they are tried; at least one.
    pub relays: Vec<Relay>,
    /// RFC 5322 mailbox of the sender.
    pub from: String,
    /// Signature; without it mail goes out unsigned.
    pub dkim: Option<Dkim>,
    /// Mailbox of which envelope senders are made, `bounces+<token>@<domain>` (VERP), so that what comes back says whose
    /// mail it was. Without it the envelope sender is `from`.
    pub bounces: Option<String>,
    /// `https://host[/path]` under which the alert node's links are reached, without a slash at its end. Without it mails
    /// have no links and no one-click unsubscribe.
    pub public_url: Option<String>,
}

/// Which part of the topology one mail speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupBy {
    /// One analytic on one cluster.
    #[default]
    Cluster,
    /// Everything that the alert block tells of within one service.
    Service,
    /// Everything that it tells of at one site, all services together. What has no site is one group.
    Site,
    /// Everything that it tells of.
    Customer,
}

/// What an alert block tells of, beside its analytics. What is empty leaves nothing out.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// Services, any of these.
    pub services: Vec<Glob>,
    /// Clusters by their own name, any of these.
    pub clusters: Vec<Glob>,
    /// Sites, any of these; what has no site is meant by no glob.
    pub sites: Vec<Glob>,
    /// Severities, any of these.
    pub severities: Vec<Severity>,
    /// Labels, all of these; a label that is not there has no value, and is meant by no glob.
    pub labels: BTreeMap<String, Glob>,
}

impl Matching {
    /// Whether it leaves in what an analytic finds on a cluster, which is the one that `path` names.
    #[must_use]
    pub fn matches(&self, analytic: &Analytic, path: &ClusterPath, cluster: &Cluster) -> bool {
        let any = |globs: &[Glob], name: Option<&str>| {
            globs.is_empty() || name.is_some_and(|name| globs.iter().any(|glob| glob.matches(name)))
        };
        let label = |name: &str| analytic.labels.get(name).or_else(|| cluster.labels.get(name));
        any(&self.services, Some(path.service.as_str()))
            && any(&self.clusters, Some(path.cluster.as_str()))
            && any(&self.sites, cluster.site.as_deref())
            && (self.severities.is_empty() || self.severities.contains(&analytic.severity))
            && self.labels.iter().all(|(name, glob)| label(name).is_some_and(|value| glob.matches(value)))
    }
}

/// A part of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoursSpan {
    /// Days on which it begins; Monday first.
    pub days: [bool; 7],
    /// Minute of the day, local time, at which it begins.
    pub from_min: u16,
    /// Minute of the day at which it has ended, 1 to 1440. No later than `from_min`: it ends on the next day.
    pub to_min: u16,
}

/// Working hours, or those of regular maintenance: parts of the week in one time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Name.
    pub name: String,
    /// IANA time zone, checked against the database that is built in.
    pub time_zone: String,
    /// Its parts; at least one.
    pub spans: Vec<HoursSpan>,
}

/// Who else is told when nobody has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// So long after the episode's first mail was due.
    pub after: Duration,
    /// RFC 5322 mailboxes, checked.
    pub to: Vec<String>,
}

/// What a webhook's body looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Alertmanager's webhook message, version 4, which most receivers take.
    #[default]
    Alertmanager,
    /// `kinetic.notification.v1`, as on `kin.notifications`.
    Kinetic,
}

/// A receiver over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Name within the alert block.
    pub name: String,
    /// `http://` or `https://`, without login.
    pub url: String,
    /// File on the alert node with the key of the `Kinetic-Signature` header (HMAC-SHA-256), or two, one a line, while one is
    /// rotated out; unsigned without one.
    pub secret_file: Option<PathBuf>,
    /// Form of the body.
    pub format: WebhookFormat,
}

/// Who is told of what, and how often.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Name.
    pub name: String,
    /// Its place among the customer's alert blocks: by file name, then by where it stands.
    pub order: u32,
    /// What it tells of; empty: everything.
    pub analytics: Vec<AnalyticName>,
    /// And of that, what matches this.
    pub matching: Matching,
    /// Whether blocks after it are looked at for what it tells of.
    pub continues: bool,
    /// RFC 5322 mailboxes, checked. Empty only where there are webhooks.
    pub to: Vec<String>,
    /// Receivers over HTTP.
    pub webhooks: Vec<Webhook>,
    /// What one mail speaks of.
    pub group_by: GroupBy,
    /// It speaks only in one of these hours; at any time where there are none. What it has to say waits.
    pub during: Vec<Hours>,
    /// It does not speak in these hours.
    pub except: Vec<Hours>,
    /// Who else is told when nobody acknowledges, soonest first.
    pub escalations: Vec<Escalation>,
    /// How long a new group waits for company before its first mail.
    pub group_wait: Duration,
    /// How long a group that has changed waits after its last mail.
    pub group_interval: Duration,
    /// How long until an unchanged, still firing group is mailed again.
    pub repeat_interval: Duration,
    /// Whether the end of an alert is mailed.
    pub send_resolved: bool,
}

impl Alert {
    /// Whether it tells of what an analytic finds on a cluster, if no block before it keeps that to itself.
    #[must_use]
    pub fn tells_of(&self, analytic: &Analytic, path: &ClusterPath, cluster: &Cluster) -> bool {
        (self.analytics.is_empty() || self.analytics.contains(&analytic.name))
            && self.matching.matches(analytic, path, cluster)
    }
}

impl Customer {
    /// Its alert blocks in the order in which they are looked at.
    #[must_use]
    pub fn alerts_in_order(&self) -> Vec<&Alert> {
        let mut alerts: Vec<&Alert> = self.alerts.values().collect();
        alerts.sort_by_key(|alert| alert.order);
        alerts
    }

    /// The blocks that tell of what an analytic finds on a cluster, in their order: all that match, up to and with the
    /// first one that does not continue. None where this customer has no such analytic or cluster.
    #[must_use]
    pub fn told_by(&self, analytic: &AnalyticName, path: &ClusterPath) -> Vec<&Alert> {
        let cluster =
            self.services.get(&path.service).and_then(|service| service.clusters.get(&path.cluster));
        let (Some(analytic), Some(cluster)) = (self.analytics.get(analytic), cluster) else {
            return Vec::new();
        };
        let mut telling = Vec::new();
        for alert in self.alerts_in_order() {
            if alert.tells_of(analytic, path, cluster) {
                telling.push(alert);
                if !alert.continues {
                    break;
                }
            }
        }
        telling
    }
}
