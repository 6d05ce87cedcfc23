//! Where requests come in: one door for each vhost's `locate`, and one for the leader.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinetic_amqp::{Address, Request, RequestHandle, RpcServer};
use kinetic_redirector::machine::{Caller, ReplyToken};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Nudge, encode, names};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::topology;

/// Requests of one kind that wait for the machine, over all doors: the leader's, and `locate`.
const REQUESTS_MAX: usize = 256;
/// Leader's doors whose opening nobody has heard of.
const OPENED_MAX: usize = 8;
/// Answers and nudges that wait for one door.
const WORDS_MAX: usize = 1024;

/// One request with the door it came through.
#[derive(Debug)]
pub(super) struct Asked {
    door: Door,
    /// For a later nudge.
    pub(super) caller: Option<Caller>,
    pub(super) request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// `locate` of one vhost.
    Locate(u32),
    /// The leader's, of one of our leaderships.
    Leader(u64),
}

/// What goes out through a door.
#[derive(Debug)]
enum Word {
    Answer(RequestHandle, Vec<u8>),
    Nudge(Arc<str>),
}

/// All doors. The first is the control vhost's, through which the leader's callers are nudged as well.
pub(super) struct Doors {
    control: Address,
    queues: QueueType,
    places: BTreeMap<String, u32>,
    locate: Vec<mpsc::Sender<Word>>,
    leader: Option<mpsc::Sender<Word>>,
    leaderships: u64,
    asked_locate: mpsc::Sender<Asked>,
    asked_leader: mpsc::Sender<Asked>,
    opened: mpsc::Sender<u64>,
    serving: JoinSet<()>,
    waiting: BTreeMap<ReplyToken, (Door, RequestHandle)>,
    next_token: u64,
}

/// What comes in through the doors.
pub(super) struct Inbox {
    /// `locate`.
    pub(super) locate: mpsc::Receiver<Asked>,
    /// What only the leader answers.
    pub(super) leader: mpsc::Receiver<Asked>,
    /// The leader's door is open; of which leadership.
    pub(super) opened: mpsc::Receiver<u64>,
}

impl Doors {
    pub(super) fn new(control: Address, queues: QueueType) -> (Self, Inbox) {
        let (asked_locate, locate) = mpsc::channel(REQUESTS_MAX);
        let (asked_leader, leader) = mpsc::channel(REQUESTS_MAX);
        let (opening, opened) = mpsc::channel(OPENED_MAX);
        let doors = Self {
            control,
            queues,
            places: BTreeMap::new(),
            locate: Vec::new(),
            leader: None,
            leaderships: 0,
            asked_locate,
            asked_leader,
            opened: opening,
            serving: JoinSet::new(),
            waiting: BTreeMap::new(),
            next_token: 0,
        };
        (doors, Inbox { locate, leader, opened })
    }

    /// Opens a vhost's door, once.
    pub(super) fn open(&mut self, address: &Address, queues: QueueType) {
        let place = format!("{:?} {}", address.uris, address.vhost);
        let door = self.locate.len() as u32;
        if self.places.contains_key(&place) {
            return;
        }
        self.places.insert(place, door);
        let (words, heard) = mpsc::channel(WORDS_MAX);
        self.locate.push(words);
        let declared = topology::kept(topology::locate(), queues);
        let rpc = RpcServer::start(address.clone(), declared, names::LOCATE_QUEUE);
        self.serving.spawn(serve(Door::Locate(door), rpc, self.asked_locate.clone(), heard));
    }

    /// Opens or closes the leader's door. What was not answered when it closes goes back to the queue.
    pub(super) fn lead(&mut self, lead: bool) {
        self.waiting.retain(|_, (door, _)| matches!(door, Door::Locate(_)));
        self.leader = None;
        if lead {
            self.leaderships += 1;
            let (words, heard) = mpsc::channel(WORDS_MAX);
            self.leader = Some(words);
            let declared = topology::kept(topology::rpc(), self.queues);
            let mut rpc = RpcServer::start(self.control.clone(), declared, names::RPC_QUEUE);
            let (leadership, asked, opened) =
                (self.leaderships, self.asked_leader.clone(), self.opened.clone());
            self.serving.spawn(async move {
                let mut words = heard;
                tokio::select! {
                    () = rpc.opened() => {}
                    // Nothing is said before anything is asked: the door is closed.
                    None = words.recv() => return rpc.close().await,
                }
                if opened.send(leadership).await.is_ok() {
                    serve(Door::Leader(leadership), rpc, asked, words).await;
                }
            });
        }
    }

    /// Whether this is the leadership that stands.
    pub(super) fn leads(&self, leadership: u64) -> bool {
        self.leader.is_some() && leadership == self.leaderships
    }

    /// Keeps the handle of a request for its answer; `None` where it came through a door that has been closed since.
    pub(super) fn take(&mut self, asked: &Asked) -> Option<ReplyToken> {
        if let Door::Leader(leadership) = asked.door
            && !self.leads(leadership)
        {
            return None;
        }
        let token = self.mint();
        self.waiting.insert(token, (asked.door, asked.request.handle.clone()));
        Some(token)
    }

    /// A token for a request that came through no door.
    pub(super) fn mint(&mut self) -> ReplyToken {
        self.next_token += 1;
        ReplyToken(self.next_token)
    }

    /// Answers a request.
    pub(super) async fn answer(&mut self, token: ReplyToken, body: Vec<u8>) {
        let Some((door, handle)) = self.waiting.remove(&token) else { return };
        let words = match door {
            Door::Locate(door) => self.locate.get(door as usize),
            Door::Leader(_) => self.leader.as_ref(),
        };
        if let Some(words) = words
            && words.send(Word::Answer(handle, body)).await.is_err()
        {
            tracing::warn!("an answer could not be sent: its vhost's task has ended");
        }
    }

    /// Nudges somebody, unless too much waits to be said: a nudge may be lost.
    pub(super) fn nudge(&self, caller: Caller) {
        if let Some(words) = self.locate.get(caller.door as usize) {
            words.try_send(Word::Nudge(caller.reply_to)).ok();
        }
    }
}

impl Asked {
    fn new(door: Door, request: Request) -> Self {
        let at = match door {
            Door::Locate(door) => door,
            Door::Leader(_) => 0,
        };
        let reply_to = request.reply_to.as_deref();
        let caller = reply_to.map(|reply_to| Caller { door: at, reply_to: reply_to.into() });
        Self { door, caller, request }
    }
}

/// Requests of one door to the loop, answers and nudges back, until the door is closed.
async fn serve(door: Door, mut rpc: RpcServer, asked: mpsc::Sender<Asked>, mut words: mpsc::Receiver<Word>) {
    let mut ready: Option<Request> = None;
    let nudge = encode(&Nudge { v: 1 });
    loop {
        tokio::select! {
            word = words.recv() => match word {
                Some(Word::Answer(handle, body)) => rpc.reply(handle, body).await,
                Some(Word::Nudge(to)) => rpc.push(&to, names::TYPE_NUDGE, &nudge).await,
                None => break,
            },
            permit = asked.reserve(), if ready.is_some() => match (permit, ready.take()) {
                (Ok(permit), Some(request)) => permit.send(Asked::new(door, request)),
                _ => break,
            },
            request = rpc.next(), if ready.is_none() => ready = Some(request),
        }
    }
    rpc.close().await;
}
