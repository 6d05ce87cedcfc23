//! Where requests come in: one door for each vhost's `locate`, and one for the leader.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinetic_amqp::{Address, Request, RequestHandle, RpcServer, Served};
use kinetic_redirector::machine::{Caller, Input, ReplyToken};
use kinetic_schema::schema::QueueType;
use kinetic_wire::{Nudge, encode, names};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::topology;

/// Requests of one kind that wait for the machine, over all doors: the leader's, and `locate`.
const REQUESTS_MAX: usize = 256;
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
    hearing: watch::Sender<Hearing>,
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
    /// Whether requests can come through the leader's door.
    pub(super) hearing: watch::Receiver<Hearing>,
}

/// Whether requests can come through the leader's door.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hearing {
    /// Of which leadership.
    leadership: u64,
    /// The subscription stands.
    hears: bool,
}

impl Doors {
    pub(super) fn new(control: Address, queues: QueueType) -> (Self, Inbox) {
        let (asked_locate, locate) = mpsc::channel(REQUESTS_MAX);
        let (asked_leader, leader) = mpsc::channel(REQUESTS_MAX);
        let (hearing, heard) = watch::channel(Hearing::default());
        let doors = Self {
            control,
            queues,
            places: BTreeMap::new(),
            locate: Vec::new(),
            leader: None,
            leaderships: 0,
            asked_locate,
            asked_leader,
            hearing,
            serving: JoinSet::new(),
            waiting: BTreeMap::new(),
            next_token: 0,
        };
        (doors, Inbox { locate, leader, hearing: heard })
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
        self.serving.spawn(serve(Door::Locate(door), rpc, self.asked_locate.clone(), heard, None));
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
            let rpc = RpcServer::start(self.control.clone(), declared, names::RPC_QUEUE);
            let (door, hearing) = (Door::Leader(self.leaderships), self.hearing.clone());
            self.serving.spawn(serve(door, rpc, self.asked_leader.clone(), heard, Some(hearing)));
        }
    }

    /// Whether requests can come through the leader's door, as the machine is told it.
    pub(super) fn hearing(&self, inbox: &mut Inbox) -> Option<Input<'static>> {
        let Hearing { leadership, hears } = *inbox.hearing.borrow_and_update();
        self.leads(leadership).then_some(if hears { Input::Serving } else { Input::Deaf })
    }

    /// Whether this is the leadership that stands.
    fn leads(&self, leadership: u64) -> bool {
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
async fn serve(
    door: Door,
    mut rpc: RpcServer,
    asked: mpsc::Sender<Asked>,
    mut words: mpsc::Receiver<Word>,
    hearing: Option<watch::Sender<Hearing>>,
) {
    let says = |hears| {
        if let (Some(hearing), Door::Leader(leadership)) = (&hearing, door) {
            // A later leadership's door is the one that counts.
            hearing.send_if_modified(|known| {
                let is_news = leadership >= known.leadership;
                *known = if is_news { Hearing { leadership, hears } } else { *known };
                is_news
            });
        }
    };
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
            served = rpc.event(), if ready.is_none() => match served {
                Served::Request(request) => ready = Some(request),
                Served::Subscribed => says(true),
                // The consumer has logged it.
                Served::Lost { .. } => says(false),
            },
        }
    }
    rpc.close().await;
}
