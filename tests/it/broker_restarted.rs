//! RabbitMQ is killed and started again: queues and alert events are still there, and every role goes on.

use kinetic_tests::amqp::queue_depth;
use kinetic_tests::needs::{Need, all_here};
use kinetic_tests::schema::{Customer, Watch};
use kinetic_tests::traffic::{Fleet, SLOW_HOST};
use kinetic_tests::{BrokerKind, World, eventually};

use crate::common::{is_about, only_mails_about};

#[test]
fn everything_resumes_after_rabbitmq_was_killed() {
    let story = "broker_restarted::everything_resumes_after_rabbitmq_was_killed";
    if !all_here(story, &[Need::Git, Need::RabbitMq]) {
        return;
    }
    let acme = Customer::acme(&[Watch::default()]);
    let mut world = World::start(BrokerKind::OwnRabbitMq, std::slice::from_ref(&acme));
    let redirector = world.redirector();
    let analyzer = world.analyzer("analyzer");
    // The alert node has declared its queue and is away: what is confirmed now must survive the broker.
    drop(world.alert());
    let fleet = Fleet::start(world.customer_address(&acme), "acme", "web");
    fleet.slow_down();
    eventually("an alert event waits on the broker", || {
        match queue_depth(&world.control_address(), "kin.alerts") {
            Some(depth) if depth.messages > 0 => Ok(()),
            other => Err(other),
        }
    });
    world.own_rabbit().kill();
    let reason = analyzer.wait_failing("analyzer");
    redirector.wait_failing("redirector");
    world.own_rabbit().start_again();
    let confirmed = fleet.samples();
    fleet.flow(80);
    for node in [&redirector, &analyzer] {
        node.wait_healthy();
    }
    let waiting = queue_depth(&world.control_address(), "kin.alerts");
    assert!(waiting.is_some_and(|depth| depth.messages > 0), "the event survived: {waiting:?} ({reason})");
    let before = analyzer.metric("kinetic_analyzer_samples_total");
    eventually("samples flow again", || {
        let now = analyzer.metric("kinetic_analyzer_samples_total");
        if now > before { Ok(()) } else { Err((now, confirmed)) }
    });
    let _alert = world.alert();
    world.smtp.wait_for("the mail about the slow host", |mail| is_about(mail, SLOW_HOST));
    only_mails_about(&world.smtp, SLOW_HOST, 1);
}
