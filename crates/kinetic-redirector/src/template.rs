//! The answer to all of a region's customers, written once and cut where answers differ, so that one is made by copying.

use kinetic_wire::{CustomerName, Endpoint, Epoch, Incarnation, Limits, LocateReply, encode};

use crate::digest::Digest;
use crate::map::{AddressOrder, RegionEntry};
use crate::prefer;
use crate::rng::mix;

/// With no redirector to ask, an answer may be used for a day.
const STALE_OK_S: u64 = 86_400;
/// Room for what goes into an answer's holes.
const HOLES_BYTES: usize = 256;

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

/// Who asks, as far as the order of addresses goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker<'q> {
    /// The host that the client says it runs on.
    Origin(&'q str),
    /// It says none: the process itself.
    Client(Incarnation),
}

impl Asker<'_> {
    fn hash(self) -> u64 {
        match self {
            Self::Origin(origin) => prefer::hash([origin, "origin"]),
            Self::Client(client) => {
                let (high, low) = client.0.as_u64_pair();
                mix(high ^ mix(low))
            }
        }
    }
}

/// What goes into an answer where a template has a hole.
#[derive(Clone, Copy, Debug)]
enum Hole {
    Customer,
    Version,
    Refresh,
    Backoff,
    Time,
    Endpoints,
    Priority,
}

/// Stands for the customer in a template; JSON writes it as `\u0001`, and no name of a checked schema holds it.
const CUSTOMER: &str = "\u{1}";
const CUSTOMER_JSON: &str = "\\u0001";
/// Stand for the numbers: no limit of ours is as large.
const VERSION: u64 = u64::MAX - 1;
const REFRESH_S: u64 = u64::MAX - 2;
const BACKOFF_S: u64 = u64::MAX - 3;
const NOW_MS: i64 = i64::MIN;
/// Stand for all endpoints, and for the place of one. Neither can be part of a text in JSON: its quotes would be escaped.
const NO_ENDPOINTS: &str = "\"endpoints\":[]";
const PRIORITY: &str = "\"priority\":0";

type Pieces = Vec<(String, Option<Hole>)>;

/// An endpoint that stands at another place in each origin's answer.
#[derive(Clone, Debug)]
struct Place {
    pieces: Pieces,
    hash: u64,
}

/// Every answer to a region's customers, cut where its holes are.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Text, and the hole behind it; none behind the last.
    pieces: Pieces,
    /// Where each origin has an order of its own.
    places: Vec<Place>,
    /// Room for an answer.
    bytes: usize,
    /// What the answer says, without what the holes get.
    pub(crate) digest: u64,
}

impl Template {
    pub(crate) fn new(region: &RegionEntry, terms: Terms) -> Self {
        let customer = CustomerName::new(CUSTOMER);
        let endpoint = |(priority, (uri, vhost)): (usize, &(String, String))| Endpoint {
            uri: uri.clone(),
            vhost: vhost.clone(),
            exchange: kinetic_wire::names::ingress_exchange(&customer),
            priority: u32::try_from(priority).unwrap_or(u32::MAX),
        };
        let (mut listed, mut places) = (Vec::new(), Vec::new());
        match region.order {
            AddressOrder::Listed => listed = region.addresses.iter().enumerate().map(endpoint).collect(),
            AddressOrder::ByOrigin => {
                // The same in whatever order they are listed.
                let mut addresses = region.addresses.clone();
                addresses.sort();
                addresses.dedup();
                places.extend(addresses.iter().map(|address| Place {
                    pieces: cut(
                        &text(&endpoint((0, address))),
                        &[(CUSTOMER_JSON, Hole::Customer), (PRIORITY, Hole::Priority)],
                    ),
                    hash: prefer::hash([&address.0, &address.1]),
                }));
            }
        }
        let answer = text(&LocateReply {
            ok: true,
            customer: customer.clone(),
            region: region.name.clone(),
            endpoints: listed,
            epoch: Epoch(VERSION),
            ttl_s: terms.ttl_s,
            refresh_s: REFRESH_S,
            stale_ok_s: STALE_OK_S,
            backoff_s: BACKOFF_S,
            limits: terms.limits,
            now_ms: NOW_MS,
            // A region's answers are one template; whoever signs puts the credential in.
            credential: None,
        });
        let mut digest = Digest::new();
        digest.add(&answer);
        places.iter().flat_map(|place| &place.pieces).for_each(|(text, _)| digest.add(text));
        let [version, refresh, backoff, now] =
            [VERSION.to_string(), REFRESH_S.to_string(), BACKOFF_S.to_string(), NOW_MS.to_string()];
        let mut marks = vec![
            (CUSTOMER_JSON, Hole::Customer),
            (version.as_str(), Hole::Version),
            (&refresh, Hole::Refresh),
            (&backoff, Hole::Backoff),
            (&now, Hole::Time),
        ];
        if !places.is_empty() {
            marks.push((NO_ENDPOINTS, Hole::Endpoints));
        }
        let pieces = cut(&answer, &marks);
        let written = pieces.iter().chain(places.iter().flat_map(|place| &place.pieces));
        let bytes = written.map(|(text, _)| text.len() + CUSTOMER.len()).sum::<usize>() + HOLES_BYTES;
        Self { pieces, places, bytes, digest: digest.short() }
    }

