//! What `locate` is answered from: the map, turned so that an answer costs one hash look-up and no owned text but the
//! body itself.

use std::sync::Arc;

use kinetic_wire::{CustomerName, Endpoint, Epoch, Incarnation, Limits, LocateReply, RegionName, encode};
use serde::Deserialize;

use crate::map::{CustomerEntry, Map, RegionEntry};
use crate::refusal::Refusal;

/// With no redirector to ask, an answer may be used for a day.
const STALE_OK_S: u64 = 86_400;
/// Room for an answer with two endpoints.
const LOCATE_BYTES: usize = 512;

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

/// One version of the routes.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) map: Arc<Map>,
    /// Grows when an answer can differ.
    pub(crate) epoch: Epoch,
    /// By the map's index of the region.
    regions: Vec<Template>,
}

impl Routes {
    pub(crate) fn new(map: Arc<Map>, epoch: Epoch, terms: Terms) -> Self {
        let template = |region: &RegionEntry| Template::new(&region.name, &region.addresses, epoch, terms);
        Self { epoch, regions: map.regions().iter().map(template).collect(), map }
    }

    /// Whether a map gives every client the answer that these routes give.
    pub(crate) fn same(&self, map: &Map) -> bool {
        let old = &*self.map;
        let addresses = |region: &RegionEntry| (region.name.clone(), region.addresses.clone());
        let equal = |(a, b): (CustomerEntry<'_>, CustomerEntry<'_>)| {
            let region = |map: &Map, index: u16| map.regions()[usize::from(index)].name.clone();
            (a.name, a.disabled) == (b.name, b.disabled) && region(old, a.region) == region(map, b.region)
        };
        old.regions().iter().map(addresses).eq(map.regions().iter().map(addresses))
            && old.customers().len() == map.customers().len()
            && old.customers().zip(map.customers()).all(equal)
    }

    /// The answer to a customer's `locate`.
    pub(crate) fn locate(&self, customer: &str, now_ms: i64) -> Result<Vec<u8>, Refusal> {
        let known = self.map.customer(customer).filter(|known| is_plain(known.name));
        let known = known.ok_or(Refusal::UNKNOWN_CUSTOMER)?;
        if known.disabled {
            return Err(Refusal::DISABLED);
        }
        let body = self.regions[usize::from(known.region)].fill(customer, now_ms);
        debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok(), "names are plain");
        Ok(body)
    }
}

/// A checked schema has plain names only; any other is nobody's, rather than broken JSON.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte > b' ' && byte != b'"' && byte != b'\\')
}
