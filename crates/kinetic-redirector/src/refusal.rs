//! Why a request is refused.

use std::borrow::Cow;

use kinetic_wire::{RpcCode, RpcError, encode};

/// Until the schema or the client has been mended.
const EXPLAINED_RETRY_S: u64 = 60;

/// A request that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RpcCode,
    message: Cow<'static, str>,
    retry_s: u64,
}

impl Refusal {
    const fn new(code: RpcCode, message: &'static str, retry_s: u64) -> Self {
        Self { code, message: Cow::Borrowed(message), retry_s }
    }

    pub(crate) const MALFORMED: Self =
        Self::new(RpcCode::Malformed, "the body is not the message that the routing key names", 60);
    pub(crate) const UNKNOWN_KIND: Self =
        Self::new(RpcCode::Malformed, "no request has this routing key", 60);
    pub(crate) const TOO_LARGE: Self =
        Self::new(RpcCode::Malformed, "the body is larger than any request", 60);
    pub(crate) const VERSION: Self = Self::new(RpcCode::Version, "this redirector speaks version 1", 60);
    pub(crate) const NO_LOGIN: Self =
        Self::new(RpcCode::Unauthenticated, "set user_id to the login of the connection", 60);
    pub(crate) const CUSTOMERS_LOGIN: Self =
        Self::new(RpcCode::Unauthenticated, "a customer's login may locate and nothing else", 60);
    pub(crate) const UNKNOWN_CUSTOMER: Self =
        Self::new(RpcCode::UnknownCustomer, "the schema has no customer of this login", 60);
    pub(crate) const DISABLED: Self =
        Self::new(RpcCode::Disabled, "the schema has switched this customer off", 60);
    pub(crate) const UNKNOWN_LEASE: Self =
        Self::new(RpcCode::UnknownLease, "the lease is unknown or has lapsed: register again", 0);
    pub(crate) const SUPERSEDED: Self =
        Self::new(RpcCode::Superseded, "a newer process has this node's name: let everything go", 60);
    pub(crate) const REPLAYED: Self =
        Self::new(RpcCode::Replayed, "a later request of this process has been seen", 0);
    pub(crate) const FULL: Self = Self::new(RpcCode::Overload, "the table of analyzers is full", 30);
    pub(crate) const NOT_LEADER: Self =
        Self::new(RpcCode::NotLeader, "this redirector does not lead: ask again", 1);
    pub(crate) const UNKNOWN_NODE: Self =
        Self::new(RpcCode::UnknownNode, "no analyzer of this name has a lease", 60);

    /// A refusal that says what there is instead.
    pub(crate) fn explained(code: RpcCode, message: String) -> Self {
        Self { code, message: Cow::Owned(message), retry_s: EXPLAINED_RETRY_S }
    }

    pub(crate) fn body(self) -> Vec<u8> {
        encode(&RpcError {
            ok: false,
            code: self.code,
            message: self.message.into_owned(),
            retry_s: self.retry_s,
        })
    }
}
