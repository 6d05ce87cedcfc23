//! What travels beside a body: AMQP properties and our `kin-*` headers, as one plain value.
//!
//! Every field is optional, because no tool in the field sets them (`docs/wire.md`). Rules for our own headers:
//! scalars only, no `x-` prefix, at most 16 keys and 4 KiB in all.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{Epoch, Wall};

/// Properties of one message. Borrowed from a delivery on the way in, owned on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Media type of the body; a hint (`text/plain` says nothing).
    pub content_type: Option<Cow<'a, str>>,
    /// `gzip`, `zstd` or absent; verified by decoding.
    pub content_encoding: Option<Cow<'a, str>>,
    /// `type`: `kinetic.<plane>.<kind>.v<major>`, by which our own messages are dispatched.
    pub kind: Option<Cow<'a, str>>,
    /// `message_id`; ours are `UUIDv7`.
    pub message_id: Option<Cow<'a, str>>,
    /// `app_id`: the tool that published; a hint.
    pub app_id: Option<Cow<'a, str>>,
    /// `user_id`: the login, verified by the broker where it is set.
    pub user_id: Option<Cow<'a, str>>,
    /// `timestamp`: whole seconds since the Unix epoch, by the publisher's clock.
    pub timestamp_s: Option<u64>,
    /// `correlation_id` of a request or reply; of a test event, the source that is meant.
    pub correlation_id: Option<Cow<'a, str>>,
    /// `reply_to` of a request.
    pub reply_to: Option<Cow<'a, str>>,
    /// `expiration` in milliseconds.
    pub expiration_ms: Option<u64>,
    /// `delivery_mode = 2`: the broker keeps it on disk.
    pub persistent: bool,
    /// `kin-origin`: the feed, as the publishing host names itself.
    pub origin: Option<Cow<'a, str>>,
    /// `kin-profile`: the profile that the publisher believes it has.
    pub profile: Option<Cow<'a, str>>,
    /// `kin-ts-ns`: when the body's first line arrived, by the publisher's clock. The agent closes a body when the
    /// second changes, so this stamp puts all its lines into the window (of whole seconds) that they arrived in.
    pub ts: Option<Wall>,
    /// `kin-seq`: grows by one per body of one incarnation.
    pub seq: Option<u64>,
    /// `kin-inc`: the publisher's incarnation.
    pub inc: Option<Uuid>,
    /// `kin-epoch`: the ownership epoch of an analyzer's output.
    pub epoch: Option<Epoch>,
    /// `kin-customer`: never believed; if it disagrees with the exchange, that is a security event.
    pub claimed_customer: Option<Cow<'a, str>>,
    /// W3C `traceparent`.
    pub traceparent: Option<Cow<'a, str>>,
    /// `kin-moved`: the routing key that the body was first published with. One of Kinetic's own nodes has carried it here from
    /// the region that its customer was in before; believed only where no customer can publish.
    pub moved: Option<Cow<'a, str>>,
    /// There is a header `CC` or `BCC`: the broker has routed the message by more keys than its own. Never sent by ours. (A
    /// broker takes `BCC` off as it routes.)
    pub copied: bool,
}

impl Envelope<'_> {
    /// The same, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Envelope<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Envelope {
            content_type: owned(self.content_type),
            content_encoding: owned(self.content_encoding),
            kind: owned(self.kind),
            message_id: owned(self.message_id),
            app_id: owned(self.app_id),
            user_id: owned(self.user_id),
            timestamp_s: self.timestamp_s,
            correlation_id: owned(self.correlation_id),
            reply_to: owned(self.reply_to),
            expiration_ms: self.expiration_ms,
            persistent: self.persistent,
            origin: owned(self.origin),
            profile: owned(self.profile),
            ts: self.ts,
            seq: self.seq,
            inc: self.inc,
            epoch: self.epoch,
            claimed_customer: owned(self.claimed_customer),
            traceparent: owned(self.traceparent),
            moved: owned(self.moved),
            copied: self.copied,
        }
    }
}

/// Header names.
impl Envelope<'_> {
    /// Header of `origin`.
    pub const ORIGIN: &'static str = "kin-origin";
    /// Header of `profile`.
    pub const PROFILE: &'static str = "kin-profile";
    /// Header of `ts`.
    pub const TS_NS: &'static str = "kin-ts-ns";
    /// Header of `seq`.
    pub const SEQ: &'static str = "kin-seq";
    /// Header of `inc`.
    pub const INC: &'static str = "kin-inc";
    /// Header of `epoch`.
    pub const EPOCH: &'static str = "kin-epoch";
    /// Header of `claimed_customer`.
    pub const CUSTOMER: &'static str = "kin-customer";
    /// Header of `traceparent`.
    pub const TRACEPARENT: &'static str = "traceparent";
    /// Header of `moved`.
    pub const MOVED: &'static str = "kin-moved";
    /// Headers of `copied`, which are the broker's own.
    pub const COPIES: [&'static str; 2] = ["CC", "BCC"];
}
