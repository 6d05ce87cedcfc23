//! Says on `kin.trace` how far a test event has come.

use std::time::Duration;

use kinetic_amqp::Publisher;
use kinetic_wire::{Envelope, TestStage, encode, names};

/// How long one word may wait for the broker: whoever follows a test has gone on by then.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Best effort: where nobody listens, or nothing can be published, it is gone. The publisher's topology has
/// [`topology::alerts`](crate::topology::alerts).
pub(crate) async fn say(publisher: Publisher, stage: Box<TestStage>) {
    let envelope = Envelope {
        content_type: Some("application/json".into()),
        kind: Some(names::TYPE_TEST_STAGE.into()),
        ..Envelope::default()
    };
    let publish = publisher.publish(names::TRACE_EXCHANGE, &stage.trace, &envelope, encode(&*stage), false);
    match tokio::time::timeout(TIMEOUT, publish).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a stage of a test event was not published"),
        Err(_) => tracing::debug!("a stage of a test event was not published in time"),
    }
}
