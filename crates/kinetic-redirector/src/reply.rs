//! Answers, and why a request is refused.

use kinetic_wire::{CustomerName, Epoch, Limits, LocateReply, RegionName, RpcCode, RpcError, encode};
use serde::Serialize;

use crate::machine::Map;

/// A request that is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RpcCode,
    message: &'static str,
    retry_s: u64,
}

impl Refusal {
    const fn new(code: RpcCode, message: &'static str, retry_s: u64) -> Self {
        Self { code, message, retry_s }
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
    pub(crate) const UNKNOWN_LEASE: Self =
        Self::new(RpcCode::UnknownLease, "the lease is unknown or has lapsed: register again", 0);
    pub(crate) const SUPERSEDED: Self =
        Self::new(RpcCode::Superseded, "a newer process has this node's name: let everything go", 60);
    pub(crate) const REPLAYED: Self =
        Self::new(RpcCode::Replayed, "a later request of this process has been seen", 0);
    pub(crate) const FULL: Self = Self::new(RpcCode::Overload, "the table of analyzers is full", 30);
    pub(crate) const PARKED_FULL: Self =
        Self::new(RpcCode::Overload, "too many requests wait for the disk", 1);

    pub(crate) fn body(self) -> Vec<u8> {
        encode(&RpcError {
            ok: false,
            code: self.code,
            message: self.message.to_owned(),
            retry_s: self.retry_s,
        })
    }
}

/// [`LocateReply`] without owned text: a `locate` is answered more often than anything else.
#[derive(Serialize)]
struct LocateAnswer<'a> {
    ok: bool,
    customer: &'a CustomerName,
    region: &'a RegionName,
    endpoints: Endpoints<'a>,
    epoch: Epoch,
    ttl_s: u64,
    refresh_s: u64,
    stale_ok_s: u64,
    backoff_s: u64,
    limits: Limits,
    now_ms: i64,
}

#[derive(Serialize)]
struct EndpointAnswer<'a> {
    uri: &'a str,
    vhost: &'a str,
    exchange: &'a str,
    priority: usize,
}

struct Endpoints<'a> {
    addresses: &'a [(String, String)],
    exchange: &'a str,
}

impl Serialize for Endpoints<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.addresses.iter().enumerate().map(|(priority, (uri, vhost))| EndpointAnswer {
                uri,
                vhost,
                exchange: self.exchange,
                priority,
            }),
        )
    }
}

/// With no redirector to ask, an answer may be used for a day.
const STALE_OK_S: u64 = 86_400;
/// Room for an answer with two endpoints.
const LOCATE_BYTES: usize = 512;

/// What every `locate` answer of one moment has in common.
pub(crate) struct LocateTerms {
    pub(crate) epoch: Epoch,
    pub(crate) ttl_s: u64,
    pub(crate) limits: Limits,
    pub(crate) now_ms: i64,
}

/// The answer to a customer's `locate`.
pub(crate) fn locate(map: &Map, customer: &CustomerName, terms: &LocateTerms) -> Result<Vec<u8>, Refusal> {
    let entry = map.customers.get(customer).ok_or(Refusal::UNKNOWN_CUSTOMER)?;
    let addresses = map.regions.get(&entry.region).map_or(&[][..], Vec::as_slice);
    let exchange = kinetic_wire::names::ingress_exchange(customer);
    let answer = LocateAnswer {
        ok: true,
        customer,
        region: &entry.region,
        endpoints: Endpoints { addresses, exchange: &exchange },
        epoch: terms.epoch,
        ttl_s: terms.ttl_s,
        refresh_s: (terms.ttl_s * 4 / 5).max(1),
        stale_ok_s: STALE_OK_S,
        backoff_s: 0,
        limits: terms.limits,
        now_ms: terms.now_ms,
    };
    let mut body = Vec::with_capacity(LOCATE_BYTES);
    serde_json::to_writer(&mut body, &answer).expect("plain values serialise, and a Vec takes every byte");
    debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok());
    Ok(body)
}
