//! Arguments of queues (`x-…`): read, checked, compared on redeclaration.

use crate::error::{Failure, Outcome};
use amq_protocol::types::{AMQPValue, FieldTable};
use std::sync::Arc;

/// What a full queue does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest ready message makes room.
    #[default]
    DropHead,
    /// The new message is refused; its publisher gets a nack.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDeadLetter,
}

/// The arguments that the broker acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueueArgs {
    pub(crate) length_max: Option<usize>,
    pub(crate) bytes_max: Option<usize>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letter_exchange: Option<Arc<str>>,
    pub(crate) dead_letter_key: Option<Arc<str>>,
    pub(crate) message_ttl_ms: Option<u64>,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) single_active: bool,
}

/// Longest time that an argument may say, as RabbitMQ has it: 2^32 - 1 milliseconds.
const TIME_MAX_MS: i64 = u32::MAX as i64;

/// Arguments that must be the same on redeclaration.
const COMPARED: [&str; 12] = [
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-mode",
    "x-max-priority",
    "x-delivery-limit",
];

/// An integer of any width.
pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(v) => i64::from(*v),
        AMQPValue::ShortShortUInt(v) => i64::from(*v),
        AMQPValue::ShortInt(v) => i64::from(*v),
        AMQPValue::ShortUInt(v) => i64::from(*v),
        AMQPValue::LongInt(v) => i64::from(*v),
        AMQPValue::LongUInt(v) => i64::from(*v),
        AMQPValue::LongLongInt(v) => *v,
        _ => return None,
    })
}

/// A string that is UTF-8.
pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Equal as RabbitMQ sees it: integers by value, whatever their width.
fn same(a: Option<&AMQPValue>, b: Option<&AMQPValue>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        _ => false,
    }
}

fn shown(value: Option<&AMQPValue>) -> String {
    match value {
        None => "none".into(),
        Some(value) => match (integer(value), text(value), value) {
            (Some(number), _, _) => format!("the value '{number}' of type 'signedint'"),
            (_, Some(text), _) => format!("the value '{text}' of type 'longstr'"),
            (_, _, AMQPValue::Boolean(flag)) => format!("the value '{flag}' of type 'bool'"),
            (_, _, other) => format!("{other:?}"),
        },
    }
}

/// Refuses a redeclaration of `what` (such as `queue 'q' in vhost '/'`) whose arguments differ in one of `names`.
pub(crate) fn check_same(
    names: &[&str],
    what: &str,
    given: &FieldTable,
    current: &FieldTable,
) -> Outcome<()> {
    for name in names {
        let (given, current) = (given.inner().get(*name), current.inner().get(*name));
        if !same(given, current) {
            return Err(Failure::precondition(&format!(
                "inequivalent arg '{name}' for {what}: received {} but current is {}",
                shown(given),
                shown(current)
            )));
        }
    }
    Ok(())
}

/// [`check_same`] for queues.
pub(crate) fn check_same_queue(what: &str, given: &FieldTable, current: &FieldTable) -> Outcome<()> {
    check_same(&COMPARED, what, given, current)
}

/// Refuses a flag that differs on redeclaration.
pub(crate) fn check_flag(name: &str, what: &str, given: bool, current: bool) -> Outcome<()> {
    if given == current {
        return Ok(());
    }
    Err(Failure::precondition(&format!(
        "inequivalent arg '{name}' for {what}: received '{given}' but current is '{current}'"
    )))
}

