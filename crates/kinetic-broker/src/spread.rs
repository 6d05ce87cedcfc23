//! The consistent-hash exchange (`x-consistent-hash`): each message to exactly one of the bindings, the same one for
//! the same hashed value while the bindings stay.
//!
//! What RabbitMQ's plugin of that name promises is kept: a binding key is a weight, `hash-header` or `hash-property` in the
//! exchange's arguments says what is hashed, the routing key is without them, and messages that lack it all go one way. Which
//! binding a value falls to is another than there: weighted rendezvous hashing (Thaler and Ravishankar 1998; the
//! weights as Schindelhauer and Schomaker 2005 have them), so that a binding that comes takes its share from all
//! others and one that goes leaves its share to all others, and nothing else moves.

use crate::args::text;
use crate::content;
use crate::error::{Failure, Outcome};
use crate::exchange::{Destination, Route};
use amq_protocol::types::{AMQPValue, FieldTable};
use foldhash::quality::FixedState;
use std::hash::BuildHasher;

/// What of a message is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum HashOn {
    #[default]
    RoutingKey,
    Header(Box<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    /// Reads the arguments of an exchange; 406 for what makes no sense.
    pub(crate) fn read(arguments: &FieldTable) -> Outcome<Self> {
        let get = |name: &str| arguments.inner().get(name);
        match (get("hash-header"), get("hash-property")) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(_), Some(_)) => {
                Err(Failure::precondition("hash-header and hash-property are mutually exclusive"))
            }
            (Some(header), None) => match text(header) {
                Some(header) => Ok(Self::Header(header.into())),
                None => Err(Failure::precondition("invalid arg 'hash-header': not a string")),
            },
            (None, Some(property)) => match text(property) {
                Some("message_id") => Ok(Self::MessageId),
                Some("correlation_id") => Ok(Self::CorrelationId),
                Some("timestamp") => Ok(Self::Timestamp),
                other => Err(Failure::precondition(&format!(
                    "unsupported property: {}",
                    other.unwrap_or("not a string")
                ))),
            },
        }
    }

    /// The hash of a message; of nothing where it lacks what is asked for.
    fn hash(&self, route: Route<'_>) -> u64 {
        let hash = |bytes: &[u8]| FixedState::with_seed(0).hash_one(bytes);
        let property = |text: Option<&str>| hash(text.unwrap_or_default().as_bytes());
        match self {
            Self::RoutingKey => hash(route.key.as_bytes()),
            Self::Header(name) => {
                let properties = content::parse(route.properties);
                match properties.headers().as_ref().and_then(|headers| headers.inner().get(&**name)) {
                    None | Some(AMQPValue::Void) => hash(b""),
                    Some(value) => match text(value) {
                        Some(text) => hash(text.as_bytes()),
                        None => hash(format!("{value:?}").as_bytes()),
                    },
                }
            }
            Self::MessageId | Self::CorrelationId | Self::Timestamp => {
                let properties = content::parse(route.properties);
                match self {
                    Self::MessageId => property(properties.message_id().as_ref().map(|id| id.as_str())),
                    Self::CorrelationId => {
                        property(properties.correlation_id().as_ref().map(|id| id.as_str()))
                    }
                    _ => hash(&properties.timestamp().unwrap_or_default().to_be_bytes()),
                }
            }
        }
    }
}

/// The weight that a binding key says: a whole number above 0; 406 for others.
pub(crate) fn weight(key: &str) -> Outcome<u32> {
    match key.parse() {
        Ok(0) => Err(Failure::precondition("the binding key must be greater than 0")),
        Ok(weight) => Ok(weight),
        Err(_) => Err(Failure::precondition(&format!("the binding key must be an integer: '{key}'"))),
    }
}

/// One binding. Its place is the lowest that was free when it came, so that the same bindings made in the same
/// order, after a restart for one, share values out in the same way.
#[derive(Debug)]
struct Share {
    place: usize,
    weight: u32,
    key: Box<str>,
    to: Destination,
}

/// The bindings of one consistent-hash exchange.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    on: HashOn,
    shares: Vec<Share>,
}

impl Spread {
    pub(crate) fn new(on: HashOn) -> Self {
        Self { on, shares: Vec::new() }
    }

    /// Adds a binding. Its key has passed [`weight`].
    pub(crate) fn insert(&mut self, key: &str, to: Destination) {
        if self.shares.iter().any(|share| *share.key == *key && share.to == to) {
            return;
        }
        let place = (0..).find(|place| self.shares.iter().all(|share| share.place != *place));
        let place = place.expect("places do not end");
        self.shares.push(Share { place, weight: weight(key).unwrap_or(1), key: key.into(), to });
    }

    pub(crate) fn remove(&mut self, key: &str, to: &Destination) {
        self.shares.retain(|share| *share.key != *key || share.to != *to);
    }

