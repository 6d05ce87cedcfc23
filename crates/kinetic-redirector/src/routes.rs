//! What `locate` is answered from: the map, turned so that an answer costs one hash look-up and no owned text but the
//! body itself.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};
use kinetic_wire::{CustomerName, Endpoint, Epoch, Incarnation, Limits, LocateReply, RegionName, encode};
use serde::Deserialize;

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

/// What every answer has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl_s: u64,
    pub(crate) limits: Limits,
}

/// Stands for the customer in a template; JSON writes it as `\u0001`, and no name of a checked schema holds it.
const CUSTOMER: &str = "\u{1}";
const CUSTOMER_JSON: &str = "\\u0001";
/// Stands for the time.
const NOW_MS: i64 = i64::MIN;

/// Every answer to a region's customers, cut where the customer's name and the time go.
#[derive(Clone, Debug)]
struct Template {
    /// The name stands between every two of these.
    around_name: Vec<String>,
    /// The time stands before this.
    end: String,
}

impl Template {
    fn new(region: &RegionName, addresses: &[(String, String)], epoch: Epoch, terms: Terms) -> Self {
        let customer = CustomerName::new(CUSTOMER);
        let endpoint = |(priority, (uri, vhost)): (usize, &(String, String))| Endpoint {
            uri: uri.clone(),
            vhost: vhost.clone(),
            exchange: kinetic_wire::names::ingress_exchange(&customer),
            priority: u32::try_from(priority).unwrap_or(u32::MAX),
        };
        let answer = encode(&LocateReply {
            ok: true,
            customer: customer.clone(),
            region: region.clone(),
            endpoints: addresses.iter().enumerate().map(endpoint).collect(),
            epoch,
            ttl_s: terms.ttl_s,
            refresh_s: (terms.ttl_s * 4 / 5).max(1),
            stale_ok_s: STALE_OK_S,
            backoff_s: 0,
            limits: terms.limits,
            now_ms: NOW_MS,
        });
        let text = String::from_utf8(answer).expect("JSON is UTF-8");
        let (text, end) = text.rsplit_once(&NOW_MS.to_string()).expect("the time was just written");
        Self { around_name: text.split(CUSTOMER_JSON).map(str::to_owned).collect(), end: end.to_owned() }
    }

    fn fill(&self, customer: &str, now_ms: i64) -> Vec<u8> {
        let mut body = Vec::with_capacity(LOCATE_BYTES);
        for (index, part) in self.around_name.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(customer.as_bytes());
            }
            body.extend_from_slice(part.as_bytes());
        }
        serde_json::to_writer(&mut body, &now_ms).expect("a Vec takes every byte");
        body.extend_from_slice(self.end.as_bytes());
        body
    }
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
    regions: Vec<Template>,
    /// Index into `regions` by customer.
    customers: HashMap<CustomerName, u32, FixedState>,
}

impl Routes {
    pub(crate) fn new(map: Arc<Map>, epoch: Epoch, terms: Terms) -> Self {
        let names: Vec<&RegionName> = map.regions.keys().collect();
        let mut regions: Vec<Template> = map
            .regions
            .iter()
            .map(|(region, addresses)| Template::new(region, addresses, epoch, terms))
            .collect();
        let mut customers =
            HashMap::with_capacity_and_hasher(map.customers.len(), FixedState::with_seed(HASH_SEED));
        // A checked schema has plain names only; any other is nobody's, rather than broken JSON.
        let plain = |name: &str| name.bytes().all(|byte| byte > b' ' && byte != b'"' && byte != b'\\');
        for (customer, entry) in map.customers.iter().filter(|(name, _)| plain(name.as_str())) {
            let known = names.binary_search(&&entry.region);
            // A checked schema has every region; one without addresses is answered with none.
            let index = known.unwrap_or_else(|_| {
                regions.push(Template::new(&entry.region, &[], epoch, terms));
                regions.len() - 1
            });
            customers.insert(customer.clone(), u32::try_from(index).unwrap_or(u32::MAX));
        }
        Self { epoch, regions, customers, map }
    }

    /// Whether a map gives every client the answer that these routes give.
    pub(crate) fn same(&self, map: &Map) -> bool {
        let old = &self.map;
        old.regions == map.regions
            && old.customers.len() == map.customers.len()
            && old.customers.iter().zip(&map.customers).all(|(a, b)| a.0 == b.0 && a.1.region == b.1.region)
    }

    /// The answer to a customer's `locate`.
    pub(crate) fn locate(&self, customer: &str, now_ms: i64) -> Result<Vec<u8>, Refusal> {
        let region = self.customers.get(&Name(customer)).ok_or(Refusal::UNKNOWN_CUSTOMER)?;
        let body = self.regions[*region as usize].fill(customer, now_ms);
        debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok(), "names are plain");
        Ok(body)
    }
}
