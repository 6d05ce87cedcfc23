//! What a customer's data has done that it may not: more than one of its limits allows, or what only another may do.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Epoch, SourceKey};

/// What was breached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreachKind {
    /// Limit: samples a second, over the minutes of the data's own time.
    SamplesPerSecond,
    /// Limit: distinct feeds of one source.
    Feeds,
    /// Limit: distinct pairs of feed and metric of one source, or the bytes of their names.
    Series,
    /// Limit: bytes of one message.
    MessageBytes,
    /// Security: the exchange that a delivery was published to is not its queue's customer's.
    ForeignExchange,
    /// Security: `user_id` is a login that may not publish for the customer.
    ForeignLogin,
    /// Security: the header `kin-customer` says another customer than the exchange.
    ForeignClaim,
    /// Security: a header `CC` or `BCC`, by which a message goes to more routing keys than its own.
    Copied,
}

impl BreachKind {
    /// All of them, limits first.
    pub const ALL: [Self; 8] = [
        Self::SamplesPerSecond,
        Self::Feeds,
        Self::Series,
        Self::MessageBytes,
        Self::ForeignExchange,
        Self::ForeignLogin,
        Self::ForeignClaim,
        Self::Copied,
    ];

    /// Name for a counter's label, as on the wire; it never changes once given.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SamplesPerSecond => "samples_per_second",
            Self::Feeds => "feeds",
            Self::Series => "series",
            Self::MessageBytes => "message_bytes",
            Self::ForeignExchange => "foreign_exchange",
            Self::ForeignLogin => "foreign_login",
            Self::ForeignClaim => "foreign_claim",
            Self::Copied => "copied",
        }
    }

    /// Whether it is a limit of the customer's, and not a security event.
    #[must_use]
    pub fn is_limit(self) -> bool {
        matches!(self, Self::SamplesPerSecond | Self::Feeds | Self::Series | Self::MessageBytes)
    }
}

/// What was breached, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breached {
    /// What.
    pub kind: BreachKind,
    /// The limit; 0 of a security event.
    #[serde(default)]
    pub limit: u64,
    /// The most that was seen of what is limited; 0 of a security event, and where no more is known than that it was more.
    #[serde(default)]
    pub value: u64,
    /// Samples that were dropped, or messages that were refused, since it began. A message with `CC` to its own customer's queue
    /// is counted here and taken all the same.
    pub dropped: u64,
    /// Of a security event, exchange and login as the last such message had them: escaped, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The word of a source's owner on a breach that goes on, or did until lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breach {
    /// The source, or one part of it.
    #[serde(flatten)]
    pub source: SourceKey,
    /// Epoch under which it is owned.
    pub epoch: Epoch,
    /// How long ago it began, milliseconds.
    pub since_ms: u64,
    /// How long ago it last happened, milliseconds.
    pub last_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Breached,
}

impl Breach {
    /// A breach that has not happened for this long is over; the next is a new one.
    pub const QUIET: Duration = Duration::from_secs(300);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_the_same_everywhere() {
        for kind in BreachKind::ALL {
            assert_eq!(serde_json::to_value(kind).expect("a name"), kind.as_str());
        }
        let limits = BreachKind::ALL.into_iter().filter(|kind| kind.is_limit());
        assert_eq!(limits.count(), 4);
    }
}
