//! The yardstick: a bare lapin consumer that counts and acknowledges, nothing else.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;

use crate::connect::Link;
use crate::properties::short;
use crate::{Address, AmqpError};

/// Deliveries in flight; from 2,000 on a higher prefetch brings nothing.
const PREFETCH: u16 = 8_192;
/// Deliveries settled with one acknowledgement.
const ACK_EVERY: u64 = 256;

/// Takes `count` deliveries off a queue and returns the time from the first to the last.
///
/// # Errors
/// When the broker cannot be reached or the subscription ends before.
#[expect(clippy::disallowed_methods, reason = "a stopwatch around a foreign loop; no decision depends on it")]
pub async fn drain_null(address: &Address, queue: &str, count: u64) -> Result<Duration, AmqpError> {
    let doing = format!("drain queue {queue}");
    let failed = |error: &lapin::Error| AmqpError::of(error, &doing);
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(|error| failed(&error))?;
    let options = BasicConsumeOptions::default();
    let queue = short("a queue's name", queue)?;
    let mut deliveries = channel
        .basic_consume(queue, "".into(), options, FieldTable::default())
        .await
        .map_err(|error| failed(&error))?;
    let (mut seen, mut began) = (0, None);
    while seen < count {
        let Some(delivery) = deliveries.next().await else {
            return Err(AmqpError::Lost { reason: "the subscription ended".to_owned() });
        };
        let delivery = delivery.map_err(|error| failed(&error))?;
        began.get_or_insert_with(std::time::Instant::now);
        seen += 1;
        if seen % ACK_EVERY == 0 || seen == count {
            let multiple = BasicAckOptions { multiple: true };
            channel.basic_ack(delivery.delivery_tag, multiple).await.map_err(|error| failed(&error))?;
        }
    }
    let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed());
    drop(deliveries);
    link.close(&[channel]).await;
    Ok(elapsed)
}
