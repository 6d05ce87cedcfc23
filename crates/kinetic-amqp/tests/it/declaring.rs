//! What is declared beside what the broker refuses.

use kinetic_amqp::{
    Address, AmqpError, Binding, Exchange, ExchangeKind, Outcome, Publisher, Queue, Topology, declare,
};
use kinetic_wire::Envelope;

use crate::stories::soon;

/// One exchange is something else than what is wanted: all the rest is declared, and that one is said.
pub(crate) async fn a_refusal_keeps_nothing_else_from_being_declared(address: Address) {
    let odd =
        Topology { exchanges: vec![Exchange::durable("odd", ExchangeKind::Fanout)], ..Topology::default() };
    declare(&address, &odd).await.unwrap();
    let wanted = Topology {
        exchanges: vec![
            Exchange::durable("odd", ExchangeKind::Topic),
            Exchange::durable("even", ExchangeKind::Topic),
        ],
        queues: vec![Queue::durable("even")],
        bindings: vec![Binding::new("even", "even", "#")],
    };
    let refused = soon("a declaration", declare(&address, &wanted)).await.unwrap_err();
    assert!(matches!(&refused, AmqpError::Refused { code: 406, .. }), "{refused:?}");
    let publisher = Publisher::start(address, Topology::default(), 64);
    let envelope = Envelope::default();
    let sent = publisher.publish("even", "any", &envelope, vec![1], true);
    assert_eq!(soon("a confirm", sent).await.unwrap(), Outcome::Confirmed);
    publisher.close().await;
}
