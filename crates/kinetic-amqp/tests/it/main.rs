//! The stories of `stories.rs` on real brokers, and the ones in which the broker itself comes and goes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod declaring;
mod embedded;
mod rabbit;
mod restarts;
mod stories;
mod tokens;

use kinetic_amqp::Address;

/// All stories of `stories.rs`, on one broker: starting one is what takes the time.
async fn all_stories(address: Address) {
    stories::settles(address.clone()).await;
    stories::returns_find_their_message(address.clone()).await;
    stories::a_bad_message_alone_is_refused(address.clone()).await;
    stories::prefetch_bounds(address.clone()).await;
    stories::cancel_drains(address.clone()).await;
    stories::a_deleted_queue_is_declared_again(address.clone()).await;
    stories::own_queue_is_bound(address.clone()).await;
    stories::a_queue_is_looked_at(address.clone()).await;
    stories::a_source_is_split_and_joined_again(address.clone()).await;
    stories::a_part_that_goes_leads_nothing_to_the_others(address.clone()).await;
    stories::requests_are_answered(address.clone()).await;
    declaring::a_refusal_keeps_nothing_else_from_being_declared(address.clone()).await;
    stories::messages_are_pushed(address.clone()).await;
    stories::the_broker_bears_witness(address.clone()).await;
    stories::a_wrong_password_is_reported(address.clone()).await;
    stories::refusals_say_what_to_do(address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_on_rabbitmq() {
    if let Some(rabbit) = rabbit::Rabbit::started().await {
        all_stories(rabbit.address()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_on_the_embedded_broker() {
    let broker = embedded::Embedded::started().await;
    all_stories(broker.address()).await;
    broker.stop().await;
}
