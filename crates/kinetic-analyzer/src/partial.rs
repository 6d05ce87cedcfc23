//! The values of a part's window on the wire: cut into messages on one side, checked and taken in on the other.

use kinetic_wire::{AlertId, PARTIAL_VERSION, Partial, PartialFeed, PartialGroup, SourceKey, decode};
use uuid::Uuid;

use crate::machine::Delivery;
use crate::merge::{Claim, MESSAGES_MAX};
use crate::sample::Reject;

/// Feeds in one message, some 200 KiB; a window with more takes several.
pub const FEEDS_MAX: usize = 4096;

/// Namespace of partials' ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b69_6e65_7469_5063_a1e7_2d70_6172_7473);

/// Cuts a window into messages. `head` is what they have in common; without any feed there is one message still.
pub(crate) fn cut(head: &Partial, groups: Vec<PartialGroup>) -> Vec<Partial> {
    let mut messages = vec![head.clone()];
    let mut room = FEEDS_MAX;
    for mut group in groups {
        loop {
            let rest = group.feeds.split_off(group.feeds.len().min(room));
            room -= group.feeds.len();
            let next = PartialGroup { feeds: rest, ..group.clone() };
            if !group.feeds.is_empty() {
                messages.last_mut().expect("there is one at first").groups.push(group);
            }
            if next.feeds.is_empty() {
                break;
            }
            group = next;
            messages.push(head.clone());
            room = FEEDS_MAX;
        }
    }
    let of = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    for (index, message) in (0..).zip(&mut messages) {
        (message.index, message.of) = (index, of);
    }
    messages
}

/// The id under which a message's confirm is waited for: the same for the same piece of the same window.
pub(crate) fn id(partial: &Partial) -> AlertId {
    let name = format!(
        "{} {} {} {} {}",
        partial.source, partial.length_ns, partial.end_ns, partial.index, partial.of
    );
    AlertId(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

/// Whether a delivery comes from one of Kinetic's own nodes: no customer can write to the exchange, and a customer's login,
/// where it stands on the delivery, has a dot.
pub(crate) fn is_own(delivery: &Delivery<'_>, exchange: &str) -> bool {
    delivery.exchange == exchange
        && delivery.envelope.user_id.as_deref().is_none_or(|login| !login.contains('.'))
}

/// A partial that came through its exchange, checked.
pub(crate) fn read(body: &[u8], owner: &SourceKey) -> Result<Partial, Reject> {
    let partial: Partial = decode(body).map_err(|_| Reject::Malformed)?;
    let whole = |at: i64| at.rem_euclid(partial.length_ns) == 0;
    let is_sane = partial.v == PARTIAL_VERSION
        && partial.source.part > 0
        && partial.source.with_part(owner.part) == *owner
        && partial.length_ns > 0
        && whole(partial.end_ns)
        && partial.from_ns.is_none_or(|from| whole(from) && from < partial.end_ns)
        && partial.of <= MESSAGES_MAX
        && partial.index < partial.of;
    if is_sane { Ok(partial) } else { Err(Reject::Malformed) }
}

/// What a partial claims to be closed.
pub(crate) fn claim(partial: &Partial) -> Claim {
    Claim {
        part: partial.source.part,
        from: partial.from_ns,
        end: partial.end_ns,
        index: partial.index,
        of: partial.of,
    }
}

/// One feed's row. A value is text that reads back as the same number, to the last bit.
pub(crate) fn row(origin: &str, value: Option<f64>, samples: u32) -> PartialFeed {
    PartialFeed { o: origin.to_owned(), v: value.map(|value| value.to_string()), n: samples }
}

/// The other way round; what is no number is no value.
pub(crate) fn value(row: &PartialFeed) -> Option<f64> {
    row.v.as_deref().and_then(|text| text.parse().ok()).filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use kinetic_wire::{Epoch, encode};
    use proptest::prelude::*;

    use super::*;

    fn head() -> Partial {
        Partial {
            v: 1,
            source: SourceKey::new("acme", "web").with_part(3),
            epoch: Epoch(1),
            node: "a1".into(),
            length_ns: 10,
            from_ns: Some(80),
            end_ns: 100,
            index: 0,
            of: 1,
            traceparent: None,
            short: false,
            groups: vec![],
        }
    }

    fn group(metric: &str, feeds: usize) -> PartialGroup {
        let feeds = (0..feeds).map(|n| row(&n.to_string(), Some(0.5), 1)).collect();
        let metric = metric.to_owned();
        PartialGroup {
            analytic: "slow".into(),
            service: "s".into(),
            cluster: "c".into(),
            digest: String::new(),
            metric,
            feeds,
        }
    }

    #[test]
    fn a_window_takes_as_many_messages_as_it_needs() {
        assert_eq!(cut(&head(), vec![]), [head()]);
        let cut = cut(&head(), vec![group("a", 4000), group("b", 5000), group("c", 1)]);
        let sizes: Vec<Vec<(&str, usize)>> = cut
            .iter()
            .map(|part| part.groups.iter().map(|g| (g.metric.as_str(), g.feeds.len())).collect())
            .collect();
        assert_eq!(sizes, [vec![("a", 4000), ("b", 96)], vec![("b", 4096)], vec![("b", 808), ("c", 1)]]);
        let numbers: Vec<_> = cut.iter().map(|part| (part.index, part.of)).collect();
        assert_eq!(numbers, [(0, 3), (1, 3), (2, 3)]);
        let mut ids: Vec<_> = cut.iter().map(id).collect();
        assert_eq!(ids[0], id(&cut[0]));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let owner = SourceKey::new("acme", "web");
        let reads = |partial: Partial| read(&encode(&partial), &owner).is_ok();
        assert!(reads(head()) && reads(Partial { from_ns: None, ..head() }));
        for bad in [
            Partial { v: 2, ..head() },
            Partial { source: owner.clone(), ..head() },
            Partial { source: SourceKey::new("acme", "db").with_part(3), ..head() },
            Partial { length_ns: 0, ..head() },
            Partial { length_ns: -10, ..head() },
            Partial { end_ns: 101, ..head() },
            Partial { from_ns: Some(100), ..head() },
            Partial { from_ns: Some(81), ..head() },
            Partial { of: 0, ..head() },
            Partial { index: 1, ..head() },
            Partial { of: 5000, ..head() },
        ] {
            assert!(!reads(bad.clone()), "{bad:?}");
        }
        assert!(read(b"web.1:2|c", &owner).is_err());
    }

    proptest! {
        #[test]
        fn values_come_back_to_the_last_bit(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            let back = value(&row("web-1", Some(number), 1));
            prop_assert_eq!(back.map(f64::to_bits), Some(bits).filter(|_| number.is_finite()));
        }
    }
}
