//! Every name on the broker, in one place. `docs/wire.md` explains them.

use crate::{CustomerName, SourceKey};

/// The control vhost on a broker that Kinetic has to itself.
pub const CONTROL_VHOST: &str = "kinetic";
/// Direct exchange for requests to the redirector; the routing key is the request's kind (`register`, `locate`, …).
pub const RPC_EXCHANGE: &str = "kin.rpc";
/// The redirector's request queue, single-active-consumer.
pub const RPC_QUEUE: &str = "kin.redirector";
/// Direct exchange and durable queue that carry alert events from analyzers to the alert node.
pub const ALERTS: &str = "kin.alerts";
/// Where alert events go that the alert node refused: kept for people to look at.
pub const ALERTS_DEAD: &str = "kin.alerts.dead";
/// Topic exchange on which the alert node republishes what it notifies; key `<customer>.<analytic>.<state>`.
pub const NOTIFICATIONS_EXCHANGE: &str = "kin.notifications";
/// Fanout exchange that says that the schema repository has a new revision.
pub const SCHEMA_EXCHANGE: &str = "kin.schema";
/// Fanout exchange for messages that are nothing we know, or that overflowed a source's queue.
pub const DEAD_EXCHANGE: &str = "kin.dead";
/// Queue behind `DEAD_EXCHANGE`, bounded, oldest dropped first.
pub const DEAD_QUEUE: &str = "kin.dead";
/// The pseudo-queue of RabbitMQ's direct reply-to.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Message `type` of alert events.
pub const TYPE_ALERT: &str = "kinetic.alert.v1";
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
    /// All of them, in the order in which the queue is bound.
    pub const ALL: [&str; 5] = [REGISTER, HEARTBEAT, DRAIN, GOODBYE, LOCATE];
}

const INGRESS_PREFIX: &str = "in.";

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

/// The queue of a source: `src.<customer>.<source>` (durable, bounded, single-active-consumer).
#[must_use]
pub fn source_queue(source: &SourceKey) -> String {
    format!("src.{}.{}", source.customer, source.source)
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
