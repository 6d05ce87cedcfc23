//! Publishing until the broker has confirmed, over one link: what is lost with a connection, refused or returned is sent again.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::agenda::LinkId;
use crate::message::{Down, Message, Time, Up};
use crate::shell::{Job, Reach, Tell};

#[derive(Debug)]
struct Posted {
    message: Rc<Message>,
    /// The confirm that is awaited on the present connection.
    awaits: Option<u64>,
}

/// What is to be confirmed, by the owner's names for it.
#[derive(Debug)]
pub(crate) struct Outbox<K> {
    link: LinkId,
    /// Pause before what was refused is sent again.
    retry: Time,
    /// What reaches no queue is refused.
    mandatory: bool,
    posted: BTreeMap<K, Posted>,
    numbers: u64,
}

impl<K: Ord + Copy> Outbox<K> {
    pub(crate) fn new(retry: Time, reach: &mut Reach<'_>) -> Self {
        Self { link: reach.link(), retry, mandatory: true, posted: BTreeMap::new(), numbers: 0 }
    }

    /// One for what needs nobody to listen.
    pub(crate) fn to_whoever_listens(retry: Time, reach: &mut Reach<'_>) -> Self {
        Self { mandatory: false, ..Self::new(retry, reach) }
    }

    /// Publishes; what was posted under this name before is not sent again.
    pub(crate) fn post(&mut self, key: K, message: Message, reach: &mut Reach<'_>) {
        self.posted.insert(key, Posted { message: Rc::new(message), awaits: None });
        self.send(reach);
    }

    /// Publishes once; what becomes of it is nobody's concern.
    pub(crate) fn post_once(&mut self, message: Message, reach: &mut Reach<'_>) {
        self.numbers += 1;
        let (confirm, message) = (Some(self.numbers), Rc::new(message));
        reach.net.send(self.link, Up::Publish { confirm, mandatory: true, message });
    }

    /// Sends nothing more of these.
    pub(crate) fn take_back(&mut self, is_meant: impl Fn(&K) -> bool) {
        self.posted.retain(|key, _| !is_meant(key));
    }

    fn send(&mut self, reach: &mut Reach<'_>) {
        if reach.net.conn(self.link).is_none() {
            return;
        }
        for posted in self.posted.values_mut().filter(|posted| posted.awaits.is_none()) {
            self.numbers += 1;
            posted.awaits = Some(self.numbers);
            let (mandatory, message) = (self.mandatory, Rc::clone(&posted.message));
            reach.net.send(self.link, Up::Publish { confirm: posted.awaits, mandatory, message });
        }
    }

    /// Hears what concerns it. Returns what has been confirmed.
    pub(crate) fn tell(&mut self, tell: &Tell, reach: &mut Reach<'_>) -> Option<K> {
        match tell {
            Tell::Opened(link) if *link == self.link => self.send(reach),
            Tell::Job(Job::Resend(link)) if *link == self.link => self.send(reach),
            Tell::Lost(link) if *link == self.link => {
                self.posted.values_mut().for_each(|posted| posted.awaits = None);
            }
            Tell::Frame(link, Down::Confirm(number)) if *link == self.link => {
                let key = self.awaiting(*number)?;
                self.posted.remove(&key);
                return Some(key);
            }
            Tell::Frame(link, Down::Nack(number) | Down::Returned(number)) if *link == self.link => {
                let key = self.awaiting(*number)?;
                self.posted.get_mut(&key)?.awaits = None;
                reach.later(self.retry, Job::Resend(self.link));
            }
            _ => {}
        }
        None
    }

    fn awaiting(&self, number: u64) -> Option<K> {
        self.posted.iter().find(|(_, posted)| posted.awaits == Some(number)).map(|(key, _)| *key)
    }
}