impl QueueArgs {
    /// Reads the arguments of `what` (such as `queue 'q' in vhost '/'`); 406 for what makes no sense.
    pub(crate) fn read(what: &str, table: &FieldTable) -> Outcome<Self> {
        let get = |name: &str| table.inner().get(name);
        let bad =
            |name: &str, why: &str| Failure::precondition(&format!("invalid arg '{name}' for {what}: {why}"));
        let number = |name: &str, min: i64, max: i64| match get(name) {
            None => Ok(None),
            Some(value) => match integer(value) {
                Some(n) if (min..=max).contains(&n) => Ok(Some(n)),
                Some(n) => Err(bad(name, &format!("{n} is out of range"))),
                None => Err(bad(name, "not an integer")),
            },
        };
        let string = |name: &str| match get(name).map(text) {
            None => Ok(None),
            // Names and keys go out again as short strings.
            Some(Some(text)) if text.len() > 255 => Err(bad(name, "longer than 255 bytes")),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(bad(name, "not a string")),
        };
        let count = |n: Option<i64>| n.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let time = |n: Option<i64>| n.map(i64::unsigned_abs);
        let args = Self {
            length_max: count(number("x-max-length", 0, i64::MAX)?),
            bytes_max: count(number("x-max-length-bytes", 0, i64::MAX)?),
            overflow: match string("x-overflow")? {
                None | Some("drop-head") => Overflow::DropHead,
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
                Some(other) => return Err(bad("x-overflow", &format!("unknown overflow '{other}'"))),
            },
            dead_letter_exchange: string("x-dead-letter-exchange")?.map(Arc::from),
            dead_letter_key: string("x-dead-letter-routing-key")?.map(Arc::from),
            message_ttl_ms: time(number("x-message-ttl", 0, TIME_MAX_MS)?),
            expires_ms: time(number("x-expires", 1, TIME_MAX_MS)?),
            single_active: match get("x-single-active-consumer") {
                None => false,
                Some(AMQPValue::Boolean(flag)) => *flag,
                Some(_) => return Err(bad("x-single-active-consumer", "not a boolean")),
            },
        };
        if args.dead_letter_key.is_some() && args.dead_letter_exchange.is_none() {
            return Err(bad("x-dead-letter-routing-key", "routing key without a dead letter exchange"));
        }
        match string("x-queue-type")? {
            None | Some("classic" | "quorum") => {}
            Some(other) => return Err(bad("x-queue-type", &format!("unsupported queue type '{other}'"))),
        }
        for name in ["x-max-priority", "x-delivery-limit"] {
            if get(name).is_some() {
                return Err(Failure::not_implemented(&format!("argument '{name}' of {what}")));
            }
        }
        Ok(args)
    }
}

/// Reads the `expiration` property: decimal milliseconds.
pub(crate) fn expiration_ms(text: &str) -> Outcome<u64> {
    match text.parse::<u32>() {
        Ok(ms) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(u64::from(ms)),
        _ => Err(Failure::precondition(&format!("invalid expiration '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, value: AMQPValue) -> FieldTable {
        let mut table = FieldTable::default();
        table.insert(name.into(), value);
        table
    }

    #[test]
    fn arguments_are_read_or_refused() {
        let read = |name: &str, value| QueueArgs::read("queue 'q' in vhost '/'", &table(name, value));
        assert_eq!(read("x-max-length", AMQPValue::LongInt(3)).unwrap().length_max, Some(3));
        assert_eq!(read("x-max-length", AMQPValue::LongInt(-1)).unwrap_err().code, 406);
        assert_eq!(read("x-message-ttl", AMQPValue::LongString("5".into())).unwrap_err().code, 406);
        assert_eq!(read("x-expires", AMQPValue::LongInt(0)).unwrap_err().code, 406);
        assert_eq!(
            read("x-dead-letter-routing-key", AMQPValue::LongString("k".into())).unwrap_err().code,
            406
        );
        assert_eq!(read("x-queue-type", AMQPValue::LongString("stream".into())).unwrap_err().code, 406);
        assert_eq!(read("x-max-priority", AMQPValue::LongInt(5)).unwrap_err().code, 540);
        assert!(read("x-queue-type", AMQPValue::LongString("quorum".into())).is_ok());
        assert!(read("x-unknown", AMQPValue::Void).is_ok());
    }

    #[test]
    fn integers_compare_by_value() {
        let check =
            |a, b| check_same_queue("queue", &table("x-max-length", a), &table("x-max-length", b)).is_ok();
        assert!(check(AMQPValue::LongInt(3), AMQPValue::ShortShortInt(3)));
        assert!(!check(AMQPValue::LongInt(3), AMQPValue::LongInt(4)));
        assert!(
            check_same_queue("queue", &FieldTable::default(), &table("x-expires", AMQPValue::LongInt(4)))
                .is_err()
        );
    }

    #[test]
    fn expirations() {
        assert_eq!(expiration_ms("60000"), Ok(60_000));
        for bad in ["", "-1", "+1", "1.5", "1s", "99999999999"] {
            assert!(expiration_ms(bad).is_err(), "{bad}");
        }
    }
}
