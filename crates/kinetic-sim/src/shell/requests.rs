//! Requests over one link: each is answered, or fails by its time, by a refusal, or with the connection that it went over.

use std::collections::BTreeMap;
use std::rc::Rc;

use kinetic_wire::{Envelope, Mono, names};

use crate::agenda::LinkId;
use crate::message::{Down, Message, Time, Up};
use crate::shell::{Job, Reach, Tell};

#[derive(Debug)]
struct Asked {
    kind: &'static str,
    body: Vec<u8>,
    at: Mono,
    expires: Time,
    /// The confirm that came with it, once it was sent.
    sent: Option<u64>,
}

/// What has come of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The owner's name for it.
    pub(crate) number: u64,
    /// When it was asked.
    pub(crate) at: Mono,
    /// The answer; `None` where there was none.
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Requests {
    link: LinkId,
    login: String,
    asked: BTreeMap<u64, Asked>,
    confirms: u64,
}

impl Requests {
    pub(crate) fn new(login: &str, reach: &mut Reach<'_>) -> Self {
        Self { link: reach.link(), login: login.to_owned(), asked: BTreeMap::new(), confirms: 0 }
    }

    pub(crate) fn ask(
        &mut self,
        number: u64,
        kind: &'static str,
        body: Vec<u8>,
        timeout: Time,
        reach: &mut Reach<'_>,
    ) {
        let expires = reach.net.now.saturating_add(timeout);
        self.asked.insert(number, Asked { kind, body, at: reach.now.mono, expires, sent: None });
        self.send(reach);
        reach.later(timeout, Job::RequestTimeout(self.link, number));
    }

    fn send(&mut self, reach: &mut Reach<'_>) {
        let Some(conn) = reach.net.conn(self.link) else { return };
        for (number, asked) in self.asked.iter_mut().filter(|(_, asked)| asked.sent.is_none()) {
            self.confirms += 1;
            asked.sent = Some(self.confirms);
            let mut message = Message::new(names::RPC_EXCHANGE, asked.kind, asked.body.clone());
            message.envelope = Envelope { user_id: Some(self.login.clone().into()), ..Envelope::default() };
            message.reply_to = Some(conn);
            message.correlation = *number;
            message.expires = Some(asked.expires);
            let frame = Up::Publish { confirm: asked.sent, mandatory: true, message: Rc::new(message) };
            reach.net.send(self.link, frame);
        }
    }

    /// Hears what concerns it. Returns what has come of requests.
    pub(crate) fn tell(&mut self, tell: &Tell, reach: &mut Reach<'_>) -> Vec<Outcome> {
        let done = match tell {
            Tell::Opened(link) if *link == self.link => {
                self.send(reach);
                return Vec::new();
            }
            Tell::Frame(link, Down::Reply { correlation, body }) if *link == self.link => {
                return self.done(*correlation, Some(body.clone())).into_iter().collect();
            }
            Tell::Job(Job::RequestTimeout(link, number)) if *link == self.link => vec![*number],
            Tell::Lost(link) if *link == self.link => self.numbers(|asked| asked.sent.is_some()),
            Tell::Frame(link, Down::Nack(number) | Down::Returned(number)) if *link == self.link => {
                self.numbers(|asked| asked.sent == Some(*number))
            }
            _ => return Vec::new(),
        };
        done.into_iter().filter_map(|number| self.done(number, None)).collect()
    }

    fn numbers(&self, of: impl Fn(&Asked) -> bool) -> Vec<u64> {
        self.asked.iter().filter(|(_, asked)| of(asked)).map(|(number, _)| *number).collect()
    }

    fn done(&mut self, number: u64, body: Option<Vec<u8>>) -> Option<Outcome> {
        self.asked.remove(&number).map(|asked| Outcome { number, at: asked.at, body })
    }
}
