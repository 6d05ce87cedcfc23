//! What `locate` is answered from: the map, turned so that an answer costs one hash look-up and no owned text but the
//! body itself. And which version such answers have, which the leader alone decides.

use std::sync::Arc;

use kinetic_wire::{CustomerName, Endpoint, Epoch, Limits, LocateReply, RegionName, encode};

use crate::digest::Digest;
use crate::map::{CustomerEntry, Map, RegionEntry};
use crate::refusal::Refusal;

/// With no redirector to ask, an answer may be used for a day.
const STALE_OK_S: u64 = 86_400;
/// Room for an answer with two endpoints.
const LOCATE_BYTES: usize = 512;

/// What every answer has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl_s: u64,
    pub(crate) limits: Limits,
}

/// What differs from answer to answer of one region, beside the customer's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Ask again after this long.
    pub(crate) refresh_s: u64,
    /// We are busy: wait this much longer.
    pub(crate) backoff_s: u64,
    /// Wall clock.
    pub(crate) now_ms: i64,
}

/// What goes into an answer where a template has a hole.
#[derive(Clone, Copy, Debug)]
enum Hole {
    Customer,
    Version,
    Refresh,
    Backoff,
    Time,
}

/// Stands for the customer in a template; JSON writes it as `\u0001`, and no name of a checked schema holds it.
const CUSTOMER: &str = "\u{1}";
const CUSTOMER_JSON: &str = "\\u0001";
/// Stand for the numbers: no limit of ours is as large.
const VERSION: u64 = u64::MAX - 1;
const REFRESH_S: u64 = u64::MAX - 2;
const BACKOFF_S: u64 = u64::MAX - 3;
const NOW_MS: i64 = i64::MIN;

/// Every answer to a region's customers, cut where its holes are.
#[derive(Clone, Debug)]
struct Template {
    /// Text, and the hole behind it; none behind the last.
    pieces: Vec<(String, Option<Hole>)>,
    /// What the answer says, without what the holes get.
    digest: u64,
}

impl Template {
    fn new(region: &RegionName, addresses: &[(String, String)], terms: Terms) -> Self {
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
            epoch: Epoch(VERSION),
            ttl_s: terms.ttl_s,
            refresh_s: REFRESH_S,
            stale_ok_s: STALE_OK_S,
            backoff_s: BACKOFF_S,
            limits: terms.limits,
            now_ms: NOW_MS,
        });
        let text = String::from_utf8(answer).expect("JSON is UTF-8");
        let mut digest = Digest::new();
        digest.add(&text);
        Self { pieces: cut(&text), digest: digest.short() }
    }

    fn fill(&self, customer: &str, version: Epoch, now: Now) -> Vec<u8> {
        let mut body = Vec::with_capacity(LOCATE_BYTES);
        for (text, hole) in &self.pieces {
            body.extend_from_slice(text.as_bytes());
            match hole {
                None => {}
                Some(Hole::Customer) => body.extend_from_slice(customer.as_bytes()),
                Some(Hole::Version) => number(&mut body, version.0),
                Some(Hole::Refresh) => number(&mut body, now.refresh_s),
                Some(Hole::Backoff) => number(&mut body, now.backoff_s),
                Some(Hole::Time) => number(&mut body, now.now_ms),
            }
        }
        body
    }
}

fn number(body: &mut Vec<u8>, number: impl serde::Serialize) {
    serde_json::to_writer(body, &number).expect("a Vec takes every byte");
}

/// Cuts an answer at what stands for its holes.
fn cut(mut text: &str) -> Vec<(String, Option<Hole>)> {
    let marks = [
        (CUSTOMER_JSON.to_owned(), Hole::Customer),
        (VERSION.to_string(), Hole::Version),
        (REFRESH_S.to_string(), Hole::Refresh),
        (BACKOFF_S.to_string(), Hole::Backoff),
        (NOW_MS.to_string(), Hole::Time),
    ];
    let mut pieces = Vec::new();
    loop {
        let first = marks
            .iter()
            .filter_map(|(mark, hole)| Some((text.find(mark.as_str())?, mark.len(), *hole)))
            .min_by_key(|(at, _, _)| *at);
        let Some((at, len, hole)) = first else {
            pieces.push((text.to_owned(), None));
            return pieces;
        };
        pieces.push((text[..at].to_owned(), Some(hole)));
        text = &text[at + len..];
    }
}

/// The answers that one schema revision gives.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    pub(crate) map: Arc<Map>,
    /// The same on every redirector that answers the same.
    pub(crate) digest: String,
    /// By the map's index of the region.
    regions: Vec<Template>,
}

