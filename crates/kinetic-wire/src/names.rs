//! Every name on the broker, in one place. `docs/wire.md` explains them.

use crate::{CustomerName, NodeId, SourceKey};

/// The control vhost on a broker that Kinetic has to itself.
pub const CONTROL_VHOST: &str = "kinetic";
/// Direct exchange for requests to the redirector; the routing key is the request's kind (`register`, `locate`, …).
pub const RPC_EXCHANGE: &str = "kin.rpc";
/// The redirector's request queue, single-active-consumer.
pub const RPC_QUEUE: &str = "kin.redirector";
/// Direct exchange and durable queue that carry alert events from analyzers to the alert node.
pub const ALERTS: &str = "kin.alerts";
/// The alert node's request queue, single-active-consumer.
pub const ALERT_QUEUE: &str = "kin.alert";
/// Where alert events go that the alert node refused: kept for people to look at.
pub const ALERTS_DEAD: &str = "kin.alerts.dead";
/// Topic exchange on which the alert node republishes what it notifies; key `<customer>.<analytic>.<state>`.
pub const NOTIFICATIONS_EXCHANGE: &str = "kin.notifications";
/// Fanout exchange that says that the schema repository has a new revision.
pub const SCHEMA_EXCHANGE: &str = "kin.schema";
/// Direct exchange for messages that are nothing we know, or that overflowed a source's queue; the routing key is the customer.
pub const DEAD_EXCHANGE: &str = "kin.dead";
/// Fanout exchange for such of them as no customer has a queue for.
pub const DEAD_OTHERS: &str = "kin.dead.others";
/// Queue behind `DEAD_OTHERS`, bounded, oldest dropped first.
pub const DEAD_QUEUE: &str = "kin.dead";
/// The queue that every redirector answers `locate` from, leader or not.
pub const LOCATE_QUEUE: &str = "kin.locate";
/// Single-active-consumer queue that holds the leader's term and the epochs it may use: who is delivered its message leads.
pub const LEADER_QUEUE: &str = "kin.leader";
/// Fanout exchange on which the leader tells standbys what has changed in the map.
pub const MAP_EXCHANGE: &str = "kin.map";
/// Fanout exchange on which every node says that it lives.
pub const ALIVE_EXCHANGE: &str = "kin.alive";
/// Direct exchange of a region's vhost on which the parts of a split source send their values to its owner; the
/// routing key is the name of the source's queue.
pub const PARTIALS_EXCHANGE: &str = "kin.partials";
/// Topic exchange on which nodes say how far a test event has come; the routing key is its trace id.
pub const TRACE_EXCHANGE: &str = "kin.trace";
/// Name of the service, the cluster and the analytic of a test event. No name of a schema holds an `@`.
pub const TEST: &str = "@test";
/// The pseudo-queue of RabbitMQ's direct reply-to.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Message `type` of alert events.
pub const TYPE_ALERT: &str = "kinetic.alert.v1";
/// Message `type` of what is said on `kin.notifications`.
pub const TYPE_NOTIFICATION: &str = "kinetic.notification.v1";
/// Message `type` of the burst that begins a test event: statsd lines whose tag [`TEST_FEED_TAG`] names the feed. It is judged by
/// itself and never mixes with data.
pub const TYPE_TEST: &str = "kinetic.test.statsd.v1";
/// Tag that names the feed in the lines of a test event.
pub const TEST_FEED_TAG: &str = "feed";
/// Message `type` of what is said of a test event's way.
pub const TYPE_TEST_STAGE: &str = "kinetic.test-stage.v1";
/// Message `type` of the leader's token.
pub const TYPE_TOKEN: &str = "kinetic.token.v1";
/// Message `type` of map changes.
pub const TYPE_MAP_CHANGE: &str = "kinetic.map.v1";
/// Message `type` of signs of life.
pub const TYPE_BEACON: &str = "kinetic.alive.v1";
/// Message `type` of a request to ask again now, pushed to a reply-to address.
pub const TYPE_NUDGE: &str = "kinetic.nudge.v1";
/// Message `type` of the values of one part of a split source.
pub const TYPE_PARTIAL: &str = "kinetic.partial.v1";
/// Message `type` of what an analyzer remembers of a source.
pub const TYPE_SNAPSHOT: &str = "kinetic.snapshot.v1";
/// Message `type` of what an analyzer sends itself through a source's queue, to know that it is what is delivered there.
pub const TYPE_PROBE: &str = "kinetic.probe.v1";
/// Message `type` of schema notices.
pub const TYPE_SCHEMA_NOTICE: &str = "kinetic.schema.v1";

