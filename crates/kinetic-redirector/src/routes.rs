//! What `locate` is answered from: the map, turned so that an answer costs one hash look-up and no owned text but the
//! body itself.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};
use kinetic_wire::{CustomerName, Epoch, Incarnation, Limits, LocateReply, RegionName};
use serde::{Deserialize, Serialize};

use crate::machine::Map;
use crate::refusal::Refusal;

/// With no redirector to ask, an answer may be used for a day.
const STALE_OK_S: u64 = 86_400;
/// Room for an answer with two endpoints.
const LOCATE_BYTES: usize = 512;
/// Any fixed seed: order cannot show, since nothing goes through all entries.
const HASH_SEED: u64 = 0x6b69_6e65_7469_6300;

/// What is read of a [`kinetic_wire::Locate`]: the rest does not change the answer yet.
#[derive(Deserialize)]
pub(crate) struct Question {
    pub(crate) v: u32,
    #[serde(rename = "client")]
    _client: Incarnation,
}

/// What every answer of one moment has in common.
pub(crate) struct Terms {
    pub(crate) ttl_s: u64,
    pub(crate) limits: Limits,
    pub(crate) now_ms: i64,
}

/// A customer's name, borrowed from a login, to look it up by. Hashes as [`CustomerName`] does: as its text.
#[derive(Hash)]
struct Name<'a>(&'a str);

impl Equivalent<CustomerName> for Name<'_> {
    fn equivalent(&self, key: &CustomerName) -> bool {
        self.0 == key.as_str()
    }
}

/// One version of the routes.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) map: Arc<Map>,
    /// Grows when an answer can differ.
    pub(crate) epoch: Epoch,
    regions: Vec<(RegionName, Vec<(String, String)>)>,
    /// Index into `regions` by customer.
    customers: HashMap<CustomerName, u32, FixedState>,
}

impl Routes {
    pub(crate) fn new(map: Arc<Map>, epoch: Epoch) -> Self {
        let mut regions: Vec<(RegionName, Vec<(String, String)>)> =
            map.regions.iter().map(|(name, addresses)| (name.clone(), addresses.clone())).collect();
        let mut customers =
            HashMap::with_capacity_and_hasher(map.customers.len(), FixedState::with_seed(HASH_SEED));
        for (customer, entry) in &map.customers {
            let known = regions[..map.regions.len()].binary_search_by(|(name, _)| name.cmp(&entry.region));
            // A checked schema has every region; one without addresses is answered with none.
            let index = known.unwrap_or_else(|_| {
                regions.push((entry.region.clone(), Vec::new()));
                regions.len() - 1
            });
            customers.insert(customer.clone(), u32::try_from(index).unwrap_or(u32::MAX));
        }
        Self { map, epoch, regions, customers }
    }

    /// Whether a map gives every client the answer that these routes give.
    pub(crate) fn same(&self, map: &Map) -> bool {
        let old = &self.map;
        old.regions == map.regions
            && old.customers.len() == map.customers.len()
            && old.customers.iter().zip(&map.customers).all(|(a, b)| a.0 == b.0 && a.1.region == b.1.region)
    }

    /// The answer to a customer's `locate`.
    pub(crate) fn locate(&self, customer: &str, terms: &Terms) -> Result<Vec<u8>, Refusal> {
        let (customer, region) =
            self.customers.get_key_value(&Name(customer)).ok_or(Refusal::UNKNOWN_CUSTOMER)?;
        let (region, addresses) = &self.regions[*region as usize];
        let exchange = kinetic_wire::names::ingress_exchange(customer);
        let answer = Answer {
            ok: true,
            customer,
            region,
            endpoints: Endpoints { addresses, exchange: &exchange },
            epoch: self.epoch,
            ttl_s: terms.ttl_s,
            refresh_s: (terms.ttl_s * 4 / 5).max(1),
            stale_ok_s: STALE_OK_S,
            backoff_s: 0,
            limits: terms.limits,
            now_ms: terms.now_ms,
        };
        let mut body = Vec::with_capacity(LOCATE_BYTES);
        serde_json::to_writer(&mut body, &answer)
            .expect("plain values serialise, and a Vec takes every byte");
        debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok());
        Ok(body)
    }
}

/// [`LocateReply`] without owned text: a `locate` is answered more often than anything else.
#[derive(Serialize)]
struct Answer<'a> {
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
struct Endpoint<'a> {
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
        serializer.collect_seq(self.addresses.iter().enumerate().map(|(priority, (uri, vhost))| Endpoint {
            uri,
            vhost,
            exchange: self.exchange,
            priority,
        }))
    }
}