impl Routes {
    pub(crate) fn new(map: Arc<Map>, terms: Terms) -> Self {
        let template = |region: &RegionEntry| Template::new(&region.name, &region.addresses, terms);
        let regions: Vec<Template> = map.regions().iter().map(template).collect();
        let mut digest = Digest::new();
        for customer in map.customers() {
            digest.add(customer.name);
            digest.add_number(says(&regions, customer));
        }
        Self { digest: digest.text(), regions, map }
    }

    /// What the customer's answer says, in short; two that differ here differ for the client.
    pub(crate) fn says(&self, customer: &str) -> u64 {
        self.map.customer(customer).map_or(UNKNOWN, |known| says(&self.regions, known))
    }

    /// The answer to a customer's `locate`.
    pub(crate) fn locate(&self, customer: &str, version: Epoch, now: Now) -> Result<Vec<u8>, Refusal> {
        let known = self.map.customer(customer).filter(|known| is_plain(known.name));
        let known = known.ok_or(Refusal::UNKNOWN_CUSTOMER)?;
        if known.disabled {
            return Err(Refusal::DISABLED);
        }
        let body = self.regions[usize::from(known.region)].fill(customer, version, now);
        debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok(), "names are plain");
        Ok(body)
    }
}

/// In place of a digest: the schema has no such customer, or has it switched off.
const UNKNOWN: u64 = 0;
const DISABLED: u64 = 1;

fn says(regions: &[Template], customer: CustomerEntry<'_>) -> u64 {
    if customer.disabled { DISABLED } else { regions[usize::from(customer.region)].digest }
}

/// A checked schema has plain names only; any other is nobody's, rather than broken JSON.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte > b' ' && byte != b'"' && byte != b'\\')
}

/// The routes that are answered from, with their version; and newer ones whose version is not known or not stored yet.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) routes: Routes,
    /// 0: nobody has told us any.
    pub(crate) version: Epoch,
    next: Option<Routes>,
    /// As leader: the version that is being stored, for `next`, or for what has none.
    storing: Option<Epoch>,
    /// What a leader said last: these answers have this version.
    heard: Option<(String, Epoch)>,
}

impl Answers {
    pub(crate) fn new(routes: Routes) -> Self {
        Self { routes, version: Epoch(0), next: None, storing: None, heard: None }
    }

    /// Another schema revision stands. True if what is answered has changed.
    pub(crate) fn offer(&mut self, routes: Routes) -> bool {
        if self.routes.digest == routes.digest {
            // Back to what is answered; its version stands, or is still being stored.
            self.storing = self.storing.filter(|_| self.next.is_none());
            (self.routes, self.next) = (routes, None);
            return false;
        }
        self.storing = self.storing.filter(|_| self.next.as_ref().is_some_and(|n| n.digest == routes.digest));
        // A version that a leader has said for these very answers, unless a later one was said for others meanwhile.
        let heard = self
            .heard
            .as_ref()
            .filter(|(digest, version)| *digest == routes.digest && *version > self.version);
        let heard = heard.map(|(_, version)| *version);
        self.next = Some(routes);
        match heard {
            Some(version) => self.swap(version),
            // Without any version there is nothing that the older routes are better for.
            None => self.version == Epoch(0) && self.storing.is_none() && self.swap(Epoch(0)),
        }
    }

    /// As standby: the leader says which version the answers of this digest have. True if what is answered has changed.
    pub(crate) fn hear(&mut self, digest: &str, version: Epoch) -> bool {
        if self.heard.as_ref().is_none_or(|(known, of)| known != digest || *of != version) {
            self.heard = Some((digest.to_owned(), version));
        }
        if self.next.as_ref().is_some_and(|next| next.digest == digest) {
            return self.swap(version);
        }
        if self.routes.digest == digest {
            self.version = version;
        }
        false
    }

    fn swap(&mut self, version: Epoch) -> bool {
        match self.next.take() {
            Some(routes) => {
                (self.routes, self.version) = (routes, version);
                true
            }
            None => false,
        }
    }

    /// The routes of the schema revision that stands.
    pub(crate) fn newest(&self) -> &Routes {
        self.next.as_ref().unwrap_or(&self.routes)
    }

    /// As leader: whether there are answers that need a new version.
    pub(crate) fn wants_version(&self) -> bool {
        self.storing.is_none() && (self.next.is_some() || self.version == Epoch(0))
    }

    /// As leader: the version of what has none yet, to be said once it is stored.
    pub(crate) fn store(&mut self, version: Epoch) {
        self.storing = Some(version);
    }

    /// As leader: puts in force what is stored. True if what is answered has changed.
    pub(crate) fn stored(&mut self, may_say: impl Fn(Epoch) -> bool) -> bool {
        let Some(version) = self.storing.take_if(|version| may_say(*version)) else {
            return false;
        };
        self.version = version;
        self.swap(version)
    }

    /// Not leader any more: what was being stored is nobody's.
    pub(crate) fn depose(&mut self) {
        self.storing = None;
    }
}
