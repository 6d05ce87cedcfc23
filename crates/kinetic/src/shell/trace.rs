//! Says on `kin.trace` how far test events have come.

use std::time::Duration;

use kinetic_amqp::Publisher;
use kinetic_wire::{Envelope, TestStage, encode, names};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long one word may wait for the broker: whoever follows a test has gone on by then.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Words that wait for those before them; further ones are dropped.
const WAITING_MAX: usize = 256;

/// Says one word after the other, in a task of its own that ends with it.
#[derive(Debug)]
pub(crate) struct Voice {
    words: mpsc::Sender<Box<TestStage>>,
    _speaking: JoinSet<()>,
}

impl Voice {
    /// Over a publisher whose topology has [`topology::alerts`](crate::topology::alerts).
    pub(crate) fn start(publisher: Publisher) -> Self {
        let (words, mut waiting) = mpsc::channel::<Box<TestStage>>(WAITING_MAX);
        let mut speaking = JoinSet::new();
        speaking.spawn(async move {
            while let Some(stage) = waiting.recv().await {
                say(&publisher, &stage).await;
            }
        });
        Self { words, _speaking: speaking }
    }

    /// Best effort: where nobody listens, or nothing can be published, it is gone.
    pub(crate) fn say(&self, stage: Box<TestStage>) {
        if self.words.try_send(stage).is_err() {
            tracing::debug!("too many words on test events wait; this one is dropped");
        }
    }
}

async fn say(publisher: &Publisher, stage: &TestStage) {
    let envelope = Envelope {
        content_type: Some("application/json".into()),
        kind: Some(names::TYPE_TEST_STAGE.into()),
        ..Envelope::default()
    };
    let publish = publisher.publish(names::TRACE_EXCHANGE, &stage.trace, &envelope, encode(stage), false);
    match tokio::time::timeout(TIMEOUT, publish).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a stage of a test event was not published"),
        Err(_) => tracing::debug!("a stage of a test event was not published in time"),
    }
}
