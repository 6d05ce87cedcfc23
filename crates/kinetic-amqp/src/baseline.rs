//! The plainest lapin consumer there is, against which `kinetic bench` measures ours.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use crate::connect::Link;
use crate::properties::short;
use crate::{Address, AmqpError};

/// Takes `count` deliveries from `queue` and acknowledges every `ack_every`-th with `multiple`, on a connection of its own,
/// with lapin alone. Calls `on_first` at the first delivery, for the caller's stopwatch. Answers the bytes of their bodies.
///
/// # Errors
/// What [`AmqpError`] lists: nothing is supervised here.
pub async fn drain_plainly(
    address: &Address,
    queue: &str,
    prefetch: u16,
    ack_every: u64,
    count: u64,
    on_first: impl FnOnce(),
) -> Result<u64, AmqpError> {
    let failed = |error: lapin::Error| AmqpError::of(&error, "drain a queue");
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(failed)?;
    let queue = short("a queue's name", queue)?;
    let mut deliveries = channel
        .basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .map_err(failed)?;
    let (mut seen, mut bytes, mut on_first) = (0, 0, Some(on_first));
    while seen < count {
        let Some(delivery) = deliveries.next().await else {
            return Err(AmqpError::Lost { reason: "the broker cancelled the consumer".to_owned() });
        };
        let delivery = delivery.map_err(failed)?;
        if let Some(on_first) = on_first.take() {
            on_first();
        }
        seen += 1;
        bytes += delivery.data.len() as u64;
        if seen % ack_every == 0 || seen == count {
            delivery.acker.ack(BasicAckOptions { multiple: true }).await.map_err(failed)?;
        }
    }
    drop(deliveries);
    link.close(&[channel]).await;
    Ok(bytes)
}
