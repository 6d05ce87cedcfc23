//! Test events: one burst from a feed that does not exist, followed from stage to stage to the relay's answer. `docs/test-event.md`
//! explains them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CustomerName, Epoch, NodeId};

/// Digits of a trace id, lower-case hexadecimal, as in a W3C `traceparent`.
pub const TRACE_DIGITS: usize = 32;

/// The trace id of a W3C `traceparent` of version 00: `00-<32 hex>-<16 hex>-<2 hex>`, none of the ids all zeros.
#[must_use]
pub fn trace_of(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let fits = version == "00" && is_trace(trace) && is_id(span, 16) && is_hex(flags, 2);
    (fits && parts.next().is_none()).then_some(trace)
}

/// Whether a text is a trace id: 32 lower-case hexadecimal digits, not all of them zeros.
#[must_use]
pub fn is_trace(text: &str) -> bool {
    is_id(text, TRACE_DIGITS)
}

fn is_id(text: &str, digits: usize) -> bool {
    is_hex(text, digits) && text.bytes().any(|byte| byte != b'0')
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `test-event`: an operator is about to publish a test event, and whoever answers is to mail what comes of it. Without this
/// nothing is mailed, whatever a customer publishes. Answered by [`TestAnnounced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnnounceTest {
    /// Message version, 1.
    pub v: u32,
    /// Whose line is tested.
    pub customer: CustomerName,
    /// Trace id that the event will carry, 32 hexadecimal digits.
    pub trace: String,
    /// Mailboxes instead of those that the customer's alert blocks name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// For how long the test is followed, milliseconds; what has not been sent by then is not sent any more.
    pub wait_ms: u64,
}

/// Answer to `test-event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestAnnounced {
    /// Always true.
    pub ok: bool,
    /// Who will be mailed, each address once.
    pub to: Vec<String>,
    /// Recipients beyond the bound, who will not be mailed.
    #[serde(default)]
    pub cut: u64,
    /// Relays in the order in which they are tried.
    pub relays: Vec<String>,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// Where a test event has come to, in the order of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The alert node knows that it will come.
    Announced,
    /// It is known where to publish, and who owns the source.
    Located,
    /// The broker of the customer's region has it.
    Published,
    /// The source's owner has it.
    Delivered,
    /// Its lines are read, and its feeds known.
    Decoded,
    /// Its window is closed, and one feed out of line.
    Judged,
    /// The alert event is with the control broker.
    Alerted,
    /// The alert node has it on disk.
    Stored,
    /// It has entered a group of its own, and recipients are known.
    Grouped,
    /// A mail is recorded and waits for a relay.
    Queued,
    /// A relay has been chosen, and is being talked to.
    Sending,
    /// The relay has taken the mail.
    Accepted,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 12] = [
        Self::Announced,
        Self::Located,
        Self::Published,
        Self::Delivered,
        Self::Decoded,
        Self::Judged,
        Self::Alerted,
        Self::Stored,
        Self::Grouped,
        Self::Queued,
        Self::Sending,
        Self::Accepted,
    ];

    /// As messages spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Located => "located",
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Decoded => "decoded",
            Self::Judged => "judged",
            Self::Alerted => "alerted",
            Self::Stored => "stored",
            Self::Grouped => "grouped",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
        }
    }
}

/// What a stage has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Passed: the next one is awaited.
    Passed,
    /// It has not worked yet and is tried again; the detail says what happened.
    Waits,
    /// It ends here; the detail says why.
    Failed,
}

/// On `kin.trace`, with the trace id as routing key: a test event has come to a stage. Transient and best effort: nobody waits for
/// it, and where nobody listens it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestStage {
    /// Message version, 1.
    pub v: u32,
    /// Which test.
    pub trace: String,
    /// Whose line.
    pub customer: CustomerName,
    /// Where.
    pub stage: Stage,
    /// How it went.
    pub progress: Progress,
    /// In words.
    pub detail: String,
    /// Clock of whoever says so, milliseconds since the Unix epoch; not to be compared with another's.
    pub at_ms: i64,
    /// The analyzer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The owner's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The recipient, where there is one mail for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// The mail's Message-ID without the angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_read_from_a_traceparent_that_is_one() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let good = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(trace_of(&good), Some(trace));
        for bad in [
            "".to_owned(),
            trace.to_owned(),
            format!("01-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-00f067aa0ba902b7-01-x"),
            format!("00-{}-00f067aa0ba902b7-01", &trace[1..]),
        ] {
            assert_eq!(trace_of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn stages_are_spelled_as_in_json_and_are_in_order() {
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).expect("JSON"), stage.as_str());
        }
        assert!(Stage::ALL.is_sorted());
    }
}
