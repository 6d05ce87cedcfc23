//! What `locate` is answered from: the map, turned so that an answer costs one hash look-up and no owned text but the
//! body itself. And which version such answers have, which the leader alone decides.

use std::ops::Deref;
use std::sync::Arc;

use kinetic_wire::{Epoch, LocateReply};

use crate::digest::Digest;
use crate::map::{Kind, Map};
use crate::refusal::Refusal;
use crate::template::Template;
pub(crate) use crate::template::{Asker, Now, Terms};
pub(crate) use crate::wanted::Wanted;
use crate::wanted::{Lack, type_name};

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
        let regions: Vec<Template> =
            map.regions().iter().map(|region| Template::new(region, terms)).collect();
        let kinds: Vec<u64> = map.kinds().map(digest_of).collect();
        let (mut digest, mut own) = (Digest::new(), Vec::new());
        for (index, customer) in (0..).zip(map.customers()) {
            digest.add(customer.name);
            if customer.disabled {
                digest.add_number(DISABLED);
                continue;
            }
            digest.add_number(regions[usize::from(customer.region)].digest);
            // What its sources are to clients, in whatever order and number.
            own.clear();
            own.extend(map.kinds_of(index).map(|kind| kinds[kind as usize]));
            own.sort_unstable();
            own.dedup();
            own.iter().for_each(|kind| digest.add_number(*kind));
        }
        Self { digest: digest.text(), regions, map }
    }

    /// What the customer's answer says, in short; two that differ here differ for the client.
    pub(crate) fn says<P: Deref<Target = str>>(&self, customer: &str, wanted: &Wanted<P>) -> u64 {
        let Some(index) = self.map.customer_index(customer) else { return UNKNOWN };
        let known = self.map.customer_at(index);
        match wanted.judge(&self.map, index) {
            _ if known.disabled => DISABLED,
            Err(Lack::Profile) => UNKNOWN_PROFILE,
            Err(Lack::Source(_)) => NO_SOURCE,
            Ok(()) => self.regions[usize::from(known.region)].digest,
        }
    }

    /// The answer to a customer's `locate`.
    pub(crate) fn locate<P: Deref<Target = str>>(
        &self,
        customer: &str,
        wanted: &Wanted<P>,
        asker: Asker<'_>,
        version: Epoch,
        now: Now,
    ) -> Result<Vec<u8>, Refusal> {
        let known = self.map.customer_index(customer).filter(|_| is_plain(customer));
        let index = known.ok_or(Refusal::UNKNOWN_CUSTOMER)?;
        let known = self.map.customer_at(index);
        if known.disabled {
            return Err(Refusal::DISABLED);
        }
        wanted.judge(&self.map, index).map_err(|lack| wanted.refuse(&self.map, index, lack))?;
        let body = self.regions[usize::from(known.region)].fill(known.name, asker, version, now);
        debug_assert!(kinetic_wire::decode::<LocateReply>(&body).is_ok(), "names are plain");
        Ok(body)
    }
}

/// In place of a digest: the schema has no such customer, or has it switched off, or has no source of that profile or
/// data type.
const UNKNOWN: u64 = 0;
const DISABLED: u64 = 1;
const UNKNOWN_PROFILE: u64 = 2;
const NO_SOURCE: u64 = 3;

fn digest_of(kind: Kind<'_>) -> u64 {
    let mut digest = Digest::new();
    digest.add(type_name(kind.data_type));
    kind.profile.iter().for_each(|profile| digest.add(profile));
    digest.short()
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
