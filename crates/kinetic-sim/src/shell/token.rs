//! The leader's token, as `kinetic/src/shell/redirector/token.rs` handles it: the file first, then a message in `kin.leader`,
//! and what is stored is believed only when our own token has been delivered back to us.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kinetic_redirector::machine::Stored;
use kinetic_wire::{Envelope, LeaderToken, decode, encode, names};

use crate::agenda::LinkId;
use crate::message::{Down, MS, Message, Up};
use crate::shell::outbox::Outbox;
use crate::shell::{Job, Reach, Tell};

/// Tokens held at once.
const PREFETCH: usize = 64;
/// Pause before a token is published again.
const RETRY: u64 = 500 * MS;

/// What the machine is to be told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A token that is not of our own making came.
    Elected(Stored),
    /// Tokens are not delivered to us any more.
    Deposed,
    /// It is on disk, and its token has come back.
    Stored(Stored),
}

#[derive(Debug)]
struct Own {
    stored: Stored,
    confirmed: bool,
    delivered: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tokens {
    consumer: LinkId,
    held: BTreeMap<u64, Stored>,
    own: BTreeMap<u64, Own>,
    past: BTreeSet<u64>,
    elected: bool,
    writing: VecDeque<(u64, Stored)>,
    publishing: Outbox<u64>,
    numbers: u64,
}

impl Tokens {
    pub(crate) fn new(reach: &mut Reach<'_>) -> Self {
        Self {
            consumer: reach.link(),
            held: BTreeMap::new(),
            own: BTreeMap::new(),
            past: BTreeSet::new(),
            elected: false,
            writing: VecDeque::new(),
            publishing: Outbox::new(RETRY, reach),
            numbers: 0,
        }
    }

    /// A token's name: no two lives have one in common.
    fn name(&mut self, reach: &Reach<'_>) -> u64 {
        self.numbers += 1;
        reach.life.0 << 32 | self.numbers
    }

    pub(crate) fn tell(&mut self, tell: &Tell, reach: &mut Reach<'_>) -> Option<Told> {
        if let Some(id) = self.publishing.tell(tell, reach) {
            return self.confirmed(id, reach);
        }
        match tell {
            Tell::Opened(link) if *link == self.consumer => {
                let queue = names::LEADER_QUEUE.into();
                reach.net.send(*link, Up::Consume { queue, prefetch: PREFETCH });
            }
            Tell::Lost(link) if *link == self.consumer => {
                self.forget();
                return Some(Told::Deposed);
            }
            Tell::Frame(link, Down::Consuming) if *link == self.consumer => {
                // There must always be a token: whoever is elected by ours knows at least what our disk says.
                let (id, stored) = (self.name(reach), reach.disk.stored.clone());
                self.publish(id, &stored, reach);
            }
            Tell::Frame(link, Down::Deliver { tag, message, .. }) if *link == self.consumer => {
                return self.delivered(*tag, message, reach);
            }
            Tell::Job(Job::Written) => self.written(reach),
            _ => {}
        }
        None
    }

    /// Gives back what is held, and queues up anew.
    pub(crate) fn resign(&mut self, reach: &mut Reach<'_>) {
        self.forget();
        reach.net.abandon(self.consumer);
        self.consumer = reach.link();
    }

    fn forget(&mut self) {
        self.held.clear();
        self.elected = false;
        self.past.extend(std::mem::take(&mut self.own).into_keys());
        self.publishing.take_back(|_| true);
    }

    /// The file first, then the token.
    pub(crate) fn store(&mut self, stored: Stored, reach: &mut Reach<'_>) {
        let id = self.name(reach);
        self.own.insert(id, Own { stored: stored.clone(), confirmed: false, delivered: None });
        self.writing.push_back((id, stored));
        if self.writing.len() == 1 {
            self.write_next(reach);
        }
    }

    fn write_next(&mut self, reach: &mut Reach<'_>) {
        if !self.writing.is_empty() {
            let takes = reach.rng.between(MS, 20 * MS);
            reach.later(takes, Job::Written);
        }
    }

    fn written(&mut self, reach: &mut Reach<'_>) {
        let Some((id, stored)) = self.writing.pop_front() else { return };
        reach.disk.stored = stored.clone();
        self.write_next(reach);
        if self.own.contains_key(&id) {
            self.publish(id, &stored, reach);
        }
    }

    fn publish(&mut self, id: u64, stored: &Stored, reach: &mut Reach<'_>) {
        let token = LeaderToken { v: 1, term: stored.term, epoch_max: stored.epoch_max, node: "rd".into() };
        let mut message = Message::new("", names::LEADER_QUEUE, encode(&token));
        message.envelope = Envelope { persistent: true, ..Envelope::default() };
        message.correlation = id;
        self.publishing.post(id, message, reach);
    }

    fn confirmed(&mut self, id: u64, reach: &mut Reach<'_>) -> Option<Told> {
        let own = self.own.get_mut(&id)?;
        own.confirmed = true;
        let news = own.delivered.map(|_| Told::Stored(own.stored.clone()));
        self.tidy(reach);
        news
    }

    fn delivered(&mut self, tag: u64, message: &Message, reach: &mut Reach<'_>) -> Option<Told> {
        let Ok(token) = decode::<LeaderToken>(&message.body) else { return None };
        let stored = Stored { term: token.term, epoch_max: token.epoch_max };
        self.held.insert(tag, stored.clone());
        let id = message.correlation;
        if let Some(own) = self.own.get_mut(&id) {
            let again = own.delivered.replace(tag).is_some();
            let news = (own.confirmed && !again).then(|| Told::Stored(own.stored.clone()));
            self.tidy(reach);
            return news;
        }
        self.tidy(reach);
        let known = self.elected && self.past.contains(&id);
        self.elected = true;
        (!known).then_some(Told::Elected(stored))
    }

    /// Acknowledges what a newer token of ours says as well.
    fn tidy(&mut self, reach: &mut Reach<'_>) {
        let own = self.own.values().filter(|own| own.confirmed).filter_map(|own| own.delivered);
        let Some(newest) = own.max() else { return };
        let Some(says) = self.held.get(&newest).cloned() else { return };
        let covered = |stored: &Stored| stored.term <= says.term && stored.epoch_max <= says.epoch_max;
        let older = self.held.iter().filter(|(tag, stored)| **tag != newest && covered(stored));
        for tag in older.map(|(tag, _)| *tag).collect::<Vec<_>>() {
            self.held.remove(&tag);
            reach.net.send(self.consumer, Up::Ack { tag, multiple: false });
        }
        let done = |own: &Own| own.confirmed && own.delivered.is_some_and(|tag| tag < newest);
        let done: Vec<u64> = self.own.iter().filter(|(_, own)| done(own)).map(|(id, _)| *id).collect();
        for id in done {
            self.own.remove(&id);
            self.past.insert(id);
        }
    }
}
