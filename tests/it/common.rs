//! What several stories say in the same words.

use std::time::Duration;

use kinetic_tests::amqp::Client;
use kinetic_tests::dice::uuid;
use kinetic_tests::smtp::{Mail, SmtpCatcher};
use kinetic_tests::traffic::{HOSTS, wall_now};
use kinetic_tests::{World, steadily};
use kinetic_wire::{AlertEvent, AlertId, AlertState, Direction, Envelope, Epoch, Feed, encode, names};

/// How long a story looks for a second mail that must not come: three times the `group_interval` of the stories.
pub(crate) const QUIET: Duration = Duration::from_secs(3);

/// Whether a mail's first line is about a host.
pub(crate) fn is_about(mail: &Mail, host: &str) -> bool {
    first_line(mail).contains(host)
}

/// The first line of a mail, where the decisive numbers stand.
pub(crate) fn first_line(mail: &Mail) -> String {
    mail.part("text/plain").lines().next().unwrap_or_default().to_owned()
}

/// Makes sure that the mailbox holds this many mails, goes on holding them, and that all of them are about one host.
pub(crate) fn only_mails_about(smtp: &SmtpCatcher, host: &str, count: usize) {
    steadily("no other mail comes", QUIET, || {
        let lines: Vec<String> = smtp.inbox().iter().map(first_line).collect();
        if lines.len() == count { Ok(()) } else { Err(lines) }
    });
    for mail in smtp.inbox() {
        let line = first_line(&mail);
        assert!(line.contains(host), "{line}");
        let others = HOSTS.iter().filter(|other| **other != host);
        others.for_each(|other| assert!(!line.contains(other), "{line}"));
    }
}

/// Says what an analyzer would say, where a story is about what becomes of it.
pub(crate) struct Alerts(Client);

impl Alerts {
    pub(crate) fn of(world: &World) -> Self {
        Self(Client::start(world.control_address()))
    }

    /// A feed of `acme`'s cluster of this name begins to be out of line; each cluster is mailed about by itself.
    pub(crate) fn fire(&self, cluster: &str) {
        let event = firing("acme", cluster, &format!("{cluster}.example"));
        self.0.publish(names::ALERTS, names::ALERTS, &Envelope::default(), &encode(&event));
    }
}

/// What an analyzer says of a feed that begins to be out of line.
pub(crate) fn firing(customer: &str, cluster: &str, origin: &str) -> AlertEvent {
    let now = wall_now().as_ms();
    AlertEvent {
        v: 1,
        id: AlertId(uuid()),
        customer: customer.into(),
        source: "web".into(),
        analytic: "web".into(),
        service: "web".into(),
        cluster: cluster.into(),
        feed: Feed { origin: origin.into(), metric: "latency".into() },
        state: AlertState::Firing,
        window_start_ms: now - 1_000,
        window_end_ms: now,
        since_ms: now,
        numbers: None,
        value_kind: "mean".into(),
        direction: Direction::Above,
        hits: 1,
        of: 5,
        epoch: Epoch(1),
        node: "analyzer-1".into(),
        schema: None,
        traceparent: None,
        trail: None,
        breach: None,
    }
}
