//! Requests to the alert node about mail that came back, and addresses to which nothing is sent. `docs/wire.md` explains them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bounce`: a mail has come back. Answered by [`Bounced`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bounce {
    /// Message version, 1.
    pub v: u32,
    /// What stands behind the `+` of the envelope sender: it names the recipient.
    pub token: String,
    /// Message-ID of the mail, without the angle brackets, where the report names it: of one mail one report counts.
    #[serde(default)]
    pub mail: Option<String>,
    /// The enhanced status code of the report (RFC 3464), `5.1.1`.
    pub status: String,
    /// Its words.
    #[serde(default)]
    pub detail: String,
}

/// Answer to `bounce`, once it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bounced {
    /// Always true.
    pub ok: bool,
    /// Whose mail came back.
    pub address: String,
    /// It counts as a refusal: what comes back with a passing reason, or was told of before, does not.
    pub counted: bool,
    /// Nothing more is sent to the address.
    pub suppressed: bool,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// An address to which nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionState {
    /// The address, without a name.
    pub address: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The last refusal in the relay's words.
    pub detail: String,
}

/// `suppressions`: to which addresses is nothing sent? Answered by [`SuppressionsReply`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionsQuestion {
    /// Message version, 1.
    pub v: u32,
    /// Only addresses after this one, as the last page's `next` says.
    #[serde(default)]
    pub after: Option<String>,
}

/// Answer to `suppressions`: one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuppressionsReply {
    /// Always true.
    pub ok: bool,
    /// By address.
    pub suppressions: Vec<SuppressionState>,
    /// There are more: ask with this as `after`.
    #[serde(default)]
    pub next: Option<String>,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// `unsuppress`: an address is good again. Answered by [`Unsuppressed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsuppress {
    /// Message version, 1.
    pub v: u32,
    /// The address, or a mailbox with it.
    pub address: String,
    /// Who says so.
    pub author: String,
}

/// Answer to `unsuppress`, once it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsuppressed {
    /// Always true.
    pub ok: bool,
    /// As it stood.
    pub suppression: SuppressionState,
    /// Alert node's wall clock, milliseconds since the Unix epoch.
    pub now_ms: i64,
}
