//! The values of parts' windows, on their way to the owners of the sources; and what must not lead data astray.

use std::time::Duration;

use bytes::Bytes;
use kinetic_amqp::{Address, Leftovers, Outcome, Publisher, Topology, declare, remove};
use kinetic_wire::{Envelope, Partial, encode, names};

use super::Done;

/// Pause after a failure; doubles up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Publishes until the broker has confirmed; the machine holds the deliveries of the window until then.
pub(super) async fn forward(publisher: Publisher, partial: Box<Partial>) {
    let queue = names::source_queue(&partial.source.with_part(0));
    let body = Bytes::from(encode(&*partial));
    let envelope = Envelope {
        content_type: Some("application/json".into()),
        kind: Some(names::TYPE_PARTIAL.into()),
        persistent: true,
        epoch: Some(partial.epoch),
        traceparent: partial.traceparent.as_deref().map(Into::into),
        ..Envelope::default()
    };
    let mut wait = RETRY_MIN;
    loop {
        match publisher.publish(names::PARTIALS_EXCHANGE, &queue, &envelope, body.clone(), true).await {
            Ok(Outcome::Confirmed) => return,
            Ok(Outcome::Unroutable) => {
                tracing::warn!(queue, "a part's values reach no queue; trying again");
            }
            Err(error) => tracing::warn!(%error, "a part's values were not confirmed; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = RETRY_MAX.min(wait * 2);
    }
}

/// Removes bindings of another number of parts, once those of this number stand: data that reaches no queue is lost. The
/// redirector does that as well; but this node may have made the old ones again after that, when it connected anew before
/// it knew of the revision.
pub(super) async fn tidy(address: Address, topology: Topology, leftovers: Leftovers) -> Done {
    let mut wait = RETRY_MIN;
    loop {
        let declared = declare(&address, &topology).await;
        let removed = match declared {
            Ok(()) => remove(&address, &leftovers).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => return Done::Tidied,
            Err(error) => {
                tracing::warn!(%error, "cannot remove bindings of an earlier revision; trying again")
            }
        }
        tokio::time::sleep(wait).await;
        wait = RETRY_MAX.min(wait * 2);
    }
}
