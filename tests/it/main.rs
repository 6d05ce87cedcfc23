//! Stories across processes: the real binary, a real broker, a real mail relay, real tools. Each story that involves a
//! broker is told twice, on the embedded one and on RabbitMQ.

/// Makes two tests of a story: `<story>::embedded` and `<story>::rabbitmq`. Names after the story are further needs.
/// Attributes before it go to both tests.
macro_rules! on_both_brokers {
    ($(#[$attribute:meta])* $story:ident $(, $need:ident)*) => {
        mod $story {
            use kinetic_tests::BrokerKind;
            use kinetic_tests::needs::{Need, all_here};

            #[test]
            $(#[$attribute])*
            fn embedded() {
                let story = concat!(module_path!(), "::embedded");
                if all_here(story, &[Need::Git $(, Need::$need)*]) {
                    super::$story(BrokerKind::Embedded);
                }
            }

            #[test]
            $(#[$attribute])*
            fn rabbitmq() {
                let story = concat!(module_path!(), "::rabbitmq");
                if all_here(story, &[Need::Git, Need::RabbitMq $(, Need::$need)*]) {
                    super::$story(BrokerKind::RabbitMq);
                }
            }
        }
    };
}

mod alert_nodes;
mod alert_quiet;
mod analyzer_faults;
mod analyzer_killed;
mod analyzer_remembers;
mod attacks;
mod bad_body;
mod broker_faults;
mod broker_restarted;
mod certificates;
mod collectd;
mod common;
mod customer_pushes;
mod customer_silent;
mod demo;
mod edge;
mod failover;
mod feed_silent;
mod limits;
mod links;
mod locate;
mod mail_form;
mod mail_returned;
mod node_silent;
mod partitions;
mod pika;
mod postfix;
mod provision;
mod reconcile;
mod redirector_faults;
mod redirector_restarted;
mod redirectors_lost;
mod region_move;
mod relays;
mod rotation;
mod schema_faults;
mod schema_push;
mod schema_repository;
mod secrets;
mod slowness;
mod smtp_down;
mod stage;
mod statsd_backends;
mod statsd_to_mail;
mod test_event;
mod tokens;
mod up;
mod watching_kinetic;
mod webhooks;
