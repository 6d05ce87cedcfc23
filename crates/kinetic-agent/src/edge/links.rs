//! The brokers that an edge publishes to, and the line of customers before each.

use std::collections::VecDeque;

use super::Effect;

/// A broker and a vhost of it, named by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

#[derive(Debug)]
struct Link {
    id: LinkId,
    uris: Vec<String>,
    vhost: String,
    /// Some customer of the schema is served there.
    is_used: bool,
    /// It has been asked for.
    is_open: bool,
    in_flight: usize,
    /// Customers with something to publish, each once.
    line: VecDeque<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Links {
    all: Vec<Link>,
    ids: u64,
    /// Where the next look begins, so that no broker is always first.
    turn: usize,
}

impl Links {
    /// Nobody is served anywhere, until it is said anew.
    pub(super) fn forget(&mut self) {
        for link in &mut self.all {
            link.is_used = false;
            link.line.clear();
        }
    }

    /// The link to a vhost of a broker; a new one is opened when there is something to publish.
    pub(super) fn to(&mut self, uris: &[String], vhost: &str) -> LinkId {
        if let Some(link) = self.all.iter_mut().find(|link| link.uris == uris && link.vhost == vhost) {
            link.is_used = true;
            return link.id;
        }
        self.ids += 1;
        let id = LinkId(self.ids);
        self.all.push(Link {
            id,
            uris: uris.to_vec(),
            vhost: vhost.to_owned(),
            is_used: true,
            is_open: false,
            in_flight: 0,
            line: VecDeque::new(),
        });
        id
    }

    pub(super) fn close_unused(&mut self, effects: &mut Vec<Effect>) {
        let unused = self.all.extract_if(.., |link| !link.is_used);
        effects.extend(unused.filter(|link| link.is_open).map(|link| Effect::Close { link: link.id }));
    }

    fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        self.all.iter_mut().find(|link| link.id == id)
    }

    pub(super) fn enqueue(&mut self, id: LinkId, tenant: usize) {
        if let Some(link) = self.find(id) {
            link.line.push_back(tenant);
        }
    }

    /// The first of a line whose link has room in flight; it leaves the line.
    pub(super) fn next(&mut self, in_flight_max: usize) -> Option<(LinkId, usize)> {
        let count = self.all.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let link = &mut self.all[at];
            if link.in_flight < in_flight_max.max(1)
                && let Some(tenant) = link.line.pop_front()
            {
                self.turn = at + 1;
                return Some((link.id, tenant));
            }
        }
        None
    }

    /// Asks for the connection, the first time.
    pub(super) fn open(&mut self, id: LinkId, effects: &mut Vec<Effect>) {
        if let Some(link) = self.find(id).filter(|link| !link.is_open) {
            link.is_open = true;
            effects.push(Effect::Open { link: id, uris: link.uris.clone(), vhost: link.vhost.clone() });
        }
    }

    pub(super) fn left(&mut self, id: LinkId) {
        if let Some(link) = self.find(id) {
            link.in_flight += 1;
        }
    }

    pub(super) fn landed(&mut self, id: LinkId) {
        if let Some(link) = self.find(id) {
            link.in_flight -= 1;
        }
    }
}