    /// The one binding that a message falls to; `None` without any.
    pub(crate) fn choose(&self, route: Route<'_>) -> Option<&Destination> {
        let hash = self.on.hash(route);
        // Each binding draws a number in (0, 1) from the value and its place; with u^(1/weight) the chance to have the
        // largest is in proportion to the weight. The logarithm of it is compared.
        let draw = |share: &Share| {
            let drawn = FixedState::with_seed(hash).hash_one(share.place) >> 11;
            ((drawn as f64 + 0.5) / (1_u64 << 53) as f64).ln() / f64::from(share.weight)
        };
        let mut best: Option<(f64, &Share)> = None;
        for share in &self.shares {
            let drawn = draw(share);
            if best.is_none_or(|(highest, _)| drawn > highest) {
                best = Some((drawn, share));
            }
        }
        best.map(|(_, share)| &share.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueueId;

    const VALUES: u64 = 20_000;

    fn queue(id: u64) -> Destination {
        Destination::Queue(QueueId(id))
    }

    fn spread(weights: &[(u64, &str)]) -> Spread {
        let mut spread = Spread::default();
        for (id, weight) in weights {
            spread.insert(weight, queue(*id));
        }
        spread
    }

    fn choose(spread: &Spread, value: u64) -> u64 {
        let key = format!("web-{value}");
        let route = Route { key: &key, copies: &[], properties: &[] };
        match spread.choose(route) {
            Some(Destination::Queue(id)) => id.0,
            other => panic!("{other:?}"),
        }
    }

    fn shares(spread: &Spread, of: &[u64]) -> Vec<f64> {
        let chosen: Vec<u64> = (0..VALUES).map(|value| choose(spread, value)).collect();
        let count = |id: &u64| chosen.iter().filter(|chosen| *chosen == id).count();
        of.iter().map(|id| count(id) as f64 / VALUES as f64).collect()
    }

    #[test]
    fn weights_are_shares() {
        for share in shares(&spread(&[(1, "1"), (2, "1"), (3, "1"), (4, "1")]), &[1, 2, 3, 4]) {
            assert!((share - 0.25).abs() < 0.015, "{share}");
        }
        let weighted = shares(&spread(&[(1, "1"), (2, "3")]), &[1, 2]);
        assert!((weighted[1] - 0.75).abs() < 0.015, "{weighted:?}");
    }

    #[test]
    fn what_comes_takes_its_share_and_what_goes_leaves_it() {
        let mut spread = spread(&[(1, "1"), (2, "1"), (3, "1")]);
        let before: Vec<u64> = (0..VALUES).map(|value| choose(&spread, value)).collect();
        spread.insert("1", queue(4));
        let with: Vec<u64> = (0..VALUES).map(|value| choose(&spread, value)).collect();
        let moved = before.iter().zip(&with).filter(|(before, with)| before != with).count();
        assert!((moved as f64 / VALUES as f64 - 0.25).abs() < 0.015, "{moved}");
        assert!(before.iter().zip(&with).all(|(before, with)| before == with || *with == 4));
        spread.remove("1", &queue(2));
        let without: Vec<u64> = (0..VALUES).map(|value| choose(&spread, value)).collect();
        assert!(with.iter().zip(&without).all(|(with, without)| with == without || *with == 2));
        spread.insert("1", queue(5));
        let again: Vec<u64> = (0..VALUES).map(|value| choose(&spread, value)).collect();
        assert!(with.iter().zip(&again).all(|(with, again)| with == again || (*with, *again) == (2, 5)));
    }

    #[test]
    fn arguments_and_weights_are_read_or_refused() {
        let read = |entries: &[(&str, &str)]| {
            let mut table = FieldTable::default();
            for (name, value) in entries {
                table.insert((*name).into(), AMQPValue::LongString((*value).into()));
            }
            HashOn::read(&table).map_err(|failure| failure.code)
        };
        assert_eq!(read(&[]), Ok(HashOn::RoutingKey));
        assert_eq!(read(&[("hash-header", "h")]), Ok(HashOn::Header("h".into())));
        assert_eq!(read(&[("hash-property", "message_id")]), Ok(HashOn::MessageId));
        assert_eq!(read(&[("hash-property", "app_id")]), Err(406));
        assert_eq!(read(&[("hash-header", "h"), ("hash-property", "message_id")]), Err(406));
        let read = |key| weight(key).map_err(|failure| failure.code);
        assert_eq!((read("1"), read("20")), (Ok(1), Ok(20)));
        for bad in ["0", "-1", "", "a", "1.5"] {
            assert_eq!(read(bad), Err(406), "{bad}");
        }
    }

    #[test]
    fn without_bindings_nothing_is_chosen() {
        let route = Route { key: "a", copies: &[], properties: &[] };
        assert!(Spread::default().choose(route).is_none());
    }
}