    pub(crate) fn fill(&self, customer: &str, asker: Asker<'_>, version: Epoch, now: Now) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.bytes);
        for (text, hole) in &self.pieces {
            body.extend_from_slice(text.as_bytes());
            match hole {
                None | Some(Hole::Priority) => {}
                Some(Hole::Customer) => body.extend_from_slice(customer.as_bytes()),
                Some(Hole::Version) => number(&mut body, version.0),
                Some(Hole::Refresh) => number(&mut body, now.refresh_s),
                Some(Hole::Backoff) => number(&mut body, now.backoff_s),
                Some(Hole::Time) => number(&mut body, now.now_ms),
                Some(Hole::Endpoints) => self.endpoints(&mut body, customer, asker),
            }
        }
        body
    }

    /// Rendezvous hashing (Thaler and Ravishankar, 1998): each origin has a weight for each address, and the heaviest stands
    /// first. Without one address, only origins that had it first begin with another, and they spread over all the others.
    fn endpoints(&self, body: &mut Vec<u8>, customer: &str, asker: Asker<'_>) {
        let asker = asker.hash();
        let weighed = |place: usize| (std::cmp::Reverse(mix(asker ^ self.places[place].hash)), place);
        let mut order: Vec<_> = (0..self.places.len()).map(weighed).collect();
        order.sort_unstable();
        body.extend_from_slice(b"\"endpoints\":");
        for (priority, (_, place)) in order.into_iter().enumerate() {
            body.push(if priority == 0 { b'[' } else { b',' });
            for (text, hole) in &self.places[place].pieces {
                body.extend_from_slice(text.as_bytes());
                match hole {
                    Some(Hole::Customer) => body.extend_from_slice(customer.as_bytes()),
                    Some(Hole::Priority) => {
                        body.extend_from_slice(b"\"priority\":");
                        number(body, priority);
                    }
                    _ => {}
                }
            }
        }
        body.push(b']');
    }
}

fn text(message: &impl serde::Serialize) -> String {
    String::from_utf8(encode(message)).expect("JSON is UTF-8")
}

fn number(body: &mut Vec<u8>, number: impl serde::Serialize) {
    serde_json::to_writer(body, &number).expect("a Vec takes every byte");
}

/// Cuts an answer at what stands for its holes.
fn cut(mut text: &str, marks: &[(&str, Hole)]) -> Pieces {
    let mut pieces = Vec::new();
    loop {
        let first = marks
            .iter()
            .filter_map(|(mark, hole)| Some((text.find(mark)?, mark.len(), *hole)))
            .min_by_key(|(at, _, _)| *at);
        let Some((at, len, hole)) = first else {
            pieces.push((text.to_owned(), None));
            return pieces;
        };
        pieces.push((text[..at].to_owned(), Some(hole)));
        text = &text[at + len..];
    }
}
