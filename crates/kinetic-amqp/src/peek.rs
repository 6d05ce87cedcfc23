//! A look at what a queue holds, without taking it.

use std::collections::VecDeque;

use lapin::Channel;
use lapin::options::{BasicGetOptions, BasicNackOptions};

use crate::connect::Link;
use crate::properties::short;
use crate::{Address, AmqpError, Message};

/// Bytes of bodies that [`peek`] keeps at once; the oldest go first.
pub const PEEK_BYTES_MAX: usize = 64 << 20;

/// Reads what is ready in `queue` and gives it all back, in its place, on a connection of its own. Answers the newest `max` messages
/// (and [`PEEK_BYTES_MAX`] bytes of bodies at most, counted and logged past that), the oldest first; none where there is no such
/// queue. As many messages are read as there were at the first: a queue that grows meanwhile does not keep us.
///
/// What somebody else holds unsettled is not seen, another reader's messages included; and for as long as this reads, nobody else
/// sees them. They come marked as redelivered afterwards. A single-active-consumer queue of the quorum type refuses such reading.
///
/// # Errors
/// What [`AmqpError`] lists. What had been read then goes back with the connection.
pub async fn peek(address: &Address, queue: &str, max: usize) -> Result<Vec<Message>, AmqpError> {
    let link = Link::open(address).await?;
    let channel = link.channel().await?;
    let read = read_all(&channel, queue, max).await;
    link.close(&[channel]).await;
    match read {
        Err(AmqpError::Refused { code: 404, .. }) => Ok(Vec::new()),
        other => other,
    }
}

async fn read_all(channel: &Channel, queue: &str, max: usize) -> Result<Vec<Message>, AmqpError> {
    let failed = |error: lapin::Error| AmqpError::of(&error, &format!("look into queue {queue}"));
    let name = short("a queue's name", queue)?;
    let mut kept: VecDeque<Message> = VecDeque::new();
    let (mut bytes, mut dropped, mut last_tag, mut left) = (0, 0_u64, 0, u32::MAX);
    while left > 0 {
        let Some(got) = channel.basic_get(name.clone(), BasicGetOptions::default()).await.map_err(failed)?
        else {
            break;
        };
        left = (left - 1).min(got.message_count);
        let inner = got.delivery;
        last_tag = inner.delivery_tag;
        bytes += inner.data.len();
        kept.push_back(Message::of(inner));
        while kept.len() > max || (bytes > PEEK_BYTES_MAX && kept.len() > 1) {
            dropped += u64::from(kept.len() <= max);
            bytes -= kept.pop_front().map_or(0, |oldest| oldest.body().len());
        }
    }
    if dropped > 0 {
        tracing::warn!(queue, dropped, "more in the queue than is looked at");
    }
    if last_tag > 0 {
        let options = BasicNackOptions { multiple: true, requeue: true };
        channel.basic_nack(last_tag, options).await.map_err(failed)?;
    }
    Ok(kept.into())
}