/// Routing keys on `RPC_EXCHANGE`.
pub mod rpc {
    /// An analyzer has booted.
    pub const REGISTER: &str = "register";
    /// An analyzer lives.
    pub const HEARTBEAT: &str = "heartbeat";
    /// An analyzer wants to leave in good order.
    pub const DRAIN: &str = "drain";
    /// An analyzer leaves now.
    pub const GOODBYE: &str = "goodbye";
    /// A client asks where to publish.
    pub const LOCATE: &str = "locate";
    /// Somebody (an operator, a standby redirector) asks who owns what.
    pub const MAP: &str = "map";
    /// An operator wants an analyzer to be relieved of its sources.
    pub const RELIEVE: &str = "relieve";
    /// An operator wants nobody to be told of something for a while.
    pub const SILENCE: &str = "silence";
    /// An operator ends a silence.
    pub const UNSILENCE: &str = "unsilence";
    /// Somebody asks which silences there are.
    pub const SILENCES: &str = "silences";
    /// Somebody takes care of an episode.
    pub const ACKNOWLEDGE: &str = "acknowledge";
    /// Somebody asks what fires.
    pub const EPISODES: &str = "episodes";
    /// Somebody is about to publish a test event.
    pub const TEST_EVENT: &str = "test-event";
    /// A mail has come back.
    pub const BOUNCE: &str = "bounce";
    /// Somebody asks to which addresses nothing is sent.
    pub const SUPPRESSIONS: &str = "suppressions";
    /// An operator says that an address is good again.
    pub const UNSUPPRESS: &str = "unsuppress";
    /// Somebody follows a link of a mail.
    pub const LINK: &str = "link";
    /// Somebody asks who has taken himself off alert blocks.
    pub const UNSUBSCRIBED: &str = "unsubscribed";
    /// An operator puts a recipient back on an alert block.
    pub const SUBSCRIBE: &str = "subscribe";
    /// What only the leader answers, in the order in which its queue is bound.
    pub const LEADER: [&str; 6] = [REGISTER, HEARTBEAT, DRAIN, GOODBYE, MAP, RELIEVE];
    /// What the redirectors answer.
    pub const ALL: [&str; 7] = [REGISTER, HEARTBEAT, DRAIN, GOODBYE, MAP, RELIEVE, LOCATE];
    /// What the alert node answers, in the order in which its queue is bound.
    pub const ALERT: [&str; 12] = [
        SILENCE,
        UNSILENCE,
        SILENCES,
        ACKNOWLEDGE,
        EPISODES,
        TEST_EVENT,
        LINK,
        UNSUBSCRIBED,
        SUBSCRIBE,
        BOUNCE,
        SUPPRESSIONS,
        UNSUPPRESS,
    ];
}

/// What the names of all customers' exchanges begin with, and no others.
pub const INGRESS_PREFIX: &str = "in.";

/// The one exchange that a customer may write to: `in.<customer>` (topic, durable).
#[must_use]
pub fn ingress_exchange(customer: &CustomerName) -> String {
    format!("{INGRESS_PREFIX}{customer}")
}

/// The customer who published a delivery: from the exchange that it was first published to, never from a header.
#[must_use]
pub fn customer_of_exchange(exchange: &str) -> Option<&str> {
    exchange.strip_prefix(INGRESS_PREFIX).filter(|name| !name.is_empty())
}

/// The queue of a source: `src.<customer>.<source>` (durable, bounded, single-active-consumer), with `.<part>` behind it
/// for a part. Names of customers and sources hold no dot.
#[must_use]
pub fn source_queue(source: &SourceKey) -> String {
    with_part(format!("src.{}.{}", source.customer, source.source), source.part)
}

/// The exchange that splits a source over its parts by a hash of the origin: `split.<customer>.<source>`.
#[must_use]
pub fn split_exchange(source: &SourceKey) -> String {
    format!("split.{}.{}", source.customer, source.source)
}

/// The queue that keeps what a source's owner remembers from window to window, in the vhost of the source's queue:
/// `snap.<customer>.<source>` (durable, the last few records), with `.<part>` behind it for a part.
#[must_use]
pub fn snapshot_queue(source: &SourceKey) -> String {
    with_part(format!("snap.{}.{}", source.customer, source.source), source.part)
}

/// The queue from which a customer reads its own notifications, in the control vhost: `out.<customer>` (durable, bounded).
#[must_use]
pub fn notification_queue(customer: &CustomerName) -> String {
    format!("out.{customer}")
}

/// The queue of what a customer sent and nobody could read, or had room for: `dead.<customer>` (durable, bounded, oldest dropped
/// first), in the vhost of its region.
#[must_use]
pub fn dead_queue(customer: &CustomerName) -> String {
    format!("dead.{customer}")
}

/// The queue by which the broker bears witness that a node's connection stands: `kin.witness.<node>`
/// (single-active-consumer, auto-delete). The node holds its one message; who is delivered it instead knows that the node's
/// connection is gone.
#[must_use]
pub fn witness_queue(node: &NodeId) -> String {
    format!("kin.witness.{node}")
}

fn with_part(name: String, part: u16) -> String {
    if part == 0 { name } else { format!("{name}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customer_is_what_the_exchange_says() {
        assert_eq!(customer_of_exchange(&ingress_exchange(&"acme".into())), Some("acme"));
        assert_eq!(customer_of_exchange("in."), None);
        assert_eq!(customer_of_exchange("amq.topic"), None);
    }
}
